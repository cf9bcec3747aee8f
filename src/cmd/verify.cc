// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cmd/cmd.h"
#include "ledger/keys.h"
#include "verify/mirror.h"
#include "verify/signed_report.h"
#include "verify/verify.h"

namespace naite::cmd {

namespace {

struct VerifyArguments {
  std::string run, from, to, shard, policy, text, cache, report, keys;
  std::vector<std::string> combine;
  int64_t sample = 0;
  int threads = 0;
  bool all = false, as_json = false, fail_fast = false;
};

Result<verify::Selection> selection_of(const VerifyArguments& arguments) {
  verify::Selection out;
  const bool range = !arguments.from.empty() || !arguments.to.empty();
  if (range + arguments.all + (arguments.sample > 0) + !arguments.combine.empty() > 1)
    return fail("choose one of --from with --to, --sample, --all, --combine");
  if (!arguments.combine.empty()) {
    out.kind = verify::Selection::Kind::kReports;
    out.reports.assign(arguments.combine.begin(), arguments.combine.end());
  }
  if (range) {
    if (arguments.from.empty() || arguments.to.empty()) return fail("--from and --to go together");
    out.kind = verify::Selection::Kind::kRange;
    out.from = arguments.from;
    out.to = arguments.to;
  }
  if (arguments.sample > 0) {
    out.kind = verify::Selection::Kind::kSample;
    out.sample = arguments.sample;
  }
  if (arguments.all) out.kind = verify::Selection::Kind::kAll;
  if (!arguments.shard.empty()) {
    int64_t shard = 0, count = 0;
    char rest = 0;
    const bool valid =
        std::sscanf(arguments.shard.c_str(), "%ld/%ld%c", &shard, &count, &rest) == 2;
    if (!arguments.all || !valid || shard < 1 || shard > count)
      return fail("--shard i/n goes with --all and needs 1 <= i <= n, for example --shard 2/3");
    out.shard = shard;
    out.num_shards = count;
  }
  return out;
}

std::string_view mark_of(verify::Outcome outcome) {
  switch (outcome) {
    case verify::Outcome::kHolds:
      return "holds";
    case verify::Outcome::kFails:
      return "FAILS";
    case verify::Outcome::kOpen:
      return "open ";
    default:
      return "can't";
  }
}

void print_report(const verify::Report& report) {
  for (const verify::Check& check : report.checks)
    put("{}  {:<10} {}\n", mark_of(check.outcome), check.name, check.detail);
  for (const verify::Replay& replay : report.replays)
    put("{}  steps {} to {}: {} ({})\n", replay.same_bits ? "holds" : "FAILS",
        replay.first_step + 1, replay.end_step, replay.same_bits ? "same bits" : "other bits",
        replay.why);
  const int64_t replayed = static_cast<int64_t>(report.replays.size());
  if (replayed > 0 && replayed < report.num_intervals)
    put("The chance to have missed a forgery: {:.3g} if a tenth of the intervals were forged, "
        "{:.3g} if one was.\n",
        report.miss_tenth, report.miss_one);
  for (const verify::Verdict& verdict : report.verdicts)
    put("{:<13} {}: {}\n", verdict.component, verdict.verdict, verdict.reason);
  const nlohmann::json verifier = report.to_json()["verifier"];
  put("Verified by naite {} ({}, {}, binary {}).\n", verifier["version"].get<std::string>(),
      verifier["source_commit"].get<std::string>(), verifier["compiler"].get<std::string>(),
      verifier["binary_sha256"].get<std::string>().substr(0, 16));
  put("{}\n", report.sentence);
}

// The copy that a run's address stands for.
Result<std::optional<verify::Mirror>> mirror_of(const VerifyArguments& arguments,
                                                const verify::VerifyRequest& request) {
  if (!ledger::is_http_url(arguments.run)) {
    if (arguments.cache.empty()) return std::optional<verify::Mirror>();
    return fail("--cache goes with an address (http:// or https://)");
  }
  ledger::HttpOptions options;
  options.stop = request.stop;
  const std::filesystem::path directory = arguments.cache.empty()
                                              ? verify::Mirror::default_directory(arguments.run)
                                              : std::filesystem::path(arguments.cache);
  verify::Mirror::Progress progress;
  if (request.progress)
    progress = [show = request.progress](const std::string& file, int64_t done, int64_t total) {
      show({file, done, total});
    };
  NAITE_ASSIGN(verify::Mirror mirror,
               verify::Mirror::open(arguments.run, directory, options, std::move(progress)));
  return std::optional<verify::Mirror>(std::move(mirror));
}

// What cannot be signed: a report about nothing, or one of a verifier who could not look.
Status write_report(const verify::Report& report, const ledger::Keys& keys,
                    const std::string& file) {
  if (report.answer() == verify::Answer::kUnchecked)
    return fail("no report was written: what could not be checked is nothing to sign");
  NAITE_ASSIGN(const std::string signed_report, verify::sign_report(report, keys.log));
  return write_file(file, signed_report);
}

int exit_code_of(verify::Answer answer) {
  switch (answer) {
    case verify::Answer::kHolds:
      return 0;
    case verify::Answer::kContradicted:
      return 1;
    default:
      return 2;
  }
}

Result<int> run_verify(const VerifyArguments& arguments) {
  verify::VerifyRequest request;
  request.run = arguments.run;
  request.text = arguments.text;
  request.fail_fast = arguments.fail_fast;
  if (!arguments.text.empty() && !std::filesystem::is_directory(arguments.text))
    return fail("--text {} is no folder", arguments.text);
  NAITE_ASSIGN(request.replay, selection_of(arguments));
  std::optional<ledger::Keys> keys;
  if (arguments.report.empty() != arguments.keys.empty())
    return fail("--report FILE and --keys DIRECTORY go together: a report is signed");
  if (!arguments.keys.empty()) {
    NAITE_ASSIGN(keys, ledger::load_keys(arguments.keys));
  }
  if (!arguments.policy.empty()) {
    NAITE_ASSIGN(request.policy, verify::Policy::load(arguments.policy));
  }
  NAITE_ASSIGN(const Machine machine, make_machine(arguments.threads));
  request.stop = &watch_signals(failure_code());
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  bool shown = false;
  if (terminal)
    request.progress = [&](const verify::Progress& p) {
      const std::string share =
          p.total > 0 ? fmt::format(" {}%", 100 * p.done / p.total) : std::string();
      tell("\r\033[K{}{}", p.phase, share);
      shown = true;
    };
  NAITE_ASSIGN(std::optional<verify::Mirror> mirror, mirror_of(arguments, request));
  if (mirror) {
    request.source = &*mirror;
    request.run = mirror->path();
  }
  const Result<verify::Report> report = verify::verify(request, *machine.kernels, *machine.pool);
  if (shown) tell("\r\033[K");
  if (!report) return report.error();
  if (arguments.as_json)
    put_json(report->to_json(), 2);
  else
    print_report(*report);
  if (keys) NAITE_TRY(write_report(*report, *keys, arguments.report));
  return exit_code_of(report->answer());
}

}  // namespace

void add_verify(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<VerifyArguments>();
  CLI::App* command = app.add_subcommand("verify", "Check a run, and train parts of it again");
  command->add_option("run", arguments->run, "Run directory, or address of a published run")
      ->required();
  command->add_option("--from", arguments->from, "Replay from this stored state (name or step)");
  command->add_option("--to", arguments->to, "... to this one");
  command
      ->add_option("--sample", arguments->sample,
                   "Replay so many intervals: the first, those of large change, random ones")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command->add_flag("--all", arguments->all, "Replay every interval");
  command->add_option("--shard", arguments->shard, "With --all: only part i of n, as i/n");
  command->add_option("--cache", arguments->cache,
                      "Folder for what is fetched from an address (default: below ~/.cache/naite)");
  command->add_option("--report", arguments->report,
                      "Write what was found into this file, signed with --keys");
  command->add_option("--keys", arguments->keys, "Your own directory of naite key new");
  command->add_option("--combine", arguments->combine,
                      "Reports of others: check them, and that they cover the whole run");
  command->add_option("--policy", arguments->policy, "Whom you trust (TOML, docs/VERIFYING.md)");
  command->add_option("--text", arguments->text,
                      "Folder with the raw text that the recipe names: pack it again and compare");
  command->add_option("--threads", arguments->threads, "Threads (default: all usable processors)")
      ->check(CLI::Range(1, 4096));
  command->add_flag("--fail-fast", arguments->fail_fast, "End at the first check that fails");
  command->add_flag("--json", arguments->as_json, "Print the report as JSON");
  command->footer(
      "Example: naite verify runs/quickstart --sample 4 --text .\n"
      "Example: naite verify https://example.org/runs/quickstart --from 294 --to 367\n"
      "Example: naite verify RUN --all --shard 2/5 --report second.report --keys ~/keys\n"
      "Example: naite verify RUN --combine *.report --policy policy.toml\n"
      "Exits 0 if everything that was checked holds, 1 if something contradicts it, 2 if it could "
      "not be\nchecked, or was asked for wrongly.");
  command->callback([arguments, &exit_code] {
    set_failure_code(2);
    const Result<int> code = run_verify(*arguments);
    exit_code = code.ok() ? *code : report_error(code.error());
  });
}

}  // namespace naite::cmd
