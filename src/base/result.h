// SPDX-License-Identifier: Apache-2.0
#pragma once
// Result<T>: a value, or an Error with one line that says what failed, where, and what to do.
// Used for everything that files, networks and users can cause; no exceptions cross a folder.
//
//   Result<std::string> text = read_file(path);
//   if (!text) return text.error();
//   use(*text);
#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace naite {

// What an error says about that which was looked at.
enum class ErrorKind {
  kWrong,    // it is not as it must be
  kMissing,  // it is not there
  kUnable,   // nothing: this machine, a server or the time given did not let us find out
  kRefused,  // it may be as it must be; whoever asks has a rule of his own that refuses it
};

struct Error {
  std::string message;
  ErrorKind kind = ErrorKind::kWrong;
};

// The text without control characters and cut after some thousand bytes: messages quote names and
// keys out of files, which may hold anything.
std::string one_line(std::string text);

// fail("cannot read {}: {}", path, reason) makes an Error that converts to any Result<T>.
template <class... Args>
[[nodiscard]] Error fail(fmt::format_string<Args...> format, Args&&... args) {
  return Error{one_line(fmt::format(format, std::forward<Args>(args)...))};
}

template <class... Args>
[[nodiscard]] Error missing(fmt::format_string<Args...> format, Args&&... args) {
  return Error{one_line(fmt::format(format, std::forward<Args>(args)...)), ErrorKind::kMissing};
}
template <class... Args>
[[nodiscard]] Error unable(fmt::format_string<Args...> format, Args&&... args) {
  return Error{one_line(fmt::format(format, std::forward<Args>(args)...)), ErrorKind::kUnable};
}
template <class... Args>
[[nodiscard]] Error refused(fmt::format_string<Args...> format, Args&&... args) {
  return Error{one_line(fmt::format(format, std::forward<Args>(args)...)), ErrorKind::kRefused};
}
// Another error in other words.
template <class... Args>
[[nodiscard]] Error rephrased(const Error& error, fmt::format_string<Args...> format,
                              Args&&... args) {
  return Error{one_line(fmt::format(format, std::forward<Args>(args)...)), error.kind};
}

// What the system's error `code` (errno) says of a file: that it is not there, that it is no such
// file, or nothing about it.
ErrorKind kind_of_system_error(int code);
// system_error(errno, "cannot read {}", path): what could not be done, and the system's reason.
template <class... Args>
[[nodiscard]] Error system_error(int code, fmt::format_string<Args...> format, Args&&... args) {
  return Error{one_line(fmt::format("{}: {}", fmt::format(format, std::forward<Args>(args)...),
                                    std::strerror(code))),
               kind_of_system_error(code)};
}

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(value()); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const {
    NAITE_CHECK(!ok(), "error() of a Result that holds a value");
    return std::get<1>(state_);
  }

 private:
  T& value() {
    NAITE_CHECK(ok(), "unchecked Result: {}", std::get<1>(state_).message);
    return std::get<0>(state_);
  }
  const T& value() const { return const_cast<Result*>(this)->value(); }

  std::variant<T, Error> state_;
};

// Status: a Result without a value. `return {};` is success.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)) {}

  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const {
    NAITE_CHECK(!ok(), "error() of a successful Status");
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

}  // namespace naite

// NAITE_TRY(expression): return its error from this function, if it has one.
#define NAITE_TRY(expression)                                                     \
  do {                                                                            \
    if (auto naite_try = (expression); !naite_try.ok()) return naite_try.error(); \
  } while (0)

#define NAITE_CONCAT_INNER(a, b) a##b
#define NAITE_CONCAT(a, b) NAITE_CONCAT_INNER(a, b)
// NAITE_ASSIGN(declaration, expression): declare from the value, or return the error.
#define NAITE_ASSIGN(declaration, expression)                \
  auto NAITE_CONCAT(naite_result_, __LINE__) = (expression); \
  if (!NAITE_CONCAT(naite_result_, __LINE__).ok())           \
    return NAITE_CONCAT(naite_result_, __LINE__).error();    \
  declaration = *std::move(NAITE_CONCAT(naite_result_, __LINE__))
