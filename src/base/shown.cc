// SPDX-License-Identifier: Apache-2.0
#include "base/shown.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/utf8.h"

namespace naite {

namespace {

struct Range {
  uint32_t first, last;
};

// Ascending. Unicode 16.0: the general categories Cc and Cf, Default_Ignorable_Code_Point, line and
// paragraph separators, and the two noncharacters that files begin with.
constexpr Range kUnseen[] = {
    {0x0000, 0x001f},   {0x007f, 0x009f},   {0x00ad, 0x00ad},   {0x034f, 0x034f},
    {0x0600, 0x0605},   {0x061c, 0x061c},   {0x06dd, 0x06dd},   {0x070f, 0x070f},
    {0x0890, 0x0891},   {0x08e2, 0x08e2},   {0x115f, 0x1160},   {0x17b4, 0x17b5},
    {0x180b, 0x180f},   {0x200b, 0x200f},   {0x2028, 0x202e},   {0x2060, 0x206f},
    {0x3164, 0x3164},   {0xfe00, 0xfe0f},   {0xfeff, 0xfeff},   {0xffa0, 0xffa0},
    {0xfff0, 0xfffb},   {0xfffe, 0xffff},   {0x110bd, 0x110bd}, {0x110cd, 0x110cd},
    {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff}};

// What joins or chooses the form of the character before it.
bool is_joining(uint32_t code) {
  return code == 0x200c || code == 0x200d || (code >= 0xfe00 && code <= 0xfe0f);
}

std::string escape_of(std::string_view bytes, const Char& c) {
  if (bytes == "\n") return "\\n";
  if (bytes == "\t") return "\\t";
  if (c.code == kInvalid || c.code < 0x80)
    return fmt::format("\\x{:02x}", static_cast<unsigned>(static_cast<unsigned char>(bytes[0])));
  return fmt::format("\\u{{{:x}}}", c.code);
}

std::string json_escape_of(uint32_t code) {
  if (code < 0x10000) return fmt::format("\\u{:04x}", code);
  return fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((code - 0x10000) >> 10),
                     0xdc00 + ((code - 0x10000) & 0x3ff));
}

// `text` with what `replace(bytes, character)` gives in place of each character for which it gives
// anything.
template <class Replace>
std::string replaced(std::string_view text, const Replace& replace) {
  std::string out;
  size_t kept = 0;  // up to here it is in `out`
  for (size_t at = 0; at < text.size();) {
    const Char c = decode_char(text, at);
    const std::string other = replace(text.substr(at, c.size), c);
    if (!other.empty()) {
      out.append(text, kept, at - kept);
      out += other;
      kept = at + c.size;
    }
    at += c.size;
  }
  return out.append(text, kept);
}

}  // namespace

bool is_unseen(uint32_t code) {
  if (code >= 0x20 && code < 0x7f) return false;
  const auto* const range = std::partition_point(std::begin(kUnseen), std::end(kUnseen),
                                                 [&](const Range& r) { return r.last < code; });
  return range != std::end(kUnseen) && range->first <= code;
}

std::string shown_line(std::string_view text) {
  return replaced(text, [](std::string_view bytes, const Char& c) {
    return c.code == kInvalid || is_unseen(c.code) ? escape_of(bytes, c) : std::string();
  });
}

bool is_plain_line(std::string_view text) { return shown_line(text) == text; }

std::string shown_text(std::string_view text) {
  bool after_seen = true;  // a piece of a text may begin with what joins it to the one before
  return replaced(text, [&](std::string_view bytes, const Char& c) {
    const bool unseen = c.code == kInvalid || is_unseen(c.code);
    const bool stays =
        !unseen || bytes == "\n" || bytes == "\t" || (after_seen && is_joining(c.code));
    after_seen = !unseen;
    return stays ? std::string() : escape_of(bytes, c);
  });
}

std::string shown_json(std::string_view json) {
  return replaced(json, [](std::string_view, const Char& c) {
    // The line feeds of a layout are no part of strings.
    return c.code != kInvalid && c.code >= 0x7f && is_unseen(c.code) ? json_escape_of(c.code)
                                                                     : std::string();
  });
}

}  // namespace naite
