// SPDX-License-Identifier: Apache-2.0
#include "data/unicode.h"

namespace naite::data {

namespace {

#include "data/unicode_tables.inc"

}  // namespace

CharClass class_of(uint32_t code) {
  if (code > 0x10ffff) return CharClass::kOther;
  const uint64_t word = kPages[kPageOf[code >> 8]][(code >> 5) & 7];
  return static_cast<CharClass>((word >> (2 * (code & 31))) & 3);
}

}  // namespace naite::data
