// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "cmd/cmd.h"
#include "formats/checkpoint.h"
#include "record/logged_states.h"

namespace naite::cmd {

namespace {

struct DigestArguments {
  std::string directory;
  bool as_json = false;
};

Status digest(const DigestArguments& arguments) {
  ThreadPool pool(ThreadPool::default_num_threads());
  NAITE_ASSIGN(const std::filesystem::path directory,
               record::find_model(arguments.directory, record::Use::kState, pool));
  formats::CheckpointDigests digests;
  if (std::filesystem::exists(directory / "state")) {
    NAITE_ASSIGN(digests, formats::directory_digests(directory, pool));
  } else {
    NAITE_ASSIGN(digests.weights, formats::weights_digest(directory, pool));
  }
  if (arguments.as_json) {
    nlohmann::json out = {{"directory", directory.string()}, {"weights", digests.weights}};
    if (!digests.state.empty()) out["state"] = digests.state;
    put_json(out);
    return {};
  }
  put("weights {}\n", digests.weights);
  if (!digests.state.empty()) put("state   {}\n", digests.state);
  return {};
}

}  // namespace

void add_digest(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<DigestArguments>();
  CLI::App* command =
      app.add_subcommand("digest", "SHA-256 of a model's weights and of the whole training state");
  command
      ->add_option("directory", arguments->directory,
                   "Checkpoint or model directory, or a run: its newest checkpoint")
      ->required();
  command->add_flag("--json", arguments->as_json, "Print one JSON object");
  command->footer("Example: naite digest runs/tinyshakespeare");
  command->callback([arguments, &exit_code] {
    const Status status = digest(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
