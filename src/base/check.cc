// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <cstdio>
#include <cstdlib>

#include "base/shown.h"

namespace naite {

void check_failed(const char* file, int line, const char* condition, std::string_view message) {
  fmt::print(stderr, "naite: internal error at {}:{}: check `{}` failed{}{}\n", file, line,
             condition, message.empty() ? "" : ": ", shown_line(message));
  std::fflush(stderr);
  std::abort();
}

}  // namespace naite
