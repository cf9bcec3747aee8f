// SPDX-License-Identifier: Apache-2.0
#include "verify/follow.h"

#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cmd/cmd.h"

namespace naite::cmd {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct FollowArguments {
  std::string url, directory, policy;
  double interval = 30;
  bool once = false, as_json = false;
};

void print_checkpoint(const record::RunHistory& history, const record::StoredState& state,
                      const fs::path& path, bool as_json) {
  const std::optional<double> bits = state.bits_per_byte();
  const double percent = history.percent_done(state.step);
  const std::string command = fmt::format("naite generate {} --prompt TEXT", path.string());
  if (as_json)
    put_json({{"checkpoint", path.string()},
              {"percent", percent},
              {"step", state.step},
              {"steps", history.commitment.steps},
              {"tokens", state.end_token},
              {"bits_per_byte", bits ? json(*bits) : json()},
              {"weights", state.weights},
              {"state", state.state},
              {"command", command}});
  else
    put("{:5.1f}%  step {} of {}, {} tokens, {}; {}\n", percent, state.step,
        history.commitment.steps, human_count(state.end_token),
        bits ? fmt::format("{:.4f} bits per byte", *bits) : "nothing measured", command);
  flush_output();
}

void print_end(const verify::Followed& followed, const fs::path& path, bool as_json) {
  const record::RunHistory& history = followed.history;
  const char* how = history.ended ? "ended" : history.abandoned ? "abandoned" : "up to date";
  if (as_json)
    put_json({{"run", path.string()},
              {"outcome", how},
              {"step", history.last_step()},
              {"steps", history.commitment.steps},
              {"signer", followed.signer}});
  else
    put("{} after step {} of {}; to check it: naite verify {} --sample 4\n", how,
        history.last_step(), history.commitment.steps, path.string());
}

// What is on its way, on a terminal, every tenth of a MiB.
verify::Mirror::Progress show_progress(std::shared_ptr<bool> shown) {
  if (::isatty(STDERR_FILENO) == 0) return nullptr;
  return [shown, last = int64_t{-1}](const std::string& file, int64_t done, int64_t total) mutable {
    if (done < 100'000 || done / 100'000 == last) return;
    last = done / 100'000;
    *shown = true;
    tell("\r\033[K{} {}{}", file, human_bytes(done), total > 0 ? " of " + human_bytes(total) : "");
  };
}

Status run_follow(const FollowArguments& arguments) {
  std::optional<verify::Policy> policy;
  if (!arguments.policy.empty()) {
    NAITE_ASSIGN(policy, verify::Policy::load(arguments.policy));
  }
  NAITE_ASSIGN(const std::string url, ledger::check_http_url(arguments.url));
  const fs::path directory =
      arguments.directory.empty() ? url.substr(url.rfind('/') + 1) : arguments.directory;
  ledger::HttpOptions options;
  const std::atomic<bool>& stop = watch_signals(0);
  options.stop = &stop;
  const auto shown = std::make_shared<bool>(false);
  NAITE_ASSIGN(verify::Mirror mirror,
               verify::Mirror::open(url, directory, options, show_progress(shown)));
  auto clear = [&] {
    if (std::exchange(*shown, false)) tell("\r\033[K");
  };
  bool succeeded = false;
  while (!stop.load()) {
    const Result<verify::Followed> followed = verify::follow_once(
        mirror, policy, [&](const record::RunHistory& history, const record::StoredState& state) {
          clear();
          print_checkpoint(history, state, directory / state.directory, arguments.as_json);
        });
    clear();
    if (stop.load()) return {};
    if (followed.ok()) {
      succeeded = true;
      if (followed->ended || arguments.once) {
        print_end(*followed, directory, arguments.as_json);
        return {};
      }
    } else if (mirror.contradicted() || arguments.once || !succeeded) {
      // What was served is wrong, or there was nothing to judge.
      if (followed.error().kind == ErrorKind::kWrong) set_failure_code(1);
      return followed.error();
    } else {
      tell("naite: {}; trying again\n", followed.error().message);
    }
    sleep_or_stop(stop, arguments.interval);
  }
  return {};
}

}  // namespace

void add_follow(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<FollowArguments>();
  CLI::App* command =
      app.add_subcommand("follow", "Keep a copy of a published run, checkpoint by checkpoint");
  command->add_option("url", arguments->url, "Address of the run (http or https)")->required();
  command->add_option("directory", arguments->directory,
                      "Folder of the copy (default: the last name of the address)");
  command->add_flag("--once", arguments->once, "Bring what is there and end");
  command->add_option("--policy", arguments->policy, "Whom you trust (TOML, docs/VERIFYING.md)");
  command->add_option("--interval", arguments->interval, "Seconds between two looks")
      ->capture_default_str()
      ->check(CLI::Range(0.05, 86400.0));
  command->add_flag("--json", arguments->as_json, "Print one JSON object for each checkpoint");
  command->footer(
      "Example: naite follow https://example.org/runs/quickstart quickstart\n"
      "Ends when the run has ended; Ctrl-C stops it, and it goes on where it was. Exits 1 at once "
      "if "
      "the log\nwas cut off or tells another history than before, 2 if nothing could be brought.");
  command->callback([arguments, &exit_code] {
    set_failure_code(2);
    const Status status = run_follow(*arguments);
    exit_code = status.ok() ? 0 : report_error(status.error());
  });
}

}  // namespace naite::cmd
