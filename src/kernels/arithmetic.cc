// SPDX-License-Identifier: Apache-2.0
#include "kernels/arithmetic.h"

namespace naite::kernels {

const Arithmetic* find_arithmetic(std::string_view name) {
  for (const Arithmetic& arithmetic : kArithmetics)
    if (arithmetic.name == name) return &arithmetic;
  return nullptr;
}

std::vector<std::string> arithmetic_names() {
  std::vector<std::string> names;
  for (const Arithmetic& arithmetic : kArithmetics) names.emplace_back(arithmetic.name);
  return names;
}

}  // namespace naite::kernels
