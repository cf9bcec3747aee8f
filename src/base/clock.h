// SPDX-License-Identifier: Apache-2.0
#pragma once
// The system's clock for records. It may be wrong by anything, and what it says must stay readable:
// a clock before 1970 counts as 1970, one beyond what JSON holds exactly as the last such second.
#include <algorithm>
#include <cstdint>
#include <ctime>

namespace naite {

constexpr int64_t kLastSecond = int64_t{1} << 53;

inline int64_t unix_seconds() {
  return std::clamp(static_cast<int64_t>(std::time(nullptr)), int64_t{0}, kLastSecond);
}

}  // namespace naite
