// SPDX-License-Identifier: Apache-2.0
#pragma once
// The little of Unicode that splitting and checking text needs: one character at a time, and the
// class of a code point. Bytes that are not valid UTF-8 are characters of class kOther, one each.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace naite::data {

enum class CharClass : uint8_t { kOther = 0, kLetter = 1, kNumber = 2, kSpace = 3 };

inline constexpr uint32_t kInvalid = 0xffffffffu;

struct Char {
  uint32_t code;  // kInvalid for a byte that starts no valid character
  uint32_t size;  // bytes, 1 to 4
};

// The character at text[at]; at < text.size(). Overlong forms and surrogates are invalid.
Char decode_char(std::string_view text, size_t at);

CharClass class_of(uint32_t code);

// The offset of the first byte that is not part of valid UTF-8; text.size() if there is none.
size_t find_invalid_utf8(std::string_view text);

// The largest size <= `limit` at which `text` can be cut between two characters.
size_t floor_to_char(std::string_view text, size_t limit);

// Appends the UTF-8 form of a code point.
void append_utf8(uint32_t code, std::string& out);

}  // namespace naite::data
