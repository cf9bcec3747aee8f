// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

namespace naite {

namespace {
constexpr size_t kMessageBytesMax = 4000;
}  // namespace

std::string one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  if (text.size() <= kMessageBytesMax) return text;
  size_t end = kMessageBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80)
    --end;  // in a character
  return text.substr(0, end) + "...";
}

}  // namespace naite
