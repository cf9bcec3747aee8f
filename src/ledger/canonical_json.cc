// SPDX-License-Identifier: Apache-2.0
#include "ledger/canonical_json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "ledger/encoding.h"

namespace naite::ledger {

using nlohmann::json;

namespace {

// UTF-8 text as UTF-16 code units, the order in which RFC 8785, section 3.2.3, sorts keys.
std::u16string utf16(std::string_view text) {
  std::u16string out;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t bytes = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t point = bytes == 1 ? lead : lead & (0x7fu >> bytes);
    for (size_t j = 1; j < bytes; ++j)
      point = point << 6 | (static_cast<unsigned char>(text[i + j]) & 0x3fu);
    if (point >= 0x10000) {
      out += static_cast<char16_t>(0xd800 + ((point - 0x10000) >> 10));
      point = 0xdc00 + ((point - 0x10000) & 0x3ff);
    }
    out += static_cast<char16_t>(point);
    i += bytes;
  }
  return out;
}

// The text between quotes; what needs no escape is copied in runs.
Status write_string(std::string_view text, std::string& out) {
  if (!is_utf8(text)) return fail("a text is not UTF-8: canonical JSON cannot hold it");
  constexpr std::string_view kSpecial = "\b\t\n\f\r\"\\", kLetters = "btnfr\"\\";
  const auto needs_escape = [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == '"' || c == '\\';
  };
  out += '"';
  for (auto at = text.begin();;) {
    const auto special = std::find_if(at, text.end(), needs_escape);
    out.append(at, special);
    if (special == text.end()) break;
    const size_t known = kSpecial.find(*special);
    out += known != std::string_view::npos
               ? std::string{'\\', kLetters[known]}
               : fmt::format("\\u{:04x}", static_cast<unsigned>(*special));
    at = special + 1;
  }
  out += '"';
  return {};
}

// The keys of an object in the order of their UTF-16 code units; that of bytes, which the object
// has, is the same as long as all are ASCII.
std::vector<const std::string*> ordered_keys(const json& object) {
  std::vector<const std::string*> keys;
  bool ascii = true;
  for (auto it = object.begin(); it != object.end(); ++it) {
    keys.push_back(&it.key());
    for (const char c : it.key()) ascii = ascii && static_cast<unsigned char>(c) < 0x80;
  }
  if (!ascii)
    std::sort(keys.begin(), keys.end(),
              [](const std::string* a, const std::string* b) { return utf16(*a) < utf16(*b); });
  return keys;
}

Status write_number(const json& value, std::string& out) {
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (!std::isfinite(number)) return fail("{} is no JSON number", number);
    out += canonical_number(number);
    return {};
  }
  const std::string text = value.dump();
  if (canonical_number(value.get<double>()) != text)
    return fail("the integer {} is no double: write it as a string for canonical JSON", text);
  out += text;
  return {};
}

Status write(const json& value, std::string& out) {
  if (value.is_object()) {
    for (const auto& [key, item] : value.items())
      if (!is_utf8(key)) return fail("a key is not UTF-8: canonical JSON cannot hold it");
    out += '{';
    bool first = true;
    for (const std::string* key : ordered_keys(value)) {
      if (!first) out += ',';
      first = false;
      NAITE_TRY(write_string(*key, out));
      out += ':';
      NAITE_TRY(write(value[*key], out));
    }
    out += '}';
    return {};
  }
  if (value.is_array()) {
    out += '[';
    for (size_t i = 0; i < value.size(); ++i) {
      if (i > 0) out += ',';
      NAITE_TRY(write(value[i], out));
    }
    out += ']';
    return {};
  }
  if (value.is_string()) return write_string(value.get_ref<const std::string&>(), out);
  if (value.is_number()) return write_number(value, out);
  out += value.is_null() ? "null" : value.get<bool>() ? "true" : "false";
  return {};
}

}  // namespace

// ECMA-262, Number::toString: with the shortest digits that read back as `value` and the decimal
// point after digit n, plain notation for -6 < n <= 21, else an exponent.
std::string canonical_number(double value) {
  if (value == 0) return "0";  // minus zero too
  if (value < 0) return "-" + canonical_number(-value);
  char buffer[32];
  const auto written =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<size_t>(written.ptr - buffer));
  const size_t e = text.find('e');
  std::string digits(text.substr(0, e));
  std::erase(digits, '.');
  const int count = static_cast<int>(digits.size());
  int exponent = 0;
  const size_t sign = text[e + 1] == '+' ? 1 : 0;
  std::from_chars(text.data() + e + 1 + sign, text.data() + text.size(), exponent);
  const int n = exponent + 1;
  if (count <= n && n <= 21) return digits + std::string(static_cast<size_t>(n - count), '0');
  if (0 < n && n <= 21)
    return digits.substr(0, static_cast<size_t>(n)) + "." + digits.substr(static_cast<size_t>(n));
  if (-6 < n && n <= 0) return "0." + std::string(static_cast<size_t>(-n), '0') + digits;
  const std::string mantissa = count == 1 ? digits : digits.substr(0, 1) + "." + digits.substr(1);
  return fmt::format("{}e{}{}", mantissa, n > 0 ? '+' : '-', std::abs(n - 1));
}

Result<std::string> canonical_json(const json& value) {
  std::string out;
  NAITE_TRY(write(value, out));
  return out;
}

Result<json> parse_canonical_json(std::string_view text, std::string_view name) {
  NAITE_ASSIGN(json value, parse_json(text, name));
  NAITE_ASSIGN(const std::string again, canonical_json(value));
  if (again != text)
    return fail("{}: not canonical JSON (RFC 8785): the same value has another spelling", name);
  return value;
}

}  // namespace naite::ledger
