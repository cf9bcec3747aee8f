// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/utf8.h"
#include "cmd/cmd.h"
#include "cmd/cost.h"
#include "cmd/profile.h"
#include "record/logged_states.h"
#include "train/trainer.h"

namespace naite::cmd {

namespace {

struct TrainArguments {
  std::string recipe, run, from, machine, keys, beacon_value;
  std::vector<std::string> set, witnesses;
  int threads = 0, virtual_ranks = 0;  // 0: as machine.toml says
  int64_t stop_after_step = -1;
  bool dry_run = false, print_config = false, recompute = false, profile = false;
};

constexpr double kPlainLineSeconds = 10;  // between progress lines when stderr is no terminal

// Progress on stderr: one line that is rewritten on a terminal, a plain line now and then
// elsewhere.
class ConsoleObserver final : public train::Observer {
 public:
  void note(const std::string& line) override { print_line(line); }

  void preparing(const data::PrepareProgress& p) override {
    const std::string share =
        p.total > 0 ? fmt::format(" {}%", 100 * p.done / p.total) : std::string();
    if (terminal_) status(fmt::format("{}{}", p.phase, share));
    if (!terminal_ && p.phase != phase_) print_line(std::string(p.phase));
    phase_ = p.phase;
  }

  void step(const train::StepReport& r) override {
    wait_for_saving();
    const double now = now_seconds();
    const bool last = r.step == r.total_steps;
    if (!terminal_ && !last && r.step > 3 && now - printed_ < kPlainLineSeconds) return;
    printed_ = now;
    const std::string peak = r.mfu > 0 ? fmt::format("  {:.0f}% of peak", 100 * r.mfu) : "";
    const std::string line =
        fmt::format("step {}/{}  {:.0f}%  loss {:.4f}  {} tok/s{}  {} left", r.step, r.total_steps,
                    100.0 * static_cast<double>(r.step) / static_cast<double>(r.total_steps),
                    r.loss, human_count(static_cast<int64_t>(r.tokens_per_second)), peak,
                    human_seconds(r.seconds_left));
    if (terminal_) status(bar(r) + line);
    if (!terminal_) print_line(line);
  }

  void validated(const train::ValidationReport& r) override {
    std::string line = fmt::format("checkpoint {}", r.checkpoint);
    for (const auto& [source, measured] : r.sources)
      line += fmt::format("  {}: loss {:.4f}, {:.3f} bits per byte", source, measured.loss,
                          measured.bits_per_byte);
    print_line(line);
    for (const auto& [prompt, sample] : r.samples)
      print_line("  | " + one_line(sample.substr(0, floor_to_char(sample, 100))));
  }

  void finish() {
    if (terminal_ && status_shown_) tell("\n");
  }

 private:
  static std::string bar(const train::StepReport& r) {
    constexpr int64_t kWidth = 20;
    const int64_t full = kWidth * r.step / r.total_steps;
    return "[" + std::string(full, '#') + std::string(kWidth - full, '.') + "] ";
  }
  void status(const std::string& line) {
    tell("\r\033[K{}", line);
    status_shown_ = true;
  }
  void print_line(const std::string& line) {
    if (terminal_ && status_shown_) tell("\r\033[K");
    tell("{}\n", line);
    status_shown_ = false;
  }

  const bool terminal_ = ::isatty(STDERR_FILENO) != 0;
  bool status_shown_ = false;
  double printed_ = 0;
  std::string phase_;
};

int run_train(const TrainArguments& arguments) {
  Result<train::Curriculum> recipe = train::load_recipe(arguments.recipe, arguments.set);
  if (!recipe) return report_error(recipe.error());
  if (arguments.print_config) {
    put("{}", Layout{to_toml(recipe->resolved())});
    return 0;
  }
  Result<MachineSettings> settings = MachineSettings::load(arguments.machine);
  if (!settings) return report_error(settings.error());
  if (arguments.threads > 0) settings->threads = arguments.threads;
  if (arguments.virtual_ranks > 0) settings->virtual_ranks = arguments.virtual_ranks;
  settings->recompute |= arguments.recompute;
  for (const std::string& text : arguments.witnesses) {
    const Result<ledger::Witness> witness = ledger::Witness::parse(text);
    if (!witness) return report_error(fail("--witness {}: {}", text, witness.error().message));
    settings->witnesses.push_back(*witness);
  }
  Result<Machine> machine = make_machine(settings->threads);
  if (!machine) return report_error(machine.error());
  if (arguments.dry_run) {
    const Status status = print_cost(*recipe, *settings, *machine);
    return status.ok() ? 0 : report_error(status.error());
  }
  if (const Status fits = check_memory(*recipe, *settings, *machine->kernels); !fits.ok())
    return report_error(fits.error());
  train::TrainRequest request;
  request.engine = {settings->virtual_ranks, settings->recompute};
  if (!arguments.from.empty()) {
    const Result<std::filesystem::path> from =
        record::find_model(arguments.from, record::Use::kState, *machine->pool);
    if (!from) return report_error(from.error());
    request.from = *from;
  }
  request.run_directory = arguments.run.empty() ? "runs/" + recipe->first().name : arguments.run;
  request.stop_after_step = arguments.stop_after_step;
  request.stop = &watch_signals(0);
  request.keys = arguments.keys;
  request.beacon_value = arguments.beacon_value;
  request.witnesses = settings->witnesses;
  ConsoleObserver observer;
  Profile profile(*machine->kernels);
  kernels::Kernels& kernels = arguments.profile ? profile.kernels() : *machine->kernels;
  const Result<train::Outcome> outcome =
      train::train(*recipe, request, kernels, *machine->pool, observer);
  observer.finish();
  if (!outcome) return report_error(outcome.error());
  if (arguments.profile) {
    const std::filesystem::path trace = request.run_directory / "trace.json";
    const Status written = profile.write_trace(trace);
    if (!written) return report_error(written.error());
    const double peak = profile.kernels().measure_peak_flops(recipe->first().compute());
    put("{}trace: {} (open in chrome://tracing or ui.perfetto.dev)\n", Layout{profile.table(peak)},
        trace.string());
  }
  if (*outcome == train::Outcome::kStopped)
    tell("stopped and saved; the same command goes on\n");
  else
    tell("finished: {}\n", request.run_directory.string());
  return 0;
}

}  // namespace

void add_train(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = app.add_subcommand("train", "Start a run, or resume the one in --run");
  command->add_option("recipe", arguments->recipe, "Recipe (TOML)")->required();
  command->add_option("--run", arguments->run, "Run directory (default: runs/NAME of the recipe)");
  command->add_option("--set", arguments->set, "Override a key, for example train.tokens=1000000")
      ->allow_extra_args(false);
  command->add_option("--from", arguments->from,
                      "Branch off a checkpoint: a new run under this recipe goes on from it");
  command->add_option("--machine", arguments->machine,
                      "Settings of this machine (default: machine.toml, if there is one)");
  command->add_option("--threads", arguments->threads, "Threads (default: all usable processors)")
      ->check(CLI::Range(1, 4096));
  command
      ->add_option("--virtual-ranks", arguments->virtual_ranks, "Compute as so many machines would")
      ->check(CLI::Range(1, 1024));
  command
      ->add_option("--stop-after-step", arguments->stop_after_step,
                   "Save and stop when so many steps are done")
      ->check(CLI::Range(int64_t{0}, INT64_MAX));
  command->add_option("--keys", arguments->keys,
                      "Directory of naite key new: signs the log and every checkpoint");
  command
      ->add_option("--witness", arguments->witnesses,
                   "A witness that cosigns the log's heads, as URL+KEY (also in machine.toml)")
      ->allow_extra_args(false);
  command->add_option("--beacon-value", arguments->beacon_value,
                      "Value of the recipe's beacon, in hexadecimal");
  command->add_flag("--recompute", arguments->recompute,
                    "Trade time for memory: compute activations twice");
  command->add_flag("--profile", arguments->profile,
                    "Print where the time went by operation and write RUN/trace.json");
  command->add_flag("--dry-run", arguments->dry_run,
                    "Print size, steps, exact memory, time and energy, then stop");
  command->add_flag("--print-config", arguments->print_config,
                    "Print the recipe with every default and stop");
  command->footer(
      "Example: naite train recipes/tinyshakespeare.toml --run runs/plays\n"
      "Ctrl-C saves and exits; the same command goes on where it stood.");
  command->callback([arguments, &exit_code] { exit_code = run_train(*arguments); });
}

}  // namespace naite::cmd
