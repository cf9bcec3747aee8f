// SPDX-License-Identifier: Apache-2.0
#pragma once
// The two clocks: one for durations, one for records. No result depends on either. The system's,
// for records, may be wrong by anything, and what it says must stay readable: a clock before 1970
// counts as 1970, one beyond what JSON holds exactly as the last such second.
#include <algorithm>
#include <chrono>
#include <cstdint>

namespace naite {

constexpr int64_t kLastSecond = int64_t{1} << 53;

// Seconds since some moment; never set back.
inline double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Seconds since 1970.
inline double unix_time() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::clamp(std::chrono::duration<double>(now).count(), 0.0,
                    static_cast<double>(kLastSecond));
}
inline int64_t unix_seconds() { return static_cast<int64_t>(unix_time()); }

}  // namespace naite
