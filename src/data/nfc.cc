// SPDX-License-Identifier: Apache-2.0
#include "data/nfc.h"

#include <unicode/unorm2.h>
#include <unicode/uset.h>
#include <unicode/utypes.h>

#include <vector>

#include "base/check.h"
#include "data/unicode.h"

namespace naite::data {

namespace {

void append_utf16(uint32_t code, std::vector<UChar>& out) {
  if (code < 0x10000) {
    out.push_back(static_cast<UChar>(code));
    return;
  }
  out.push_back(static_cast<UChar>(0xd7c0 + (code >> 10)));
  out.push_back(static_cast<UChar>(0xdc00 + (code & 0x3ff)));
}

// The tables of the tokenizers library end with Unicode 9.0: characters added later stand apart,
// with no order and no composition. Ids must be equal, so they stand apart here too.
const UNormalizer2* normalizer() {
  static const UNormalizer2* const instance = [] {
    UErrorCode code = U_ZERO_ERROR;
    USet* const known = uset_openPattern(u"[:age=9.0:]", -1, &code);
    const UNormalizer2* const nfc = unorm2_getNFCInstance(&code);
    const UNormalizer2* const filtered = unorm2_openFiltered(nfc, known, &code);
    NAITE_CHECK(U_SUCCESS(code), "ICU has no NFC data: {}", u_errorName(code));
    return filtered;  // refers to `known`; both live as long as the program
  }();
  return instance;
}

void append_utf8_of(const std::vector<UChar>& units, int32_t count, std::string& out) {
  for (int32_t i = 0; i < count; ++i) {
    uint32_t unit = units[static_cast<size_t>(i)];
    if (unit >= 0xd800 && unit < 0xdc00)
      unit = ((unit - 0xd7c0) << 10) + (units[static_cast<size_t>(++i)] & 0x3ff);
    append_utf8(unit, out);
  }
}

void append_normalized(const std::vector<UChar>& units, std::string& out) {
  UErrorCode code = U_ZERO_ERROR;
  // One unit can become three at most (UAX #15, table of worst cases for NFC in UTF-16).
  std::vector<UChar> composed(units.size() * 3);
  const int32_t count =
      unorm2_normalize(normalizer(), units.data(), static_cast<int32_t>(units.size()),
                       composed.data(), static_cast<int32_t>(composed.size()), &code);
  NAITE_CHECK(U_SUCCESS(code), "ICU cannot normalise: {}", u_errorName(code));
  append_utf8_of(composed, count, out);
}

}  // namespace

std::string to_nfc(std::string_view text) {
  constexpr size_t kUnitsMax =
      1 << 28;  // ICU counts in int32; pieces between are cut at a character
  std::string out;
  out.reserve(text.size());
  std::vector<UChar> units;
  const auto flush = [&] {
    if (!units.empty()) append_normalized(units, out);
    units.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const Char c = decode_char(text, at);
    if (c.code == kInvalid) {
      flush();
      out.push_back(text[at]);
    } else {
      append_utf16(c.code, units);
      if (units.size() >= kUnitsMax) flush();
    }
    at += c.size;
  }
  flush();
  return out;
}

std::string to_nfd(std::string_view name) {
  if (find_invalid_utf8(name) < name.size()) return std::string(name);
  UErrorCode code = U_ZERO_ERROR;
  const UNormalizer2* const decomposer = unorm2_getNFDInstance(&code);
  std::vector<UChar> units;
  for (size_t at = 0; at < name.size();) {
    const Char c = decode_char(name, at);
    append_utf16(c.code, units);
    at += c.size;
  }
  std::vector<UChar> apart(units.size() * 4 + 1);  // UAX #15: at most four times as long
  const int32_t count =
      unorm2_normalize(decomposer, units.data(), static_cast<int32_t>(units.size()), apart.data(),
                       static_cast<int32_t>(apart.size()), &code);
  NAITE_CHECK(U_SUCCESS(code), "ICU cannot decompose: {}", u_errorName(code));
  std::string out;
  append_utf8_of(apart, count, out);
  return out;
}

}  // namespace naite::data
