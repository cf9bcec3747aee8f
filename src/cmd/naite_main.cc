// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "base/base.h"
#include "cmd/cmd.h"

int main(int argc, char** argv) {
  naite::set_float_mode();
  CLI::App app(
      "Naite trains language models from random weights; the recipe alone decides every bit.",
      "naite");
  app.require_subcommand(1);
  app.set_version_flag("--version", fmt::format("naite {} ({}, {})", naite::kVersion,
                                                naite::source_commit(), naite::compiler_name()));
  app.add_flag_callback(
      "--isa-names",
      [] {
        fmt::print("{}\n", naite::kernels::cpu_isa_names());
        throw CLI::Success();
      },
      "Print the instruction sets that this machine offers (for NAITE_ISA) and exit");
  int exit_code = 0;
  naite::cmd::add_train(app, exit_code);
  naite::cmd::add_generate(app, exit_code);
  naite::cmd::add_digest(app, exit_code);
  naite::cmd::add_tokenizer(app, exit_code);
  naite::cmd::add_data(app, exit_code);
  naite::cmd::add_export(app, exit_code);
  naite::cmd::add_import(app, exit_code);
  naite::cmd::add_grow(app, exit_code);
  naite::cmd::add_key(app, exit_code);
  naite::cmd::add_log(app, exit_code);
  naite::cmd::add_verify(app, exit_code);
  naite::cmd::add_publish(app, exit_code);
  naite::cmd::add_follow(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    std::string line = error.what();
    for (char& c : line)
      if (c == '\n') c = ' ';
    fmt::print(stderr, "naite: {}; see `naite{} --help`\n", line,
               app.get_subcommands().empty() ? "" : " " + app.get_subcommands()[0]->get_name());
    return 2;
  }
  return exit_code;
}
