// SPDX-License-Identifier: Apache-2.0
#include "cmd/cmd.h"
#include "ledger/keys.h"
#include "record/cosign.h"
#include "record/logged_states.h"
#include "verify/rebuild.h"

namespace naite::cmd {

namespace {

namespace fs = std::filesystem;

struct KeyArguments {
  std::string directory, name, keys;
};

Status new_keys(const KeyArguments& arguments) {
  NAITE_ASSIGN(const ledger::Keys keys, ledger::make_keys(arguments.directory, arguments.name));
  put("made {0}/log.key and {0}/model.key; keep both secret and keep a copy\n",
      arguments.directory);
  put("publish the public keys:\n{}\n{}", keys.log.verifier().vkey(),
      Layout{keys.model.public_pem()});
  return {};
}

// Of a run, every checkpoint that its log has.
Result<std::vector<fs::path>> checkpoints_of(const fs::path& path, ThreadPool& pool) {
  if (record::is_run(path)) return record::logged_checkpoints(path, pool);
  std::error_code code;
  if (!fs::exists(path / "record.json", code))
    return fail("{} is neither a checkpoint nor a run", path.string());
  return std::vector<fs::path>{fs::absolute(path / "").parent_path()};
}

Status cosign(const KeyArguments& arguments) {
  NAITE_ASSIGN(const ledger::Keys keys, ledger::load_keys(arguments.keys));
  ThreadPool pool(ThreadPool::default_num_threads());
  NAITE_ASSIGN(const std::vector<fs::path> checkpoints, checkpoints_of(arguments.directory, pool));
  for (const fs::path& checkpoint : checkpoints)
    NAITE_TRY(verify::check_logged_checkpoint(checkpoint, pool));
  for (const fs::path& checkpoint : checkpoints) {
    NAITE_ASSIGN(const bool added, record::cosign_checkpoint(checkpoint, keys.model, pool));
    put("{} {}\n", added ? "co-signed" : "co-signed before:", checkpoint.string());
  }
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
  CLI::App* add = command->add_subcommand("cosign", "Add your signature to somebody's checkpoints");
  add->add_option("directory", arguments->directory, "A checkpoint, or a run: all its checkpoints")
      ->required();
  add->add_option("--keys", arguments->keys, "Directory of naite key new")->required();
  add->footer(
      "Example: naite key cosign runs/quickstart --keys ~/keys\n"
      "Refused if anything in it is not what the run's log makes of it. Whether that was trained "
      "so is "
      "what\nyou verify first: naite verify RUN --all");
  add->callback([arguments, &exit_code] {
    const Status status = cosign(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
