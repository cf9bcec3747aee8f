// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the fuzzing programs (*_fuzz.cc) share.
#include <cstdlib>

#include "base/result.h"

namespace naite {

inline void require(bool holds) {
  if (!holds) std::abort();
}

// Every refusal is one line, not longer than one_line() makes it, or than the reader promises.
inline void expect_short_line(const Error& error, size_t bytes_max = 1024) {
  require(!error.message.empty() && error.message.find('\n') == std::string::npos &&
          error.message.size() <= bytes_max);
}

}  // namespace naite
