// SPDX-License-Identifier: Apache-2.0
#include "record/logged_states.h"

#include <algorithm>

#include "record/published.h"
#include "record/run_log.h"
#include "record/stored_checkpoint.h"

namespace naite::record {

namespace fs = std::filesystem;

namespace {

// By the names in the log: a place below the run, whoever wrote the log.
Result<fs::path> place_of(const RunDirectory& run, const StoredState& state) {
  const fs::path name(state.directory);
  const fs::path parent = state.checkpoint ? run.checkpoints() : run.audits();
  if (run.path() / name.parent_path() != parent || !is_plain_name(name.filename().string()))
    return fail("the log of {} names a state {}, which is no place in a run", run.path().string(),
                state.directory);
  return run.path() / name;
}

Result<fs::path> newest_checkpoint(const RunDirectory& run, Use use, ThreadPool& pool) {
  NAITE_ASSIGN(const RunHistory history, logged_history(run));
  for (auto state = history.stored.rbegin(); state != history.stored.rend(); ++state) {
    if (!state->checkpoint) continue;
    NAITE_ASSIGN(const fs::path path, place_of(run, *state));
    std::error_code code;
    if (!fs::exists(path, code)) continue;
    NAITE_TRY(check_logged(path, *state, use, pool));
    return path;
  }
  return fail("{} has no checkpoint yet: its log has none that lies there", run.path().string());
}

}  // namespace

bool is_run(const fs::path& directory) {
  std::error_code code;
  const RunDirectory run(directory);
  return fs::exists(run.ledger() / ledger::kHeadFile, code) ||
         (fs::exists(run.checkpoints(), code) && !fs::exists(directory / "config.json", code));
}

Result<RunHistory> logged_history(const RunDirectory& run) {
  std::error_code code;
  if (!fs::exists(run.ledger() / ledger::kHeadFile, code))
    return fail(
        "{} has no signed log that says which states are its own: restore {}, or name a checkpoint "
        "itself, such as {}",
        run.path().string(), run.ledger().string(), (run.checkpoints() / "NAME").string());
  NAITE_ASSIGN(const RunLog log, read_run_log(run));
  NAITE_ASSIGN(RunHistory history, RunHistory::parse(log.log.entries));
  if (log.vkey != fmt::format("{}\n", history.commitment.vkey))
    return fail("{} is not signed by the key that its commitment names", run.ledger().string());
  return history;
}

Status check_logged(const fs::path& directory, const StoredState& state, Use use,
                    ThreadPool& pool) {
  NAITE_ASSIGN(StoredCheckpoint stored, StoredCheckpoint::open(directory, pool));
  NAITE_ASSIGN(const ledger::ModelManifest recorded, recorded_manifest(directory, stored.record()));
  NAITE_ASSIGN(const std::vector<std::string> names, ledger::ModelManifest::names_in(directory));
  std::vector<std::string> listed;
  for (const auto& [file, digest] : recorded.files) listed.push_back(file);
  if (ledger::to_hex(recorded.digest()) != state.manifest || names != listed)
    return fail(
        "{} does not hold the files that the log has for it: restore it from a copy, or move it "
        "away to use an earlier checkpoint",
        directory.string());
  return stored.check_files(use == Use::kState);
}

Result<fs::path> find_model(const fs::path& path, Use use, ThreadPool& pool) {
  std::error_code code;
  if (!fs::exists(path, code)) return fail("{} does not exist", path.string());
  if (!fs::is_directory(path, code)) return path;
  if (is_run(path)) return newest_checkpoint(RunDirectory(path), use, pool);
  if (!fs::exists(path / "record.json", code)) return path;
  NAITE_ASSIGN(StoredCheckpoint stored, StoredCheckpoint::open(path, pool));
  NAITE_TRY(stored.check_files(use == Use::kState));
  return path;
}

Result<std::vector<fs::path>> logged_checkpoints(const fs::path& run_path, ThreadPool& pool) {
  const RunDirectory run(run_path);
  NAITE_ASSIGN(const RunHistory history, logged_history(run));
  std::vector<fs::path> out;
  for (const StoredState& state : history.stored) {
    if (!state.checkpoint) continue;
    NAITE_ASSIGN(fs::path path, place_of(run, state));
    std::error_code code;
    if (!fs::exists(path, code)) continue;
    NAITE_TRY(check_logged(path, state, Use::kState, pool));
    out.push_back(std::move(path));
  }
  if (out.empty()) return fail("{} has no checkpoint yet", run_path.string());
  return out;
}

Result<bool> check_claims(const fs::path& run_path, const std::vector<std::string>& files) {
  const RunDirectory run(run_path);
  std::error_code code;
  if (!fs::exists(run.ledger() / ledger::kHeadFile, code)) return false;
  NAITE_ASSIGN(const RunHistory history, logged_history(run));
  for (const PublishedFile& file : published_claims(history)) {
    if (std::find(files.begin(), files.end(), file.path) == files.end()) continue;
    NAITE_ASSIGN(const std::string found, sha256_file(run.path() / file.path));
    if (found != file.sha256)
      return fail("{} is not the file that the log commits to: restore it from a copy",
                  (run.path() / file.path).string());
  }
  return true;
}

}  // namespace naite::record
