// SPDX-License-Identifier: Apache-2.0
#pragma once
// NAITE_CHECK(condition, format, values...) ends the program when a programmer's assumption is
// wrong. It is always on. Anything that a user, a file or a network can cause is a Result<T>
// instead: users never reach a check.
#include <fmt/format.h>

#include <string_view>

namespace naite {

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view message);

}  // namespace naite

#define NAITE_CHECK(condition, ...)                                                              \
  do {                                                                                           \
    if (!(condition)) [[unlikely]]                                                               \
      ::naite::check_failed(__FILE__, __LINE__, #condition, ::fmt::format("" __VA_ARGS__));      \
  } while (0)

#ifdef NAITE_DEBUG
#define NAITE_DEBUG_CHECK(condition, ...) NAITE_CHECK(condition, __VA_ARGS__)
#else
#define NAITE_DEBUG_CHECK(condition, ...) \
  do {                                    \
  } while (0)
#endif
