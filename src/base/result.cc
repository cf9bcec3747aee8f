// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <algorithm>
#include <cerrno>

#include "base/shown.h"

namespace naite {

namespace {

// What stands where is at the beginning, what to do at the end; the middle may be a long quotation.
constexpr size_t kBeginBytes = 700, kEndBytes = 300;

bool is_inside_letter(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

}  // namespace

ErrorKind kind_of_system_error(int code) {
  switch (code) {
    case ENOENT:
    case ENOTDIR:
      return ErrorKind::kMissing;
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case EINVAL:
    case ENXIO:
      return ErrorKind::kWrong;
    default:
      return ErrorKind::kUnable;
  }
}

std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  text = shown_line(text);
  if (text.size() <= kBeginBytes + kEndBytes) return text;
  size_t begin = kBeginBytes, end = text.size() - kEndBytes;
  while (begin > 0 && is_inside_letter(text[begin])) --begin;
  while (end < text.size() && is_inside_letter(text[end])) ++end;
  return text.substr(0, begin) + " ... " + text.substr(end);
}

}  // namespace naite
