// SPDX-License-Identifier: Apache-2.0
#include "verify/autosaves.h"

#include "ledger/ledger.h"
#include "record/autosave.h"
#include "record/published.h"
#include "record/run_log.h"

namespace naite::verify {

namespace fs = std::filesystem;

namespace {

// What a process that was killed left half written is nothing yet.
Result<std::vector<std::string>> names_of(const record::RunDirectory& run) {
  std::error_code code;
  if (!fs::exists(run.autosaves(), code)) return std::vector<std::string>();
  NAITE_ASSIGN(std::vector<std::string> names, list_directory(run.autosaves()));
  std::erase_if(names, [](const std::string& name) { return name.starts_with(".tmp-"); });
  return names;
}

// The record is signed; it lists files of a state, and nothing lies beside them.
Status no_other_files(const record::StoredCheckpoint& stored) {
  const fs::path& path = stored.directory();
  NAITE_TRY(record::published_state(stored.record(), false, 0, (path / "record.json").string()));
  NAITE_ASSIGN(const std::vector<std::string> names, ledger::ModelManifest::names_in(path));
  for (const std::string& name : names)
    if (name != "record.json" && name != record::kAutosaveSignature &&
        !stored.record().files.contains(name))
      return fail("{} is no file of an autosave", (path / name).string());
  return {};
}

}  // namespace

bool has_autosaves(const Setting& setting) {
  const Result<std::vector<std::string>> names = names_of(setting.run);
  return !names.ok() || !names->empty();
}

Result<Finding> autosaves(const Setting& setting, const record::RunHistory& history) {
  NAITE_ASSIGN(const std::vector<std::string> names, names_of(setting.run));
  NAITE_ASSIGN(const record::RunLog log, record::read_run_log(setting.run));
  NAITE_ASSIGN(const ledger::Verifier signer, ledger::Verifier::parse(history.commitment.vkey));
  for (const std::string& name : names) {
    const fs::path path = setting.run.autosaves() / name;
    NAITE_ASSIGN(record::StoredCheckpoint stored,
                 record::StoredCheckpoint::open(path, setting.pool));
    NAITE_ASSIGN(const formats::Cursor cursor, stored.cursor());
    if (path != setting.run.autosave(cursor.step))
      return fail("{} is not the name of an autosave after step {}", path.string(), cursor.step);
    NAITE_TRY(record::check_autosave(path, cursor.step, signer, log.log.leaves));
    NAITE_TRY(no_other_files(stored));
    NAITE_TRY(stored.check_files());
  }
  return Finding{
      fmt::format("{} after the last state, signed with the log's key; not replayed", names.size()),
      Outcome::kOpen};
}

}  // namespace naite::verify
