// SPDX-License-Identifier: Apache-2.0
#include "record/run_log.h"

#include <chrono>
#include <thread>

namespace naite::record {

namespace fs = std::filesystem;

namespace {

constexpr int kAttempts = 20;
constexpr auto kPause = std::chrono::milliseconds(50);

}  // namespace

// Training goes on meanwhile: heads are replaced and old partial tiles removed. What was read
// between two equal heads belongs together.
Result<RunLog> read_log_at_rest(const fs::path& directory) {
  for (int attempt = 1;; ++attempt) {
    NAITE_ASSIGN(std::string before, read_file(directory / ledger::kHeadFile));
    Result<ledger::LogContent> log = ledger::read_log(directory);
    NAITE_ASSIGN(const std::string after, read_file(directory / ledger::kHeadFile));
    if (before == after && log.ok()) return RunLog{std::move(before), "", *std::move(log)};
    if (attempt == kAttempts)
      return log.ok() ? fail("{} does not come to rest", directory.string()) : log.error();
    std::this_thread::sleep_for(kPause);
  }
}

Result<RunLog> read_run_log(const RunDirectory& run) {
  NAITE_ASSIGN(RunLog out, read_log_at_rest(run.ledger()));
  NAITE_ASSIGN(out.vkey, read_file(run.ledger() / "vkey"));
  std::string_view vkey = out.vkey;
  if (vkey.ends_with('\n')) vkey.remove_suffix(1);
  NAITE_ASSIGN(const ledger::Verifier verifier, ledger::Verifier::parse(vkey));
  NAITE_ASSIGN(const bool is_signed, ledger::verify_note(out.log.note, verifier));
  if (!is_signed || out.log.head.origin != verifier.name)
    return fail("the head of {} is not signed by its key", run.ledger().string());
  return out;
}

}  // namespace naite::record
