// SPDX-License-Identifier: Apache-2.0
#pragma once
// UTF-8, one character at a time. Bytes that are not valid UTF-8 are characters of their own, one
// each: whatever a file holds can be walked through.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace naite {

inline constexpr uint32_t kInvalid = 0xffffffffu;

struct Char {
  uint32_t code;  // kInvalid for a byte that starts no valid character
  uint32_t size;  // bytes, 1 to 4
};

// The character at text[at]; at < text.size(). Overlong forms and surrogates are invalid.
Char decode_char(std::string_view text, size_t at);

// The offset of the first byte that is not part of valid UTF-8; text.size() if there is none.
size_t find_invalid_utf8(std::string_view text);

// The largest size <= `limit` at which `text` can be cut between two characters.
size_t floor_to_char(std::string_view text, size_t limit);

// Appends the UTF-8 form of a code point.
void append_utf8(uint32_t code, std::string& out);

}  // namespace naite
