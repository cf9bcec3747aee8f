// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <csignal>
#include <exception>
#include <new>
#include <sstream>

#include "base/base.h"
#include "base/machine_limits.h"
#include "cmd/cmd.h"

namespace naite::cmd {

namespace {

// Whatever no folder below caught: one line, and 2, as nothing is said about what was asked.
int report_exception() {
  try {
    throw;
  } catch (const OutputError& error) {
    return report_output_error(error);
  } catch (const std::bad_alloc&) {
    report_error(
        fail("out of memory; this process may use {}: see memory_gib and the "
             "smaller settings of docs/RECIPE.md",
             human_bytes(usable_memory_bytes())));
  } catch (const std::exception& error) {
    report_error(fail("unexpected: {}", error.what()));
  } catch (...) {
    report_error(fail("unexpected: an exception without a name"));
  }
  return 2;
}

// Exceptions that leave a thread come here, too.
[[noreturn]] void on_terminate() {
  if (std::current_exception()) report_exception();
  _exit(2);
}

// Files are mapped: one that is cut off while it is read, or whose disk fails, ends here.
void on_bus_error(int) {
  constexpr std::string_view kLine =
      "\nnaite: a file became shorter while it was read, or its disk failed: copy it again\n";
  static_cast<void>(!::write(STDERR_FILENO, kLine.data(), kLine.size()));
  ::_exit(2);
}

int run(int argc, char** argv) {
  CLI::App app(
      "Naite trains language models from random weights; the recipe alone decides every bit.",
      "naite");
  app.require_subcommand(1);
  app.set_version_flag(
      "--version", fmt::format("naite {} ({}, {})", kVersion, source_commit(), compiler_name()));
  app.add_flag_callback(
      "--isa-names",
      [] {
        put("{}\n", kernels::cpu_isa_names());
        throw CLI::Success();
      },
      "Print the instruction sets that this machine offers (for NAITE_ISA) and exit");
  int exit_code = 0;
  add_train(app, exit_code);
  add_generate(app, exit_code);
  add_digest(app, exit_code);
  add_tokenizer(app, exit_code);
  add_data(app, exit_code);
  add_export(app, exit_code);
  add_import(app, exit_code);
  add_grow(app, exit_code);
  add_key(app, exit_code);
  add_log(app, exit_code);
  add_verify(app, exit_code);
  add_publish(app, exit_code);
  add_follow(app, exit_code);
  expand_home_in_paths(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      std::ostringstream out;
      const int code = app.exit(error, out, out);
      put("{}", Layout{out.str()});
      return code;
    }
    tell("naite: {}; see `naite{} --help`\n", one_line(error.what()),
         app.get_subcommands().empty() ? "" : " " + app.get_subcommands()[0]->get_name());
    return 2;
  }
  return exit_code;
}

}  // namespace

}  // namespace naite::cmd

int main(int argc, char** argv) {
  naite::cmd::prepare_streams();
  std::set_terminate(naite::cmd::on_terminate);
  std::signal(SIGBUS, naite::cmd::on_bus_error);
  naite::set_float_mode();
  try {
    return naite::cmd::finish_output(naite::cmd::run(argc, argv));
  } catch (...) {
    return naite::cmd::report_exception();
  }
}
