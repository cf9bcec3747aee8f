// SPDX-License-Identifier: Apache-2.0
#include "cmd/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

namespace naite::cmd {

namespace {

std::atomic<int> code_of_failures{1};
bool pipes_kill = true;  // unless whoever started the process had it ignore SIGPIPE

}  // namespace

void prepare_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(stream, F_GETFD) < 0)
      static_cast<void>(::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY));
  pipes_kill = std::signal(SIGPIPE, SIG_IGN) != SIG_IGN;
}

void write_output(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) throw OutputError{errno};
}

void flush_output() {
  if (std::fflush(stdout) != 0) throw OutputError{errno};
}

void write_message(std::string_view text) {
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), stderr));
}

void put_text(std::string_view text) {
  static const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  write_output(terminal ? shown_text(text) : text);
}

std::string json_text(const nlohmann::json& value, int indent) {
  return value.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

void put_json(const nlohmann::json& value, int indent) { put_json_text(json_text(value, indent)); }

void put_json_text(std::string_view json) { write_output(shown_json(json) + "\n"); }

int failure_code() { return code_of_failures.load(); }
void set_failure_code(int code) { code_of_failures = code; }

int report_output_error(const OutputError& error) {
  if (error.code == EPIPE && pipes_kill) {
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  tell("naite: cannot write to standard output: {}\n",
       error.code == 0 ? "an earlier write failed" : std::strerror(error.code));
  return failure_code();
}

int finish_output(int exit_code) {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return exit_code;
  return report_output_error({errno});
}

}  // namespace naite::cmd
