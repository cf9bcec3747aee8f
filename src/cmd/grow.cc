// SPDX-License-Identifier: Apache-2.0
#include "train/grow.h"

#include <filesystem>

#include "cmd/cmd.h"
#include "cmd/machine.h"
#include "record/logged_states.h"
#include "train/trainer.h"

namespace naite::cmd {

namespace {

struct GrowArguments {
  std::string checkpoint, recipe, run;
  std::vector<std::string> set;
  int threads = 0;
};

// A growth writes one checkpoint: only what is noted and measured there is of interest.
class GrowthObserver final : public train::Observer {
 public:
  void note(const std::string& line) override { tell("{}\n", line); }
  void preparing(const data::PrepareProgress&) override {}
  void step(const train::StepReport&) override {}
  void validated(const train::ValidationReport& r) override {
    for (const auto& [source, measured] : r.sources)
      tell("{}: loss {:.4f}, {:.3f} bits per byte\n", source, measured.loss,
           measured.bits_per_byte);
    name_ = r.checkpoint;
  }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
};

Status run_grow(const GrowArguments& arguments) {
  NAITE_ASSIGN(const train::Curriculum curriculum,
               train::load_recipe(arguments.recipe, arguments.set));
  const train::Recipe& recipe = curriculum.first();
  NAITE_ASSIGN(const Machine machine, make_machine(arguments.threads));
  NAITE_ASSIGN(const std::filesystem::path parent,
               record::find_model(arguments.checkpoint, record::Use::kModel, *machine.pool));
  NAITE_ASSIGN(const train::StartWeights start, train::grow(parent, recipe, *machine.pool));
  train::TrainRequest request;
  request.run_directory = arguments.run.empty() ? "runs/" + recipe.name : arguments.run;
  request.stop_after_step = 0;
  request.start = &start;
  GrowthObserver observer;
  NAITE_TRY(train::train(curriculum, request, *machine.kernels, *machine.pool, observer));
  put("{}\n", (request.run_directory / "checkpoints" / observer.name()).string());
  return {};
}

}  // namespace

void add_grow(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<GrowArguments>();
  CLI::App* command = app.add_subcommand(
      "grow", "Begin a run with a larger model that computes what CHECKPOINT does");
  command->add_option("checkpoint", arguments->checkpoint, "Model directory or run to grow")
      ->required();
  command->add_option("recipe", arguments->recipe, "Recipe (TOML) of the larger model")->required();
  command->add_option("--run", arguments->run, "Run directory (default: runs/NAME of the recipe)");
  command->add_option("--set", arguments->set, "Override a key, for example growth.noise=0")
      ->allow_extra_args(false);
  command->add_option("--threads", arguments->threads, "Threads (default: all usable processors)")
      ->check(CLI::Range(1, 4096));
  command->footer(
      "Example: naite grow runs/small recipes/large.toml --run runs/large\n"
      "[tokenizer] file of the recipe names the parent's tokenizer.json; `naite train` goes on.");
  command->callback([arguments, &exit_code] {
    const Status status = run_grow(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
