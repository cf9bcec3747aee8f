// SPDX-License-Identifier: Apache-2.0
#pragma once
// Names that become names of files. Recipes are passed around: what one calls a thing must not lead
// anywhere else, nor be taken for an option, nor be too long once it has endings.
#include <algorithm>
#include <string_view>

namespace naite {

constexpr size_t kFileNameMax = 128;  // bytes

inline bool is_file_name(std::string_view name) {
  const auto plain = [](unsigned char c) {
    return c >= 0x20 && c != 0x7f && c != '/' && c != '\\';
  };
  return !name.empty() && name.size() <= kFileNameMax && name[0] != '.' && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), plain);
}

}  // namespace naite
