// SPDX-License-Identifier: Apache-2.0
#pragma once
// What commands print: the one mouth of the program (tools/tidy sees to it). Much of it is somebody
// else's text, so every value passes base/shown.h on its way: a name cannot move the cursor, paint
// over a line, begin one, or hide. What formats say themselves is printed as it is written.
//
// Standard output is the result, so a write to it that fails (a full disk, a closed stream) ends
// the command: put() throws OutputError, which main() turns into one line and the exit code of
// a failure. Standard error is for people: nothing is lost for good where it cannot be written, so
// tell() never fails, and training goes on when nobody looks any more.
#include <fmt/format.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/shown.h"

namespace naite::cmd {

struct OutputError {
  int code;  // errno
};

// Before anything else is opened: gives closed standard streams /dev/null, so that no file of a run
// gets their descriptors. It is opened the wrong way round: to read from or write to a stream that
// was closed stays an error. Broken pipes become errors of the write.
void prepare_streams();

// Several lines that the program laid out itself: its line feeds are meant.
struct Layout {
  std::string_view text;
};

// A value as it is printed: numbers as they are, any other text as part of a line.
template <class Value>
auto shown(const Value& value) {
  if constexpr (std::is_arithmetic_v<Value>)
    return value;
  else if constexpr (std::is_same_v<Value, Layout>)
    return shown_text(value.text);
  else
    return shown_line(std::string_view(value));
}
template <class Value>
using Shown = decltype(shown(std::declval<const Value&>()));

void write_output(std::string_view text);   // for put() and tell() alone
void write_message(std::string_view text);  // standard error
void flush_output();

template <class... Values>
void put(fmt::format_string<Shown<Values>...> format, const Values&... values) {
  write_output(fmt::format(format, shown(values)...));
}

template <class... Values>
void tell(fmt::format_string<Shown<Values>...> format, const Values&... values) {
  write_message(fmt::format(format, shown(values)...));
}

// A text that is the result itself: byte for byte where a file or a program takes it, and on a
// terminal as one may see it (shown_text).
void put_text(std::string_view text);

// JSON and a line feed. Bytes that are no UTF-8 become U+FFFD, and what base/shown.h hides stands
// as JSON's escapes: the same values for whoever reads them.
void put_json(const nlohmann::json& value, int indent = -1);
void put_json_text(std::string_view json);
std::string json_text(const nlohmann::json& value, int indent = -1);  // never throws

// The exit code of a command that could not do its work: 1. Of one whose 1 is an answer about what
// it looked at, another one, so that nobody takes a full disk for that answer.
int failure_code();
void set_failure_code(int code);

// Says on standard error that the output could not be written; failure_code(). A reader that went
// away (`| head`) ends the process as it ends any other: by SIGPIPE, without a word.
int report_output_error(const OutputError& error);

// The exit code after all that libraries keep for standard output is written, too.
int finish_output(int exit_code);

}  // namespace naite::cmd
