// SPDX-License-Identifier: Apache-2.0
#pragma once
// Names that become names of files. Recipes are passed around: what one calls a thing must not lead
// anywhere else, nor be taken for an option, nor be too long once it has endings, nor be shown as
// something else (base/shown.h).
#include <string_view>

#include "base/shown.h"

namespace naite {

constexpr size_t kFileNameMax = 128;  // bytes

inline bool is_file_name(std::string_view name) {
  return !name.empty() && name.size() <= kFileNameMax && name[0] != '.' && name[0] != '-' &&
         name.find_first_of("/\\") == std::string_view::npos && is_plain_line(name);
}

}  // namespace naite
