// SPDX-License-Identifier: Apache-2.0
#include "cmd/cmd.h"
#include "ledger/keys.h"

namespace naite::cmd {

namespace {

struct KeyArguments {
  std::string directory, name;
};

Status new_keys(const KeyArguments& arguments) {
  NAITE_ASSIGN(const ledger::Keys keys, ledger::make_keys(arguments.directory, arguments.name));
  fmt::print("made {0}/log.key and {0}/model.key; keep both secret and keep a copy\n",
             arguments.directory);
  fmt::print("publish the public keys:\n{}\n{}", keys.log.verifier().vkey(),
             keys.model.public_pem());
  return {};
}

}  // namespace

void add_key(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("key", "Keys that sign logs and checkpoints");
  command->require_subcommand(1);
  auto arguments = std::make_shared<KeyArguments>();
  CLI::App* make = command->add_subcommand("new", "Make the two keys of a publisher");
  make->add_option("directory", arguments->directory, "Where the keys go; nothing is overwritten")
      ->required();
  make->add_option("--name", arguments->name,
                   "Name of the publisher: an address without https://, such as example.org/team")
      ->required();
  make->footer(
      "Example: naite key new ~/keys --name example.org/team\n"
      "Then: naite train RECIPE.toml --keys ~/keys");
  make->callback([arguments, &exit_code] {
    const Status status = new_keys(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
