// SPDX-License-Identifier: Apache-2.0
#pragma once
// The little of Unicode that splitting text needs beside base/utf8.h: the class of a code point.
// Bytes that are not valid UTF-8 are characters of class kOther, one each.
#include <cstdint>

#include "base/utf8.h"

namespace naite::data {

using naite::append_utf8;
using naite::Char;
using naite::decode_char;
using naite::find_invalid_utf8;
using naite::floor_to_char;
using naite::kInvalid;

enum class CharClass : uint8_t { kOther = 0, kLetter = 1, kNumber = 2, kSpace = 3 };

CharClass class_of(uint32_t code);

}  // namespace naite::data
