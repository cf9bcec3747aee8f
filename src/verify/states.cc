// SPDX-License-Identifier: Apache-2.0
#include "verify/states.h"

#include <algorithm>
#include <map>
#include <set>

#include "ledger/ledger.h"
#include "train/content.h"

namespace naite::verify {

namespace fs = std::filesystem;
using record::StoredState;

Status States::model_signature(const StoredState& state) const {
  const fs::path file = setting_.run.path() / state.directory / ledger::kModelSignatureFile;
  const std::string& pem = history_.commitment.model_key;
  std::error_code code;
  if (pem.empty()) {
    if (!fs::exists(file, code)) return {};
    return fail("{} is there, but the log names no key for it", file.string());
  }
  NAITE_ASSIGN(const ledger::ModelKey key, ledger::ModelKey::parse_public(pem));
  NAITE_TRY(plain_text_file(file));
  NAITE_ASSIGN(const std::string text, read_file(file));
  NAITE_ASSIGN(const ledger::ModelSignature signature,
               ledger::ModelSignature::parse(text, file.string()));
  NAITE_ASSIGN(const std::string expected, signature.text());
  if (text != expected) return fail("{} is spelled otherwise than naite does", file.string());
  if (!signature.is_signed_by(key))
    return fail("{} is not signed by the key of the log", file.string());
  if (ledger::to_hex(signature.manifest.digest()) != state.manifest)
    return fail("{} signs other files", file.string());
  return {};
}

// Every file of a stored state is there, is the one that the log has, and has none beside it.
Status States::state_bytes(const StoredState& state) const {
  const fs::path directory = setting_.run.path() / state.directory;
  if (!fs::is_directory(directory))
    return missing("{} is in the log and cannot be found", state.directory);
  NAITE_ASSIGN(record::StoredCheckpoint* const stored, setting_.states.open(directory));
  NAITE_ASSIGN(const ledger::ModelManifest manifest, stored->manifest());
  if (ledger::to_hex(manifest.digest()) == state.manifest) return {};
  NAITE_TRY(stored->check_files());
  return fail("{}: its files are not those that the log has", state.directory);
}

Result<Finding> States::bytes() const {
  const std::vector<const StoredState*> newest = history_.newest_states();
  int64_t done = 0;
  for (const StoredState* state : newest) {
    if (setting_.stopped()) return fail("interrupted");
    setting_.progress("checking files", done++, static_cast<int64_t>(newest.size()));
    NAITE_TRY(state_bytes(*state));
  }
  return Finding{fmt::format("{} states: every file is the one that was logged", newest.size())};
}

// What stands in the directory of a stored state against the log, and against what the recipe says
// must stand there.
Status States::state_content(const StoredState& state) {
  const fs::path directory = setting_.run.path() / state.directory;
  const train::Recipe& stage = claims_.stage_that_stored(state);
  NAITE_ASSIGN(record::StoredCheckpoint* const stored, setting_.states.open(directory));
  NAITE_ASSIGN(const formats::CheckpointDigests digests, stored->digests());
  if (digests.weights != state.weights || digests.state != state.state)
    return fail("{}: weights or training state are not those that the log has", state.directory);
  NAITE_ASSIGN(const formats::Cursor cursor, stored->cursor());
  if (cursor != claims_.curriculum().cursor(state.step))
    return fail("{}: the cursor is not that of step {}", state.directory, state.step);
  NAITE_TRY(claims_.stepper().open(stage));
  NAITE_TRY(formats::check_model_files(
      directory, train::content_of(stage, claims_.stepper().model(), claims_.tokenizer(),
                                   setting_.run.path())));
  return state.checkpoint ? model_signature(state) : Status();
}

// Over HTTP, a range needs the first state, those inside it, and those that averages in it are made
// of. Without a range, and of a run at hand, every state is looked at.
bool States::is_asked_for(const StoredState& state) const {
  const Selection& selection = setting_.request.replay;
  if (setting_.source.is_whole() || selection.kind != Selection::Kind::kRange) return true;
  int64_t from = -1, to = -1;
  for (const StoredState& other : history_.stored) {
    if (from < 0 && is_named(other, selection.from)) from = other.step;
    if (from >= 0 && is_named(other, selection.to)) to = other.step;
  }
  if (state.step == history_.commitment.first_step()) return true;
  if (state.step >= from && state.step <= to) return true;
  const train::Recipe& stage = claims_.stage_that_stored(state);
  const std::vector<int64_t> averaging = stage.averaging_steps();
  const bool average_inside = std::any_of(averaging.begin(), averaging.end(),
                                          [&](int64_t step) { return step > from && step <= to; });
  return average_inside && state.step < from && stage.averages_at(state.step);
}

// Nothing lies beside the states that the log has.
Status States::no_others(const std::vector<const StoredState*>& known) const {
  std::set<std::string> logged;
  for (const StoredState* state : known) logged.insert(state->directory);
  for (const fs::path& parent : {setting_.run.checkpoints(), setting_.run.audits()}) {
    if (!fs::exists(parent)) continue;
    NAITE_ASSIGN(const std::vector<std::string> names, list_directory(parent));
    for (const std::string& name : names)
      if (!logged.contains(parent.filename().string() + "/" + name))
        return fail("{} is not in the log", (parent / name).string());
  }
  return {};
}

Result<Finding> States::states() {
  const std::vector<const StoredState*> newest = history_.newest_states();
  int64_t done = 0;
  for (const StoredState* state : newest) {
    if (setting_.stopped()) return fail("interrupted");
    if (!is_asked_for(*state)) continue;
    setting_.progress("checking states", done++, static_cast<int64_t>(newest.size()));
    NAITE_TRY(setting_.source.fetch_state(history_, *state));
    NAITE_TRY(state_bytes(*state));
    NAITE_TRY(state_content(*state));
  }
  NAITE_TRY(no_others(newest));
  if (done < static_cast<int64_t>(newest.size()))
    return Finding{fmt::format("{} of {} states fetched: every file and digest as logged; the "
                               "others were not looked at",
                               done, newest.size()),
                   Outcome::kOpen};
  return Finding{fmt::format("{} states: every file, digest{} as logged", newest.size(),
                             history_.commitment.model_key.empty() ? "" : " and signature")};
}

Result<Finding> States::distinct() const {
  std::map<std::string, int64_t> seen;
  for (const StoredState& state : history_.stored) {
    const auto [it, is_new] = seen.emplace(state.weights, state.step);
    if (!is_new && it->second != state.step)
      return fail("the states after steps {} and {} have the same weights", it->second, state.step);
  }
  return Finding{fmt::format("{} states, no two with the same weights", seen.size())};
}

Result<Finding> States::end() const {
  const int64_t delivered = history_.last_step();
  const std::string detail =
      fmt::format("{} of {} planned steps", delivered, history_.commitment.steps);
  if (history_.abandoned) return Finding{"abandoned after " + detail, Outcome::kOpen};
  if (!history_.ended) return Finding{"not ended: " + detail, Outcome::kOpen};
  return Finding{detail + " delivered"};
}

}  // namespace naite::verify
