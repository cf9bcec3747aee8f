// SPDX-License-Identifier: Apache-2.0
#pragma once
// What commands print. Standard output is the result, so a write to it that fails (a full disk, a
// closed stream) ends the command: put() throws OutputError, which main() turns into one line and
// exit code 1. Standard error is for people: nothing is lost for good where it cannot be written,
// so tell() never fails, and training goes on when nobody looks any more.
#include <fmt/format.h>

#include <string_view>

namespace naite::cmd {

struct OutputError {
  int code;  // errno
};

// Before anything else is opened: gives closed standard streams /dev/null, so that no file of a run
// gets their descriptors. It is opened the wrong way round: to read from or write to a stream that
// was closed stays an error. Broken pipes become errors of the write.
void prepare_streams();

void write_output(std::string_view text);
void flush_output();
void write_message(std::string_view text);  // standard error

template <class... Values>
void put(fmt::format_string<Values...> format, Values&&... values) {
  write_output(fmt::format(format, std::forward<Values>(values)...));
}

template <class... Values>
void tell(fmt::format_string<Values...> format, Values&&... values) {
  write_message(fmt::format(format, std::forward<Values>(values)...));
}

// Says on standard error that the output could not be written; 1. A reader that went away (`|
// head`) ends the process as it ends any other: by SIGPIPE, without a word.
int report_output_error(const OutputError& error);

// The exit code after all that libraries keep for standard output is written, too.
int finish_output(int exit_code);

}  // namespace naite::cmd
