// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "cmd/cmd.h"
#include "formats/checkpoint.h"
#include "train/trainer.h"

namespace naite::cmd {

namespace {

struct DigestArguments {
  std::string directory;
  bool as_json = false;
};

Status digest(const DigestArguments& arguments) {
  NAITE_ASSIGN(const std::filesystem::path directory, train::model_directory(arguments.directory));
  NAITE_ASSIGN(const std::string weights, formats::weights_digest(directory));
  std::string state;
  if (std::filesystem::exists(directory / "state")) {
    NAITE_ASSIGN(state, formats::state_digest(directory));
  }
  if (arguments.as_json) {
    nlohmann::json out = {{"directory", directory.string()}, {"weights", weights}};
    if (!state.empty()) out["state"] = state;
    put("{}\n", out.dump());
    return {};
  }
  put("weights {}\n", weights);
  if (!state.empty()) put("state   {}\n", state);
  return {};
}

}  // namespace

void add_digest(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<DigestArguments>();
  CLI::App* command =
      app.add_subcommand("digest", "SHA-256 of a model's weights and of the whole training state");
  command
      ->add_option("directory", arguments->directory,
                   "Checkpoint or model directory, or a run: its newest state")
      ->required();
  command->add_flag("--json", arguments->as_json, "Print one JSON object");
  command->footer("Example: naite digest runs/tinyshakespeare");
  command->callback([arguments, &exit_code] {
    const Status status = digest(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
