// SPDX-License-Identifier: Apache-2.0
#include "data/encodings.h"

#include <fmt/format.h>
#include <iconv.h>

#include <algorithm>
#include <bitset>
#include <cctype>
#include <cerrno>
#include <optional>

#include "data/input_stream.h"
#include "data/unicode.h"

namespace naite::data {

namespace {

constexpr size_t kSampleBytes = 16384;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// The bytes as UTF-8, if every one of them is right in this encoding.
std::optional<std::string> decoded(std::string_view bytes, const std::string& encoding) {
  const iconv_t converter = ::iconv_open("UTF-8", encoding.c_str());
  if (converter == reinterpret_cast<iconv_t>(-1)) return std::nullopt;
  std::string out;
  std::string buffer(1 << 14, '\0');
  char* in = const_cast<char*>(bytes.data());
  size_t in_left = bytes.size();
  bool valid = true;
  while (valid && in_left > 0) {
    char* to = buffer.data();
    size_t to_left = buffer.size();
    const size_t code = ::iconv(converter, &in, &in_left, &to, &to_left);
    const int reason = errno;
    out.append(buffer.data(), buffer.size() - to_left);
    if (code != static_cast<size_t>(-1) || reason == EINVAL) break;  // EINVAL: cut off at the end
    valid = reason == E2BIG;
  }
  ::iconv_close(converter);
  if (!valid) return std::nullopt;
  return out;
}

// What stands in a decoded text, ASCII aside.
struct Letters {
  int64_t hangul = 0, kana = 0, han = 0, controls = 0, all = 0;
};

Letters letters_of(const std::string& text) {
  Letters letters;
  for (size_t at = 0; at < text.size();) {
    const Char c = decode_char(text, at);
    at += c.size;
    const auto within = [&](uint32_t low, uint32_t high) {
      return c.code >= low && c.code <= high;
    };
    const bool control =
        (c.code < 0x20 && c.code != '\t' && c.code != '\n' && c.code != '\r' && c.code != '\f') ||
        within(0x7f, 0x9f) || within(0xe000, 0xf8ff) || (c.code & 0xfffe) == 0xfffe;
    letters.controls += control;
    if (c.code < 0x80 || class_of(c.code) != CharClass::kLetter) continue;
    ++letters.all;
    letters.hangul += within(0xac00, 0xd7a3);
    letters.kana += within(0x3041, 0x30fe);
    letters.han += within(0x3400, 0x9fff) || within(0xf900, 0xfaff);
  }
  return letters;
}

// Pairs of bytes whose first is not ASCII: those within the rows of syllables of KS X 1001 (B0 to
// C8), of common Chinese characters of GB 2312 (B0 to D7), those with a second byte below A1.
struct Pairs {
  int64_t syllables = 0, characters = 0, low = 0, all = 0;
};

Pairs pairs_of(std::string_view bytes) {
  Pairs pairs;
  for (size_t i = 0; i + 1 < bytes.size(); ++i) {
    const auto first = static_cast<unsigned char>(bytes[i]);
    if (first < 0x80) continue;
    const auto second = static_cast<unsigned char>(bytes[++i]);
    if (first >= 0xa1 && first <= 0xac && first != 0xa4 && second >= 0xa1) continue;  // signs
    ++pairs.all;
    pairs.low += second < 0xa1;
    pairs.syllables += first >= 0xb0 && first <= 0xc8 && second >= 0xa1;
    pairs.characters += first >= 0xb0 && first <= 0xd7 && second >= 0xa1;
  }
  return pairs;
}

std::string guess_east_asian(std::string_view bytes) {
  const Pairs pairs = pairs_of(bytes);
  if (pairs.all > 0 && 10 * pairs.syllables >= 8 * pairs.all && decoded(bytes, "CP949"))
    return "CP949";
  for (const char* encoding : {"CP932", "EUC-JP"}) {
    const std::optional<std::string> text = decoded(bytes, encoding);
    if (!text) continue;
    const Letters letters = letters_of(*text);
    if (letters.kana > 0 && 4 * letters.kana >= letters.all && letters.controls == 0)
      return encoding;
  }
  if (pairs.all == 0) return {};
  // Two letters beside each other: in Latin script one that is not ASCII seldom has a neighbour.
  const char* const encoding = 20 * pairs.low <= pairs.all ? "GB18030" : "BIG5";
  if (const std::optional<std::string> text = decoded(bytes, encoding)) {
    const Letters letters = letters_of(*text);
    const bool common = encoding[0] == 'B' || 10 * pairs.characters >= 8 * pairs.all;
    if (common && letters.all > 1 && 10 * letters.han >= 9 * letters.all) return encoding;
  }
  return {};
}

std::string guess_single_byte(std::string_view bytes) {
  int64_t ascii_letters = 0, high = 0, c0_df = 0, e0_ff = 0;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    ascii_letters += (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
    high += byte >= 0x80;
    c0_df += byte >= 0xc0 && byte <= 0xdf;
    e0_ff += byte >= 0xe0;
  }
  const bool cyrillic = high > 8 && high > 2 * ascii_letters;
  std::string encoding = "CP1252";
  if (cyrillic && 10 * e0_ff >= 6 * high) encoding = "CP1251";
  if (cyrillic && 10 * c0_df >= 6 * high) encoding = "KOI8-R";
  if (encoding == "CP1252" && high > ascii_letters) return {};
  return decoded(bytes, encoding) ? encoding : std::string();
}

// Text and nothing else: no control characters, no code points without meaning.
bool reads_as(std::string_view bytes, const std::string& encoding) {
  const std::optional<std::string> text = decoded(bytes, encoding);
  return text && !text->empty() && letters_of(*text).controls == 0;
}

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

// Whether half of the bytes beyond ASCII are characters of UTF-8. In CP949 every tenth pair is one
// by chance.
bool mostly_utf8(std::string_view bytes) {
  int64_t right = 0, all = 0;
  for (size_t at = 0; at < bytes.size();) {
    const Char c = decode_char(bytes, at);
    if (!is_ascii(bytes[at])) {
      all += c.size;
      right += c.code == kInvalid ? 0 : c.size;
    }
    at += c.size;
  }
  return 2 * right > all;
}

}  // namespace

std::string not_utf8_advice(std::string_view bytes, const std::filesystem::path& path) {
  const auto* first = std::find_if_not(bytes.begin(), bytes.end(), is_ascii);
  bytes = bytes.substr(static_cast<size_t>(first - bytes.begin())).substr(0, kSampleBytes);
  if (mostly_utf8(bytes))
    return "the text around it is: single bytes are damaged, or two encodings are mixed; "
           "`iconv -c -f UTF-8 -t UTF-8 FILE > NEW` drops such bytes";
  const std::string encoding = guess_encoding(bytes);
  if (!encoding.empty())
    return fmt::format("perhaps {}: {}", encoding, iconv_advice(encoding, path));
  return fmt::format("if you know its encoding, {}", iconv_advice("ENCODING", path));
}

std::string guess_encoding(std::string_view bytes) {
  bytes = bytes.substr(0, kSampleBytes);
  if (const std::string wide = guess_wide_encoding(bytes); !wide.empty()) return wide;
  if (bytes.find('\0') != std::string_view::npos) return {};
  if (const std::string east_asian = guess_east_asian(bytes); !east_asian.empty())
    return east_asian;
  return guess_single_byte(bytes);
}

std::string guess_wide_encoding(std::string_view head) {
  head = head.substr(0, kSampleBytes);
  int64_t zeros[4] = {};
  std::bitset<256> found[2];
  for (size_t i = 0; i < head.size(); ++i) {
    zeros[i % 4] += head[i] == '\0';
    found[i % 2].set(static_cast<unsigned char>(head[i]));
  }
  const int64_t all = zeros[0] + zeros[1] + zeros[2] + zeros[3];
  const auto size = static_cast<int64_t>(head.size());
  if (all == 0 || size < 4) return {};
  if (2 * all >= size) {
    if (4 * zeros[0] < zeros[3] && reads_as(head, "UTF-32LE")) return "UTF-32LE";
    if (4 * zeros[3] < zeros[0] && reads_as(head, "UTF-32BE")) return "UTF-32BE";
  }
  // Line ends and spaces have a zero byte in any script. What could be UTF-8 with zero bytes in it
  // must be ASCII throughout. A script has fewer high bytes than low ones, which tells the order.
  const bool could_be_utf8 = find_invalid_utf8(head) + 3 >= head.size();
  if ((could_be_utf8 ? 3 : 80) * all < size) return {};
  const std::string name = found[0].count() < found[1].count() ? "UTF-16BE" : "UTF-16LE";
  return reads_as(head, name) ? name : std::string();
}

std::string declared_encoding(std::string_view page, std::string_view bytes) {
  const std::string head = lower(page.substr(0, kSampleBytes));
  for (size_t at = head.find("charset"); at != std::string::npos; at = head.find("charset", at)) {
    at += 7;
    const size_t begin = head.find_first_not_of(" \t\r\n=\"'", at);
    if (begin == std::string::npos || head.find('=', at) >= begin) continue;
    const size_t end = head.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_.:", begin);
    std::string name = head.substr(begin, std::min(end, head.size()) - begin);
    // What browsers take these names for (WHATWG Encoding Standard, 4.2).
    if (name == "euc-kr" || name == "ks_c_5601-1987" || name == "ksc5601" || name == "korean" ||
        name == "windows-949")
      name = "CP949";
    if (name == "iso-8859-1" || name == "latin1" || name == "us-ascii") name = "CP1252";
    if (name == "gb2312" || name == "gbk" || name == "x-gbk") name = "GB18030";
    if (name == "shift_jis" || name == "x-sjis" || name == "sjis") name = "CP932";
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    if (name.empty() || name == "UTF-8" || name == "UTF8") return {};
    return decoded(bytes.substr(0, kSampleBytes), name) ? name : std::string();
  }
  return {};
}

std::string iconv_advice(std::string_view encoding, const std::filesystem::path& path) {
  const Packing packing = packing_of(path);
  if (packing == Packing::kNone)
    return fmt::format("convert it with `iconv -f {} -t UTF-8 FILE > NEW`", encoding);
  return fmt::format("convert it with `{} -dc FILE | iconv -f {} -t UTF-8 > NEW`",
                     packing == Packing::kGzip ? "gzip" : "zstd", encoding);
}

}  // namespace naite::data
