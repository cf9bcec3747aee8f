// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.h"

#include <cstring>

namespace naite {

namespace {

bool is_continuation(unsigned char c) { return (c & 0xc0) == 0x80; }

}  // namespace

Char decode_char(std::string_view text, size_t at) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data()) + at;
  const size_t left = text.size() - at;
  const uint32_t lead = p[0];
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xc2 || lead > 0xf4) return {kInvalid, 1};
  if (left < 2 || !is_continuation(p[1])) return {kInvalid, 1};
  if (lead < 0xe0) return {(lead & 0x1f) << 6 | (p[1] & 0x3fu), 2};
  if (left < 3 || !is_continuation(p[2])) return {kInvalid, 1};
  if (lead < 0xf0) {
    const uint32_t code = (lead & 0x0f) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    if (code < 0x800 || (code >= 0xd800 && code < 0xe000)) return {kInvalid, 1};
    return {code, 3};
  }
  if (left < 4 || !is_continuation(p[3])) return {kInvalid, 1};
  const uint32_t code =
      (lead & 0x07) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
  if (code < 0x10000 || code > 0x10ffff) return {kInvalid, 1};
  return {code, 4};
}

size_t find_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word = 0;
    while (at + 8 <= text.size()) {  // eight ASCII bytes at a time
      std::memcpy(&word, text.data() + at, 8);
      if ((word & 0x8080808080808080ull) != 0) break;
      at += 8;
    }
    if (at == text.size()) break;
    const Char c = decode_char(text, at);
    if (c.code == kInvalid) return at;
    at += c.size;
  }
  return at;
}

size_t floor_to_char(std::string_view text, size_t limit) {
  if (limit >= text.size()) return text.size();
  size_t at = limit;
  while (at > 0 && limit - at < 3 && is_continuation(static_cast<unsigned char>(text[at]))) --at;
  // Inside invalid bytes any place is as good as another.
  if (is_continuation(static_cast<unsigned char>(text[at]))) return limit;
  return at;
}

void append_utf8(uint32_t code, std::string& out) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

}  // namespace naite
