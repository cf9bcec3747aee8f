// SPDX-License-Identifier: Apache-2.0
#include "verify/states.h"

#include <algorithm>
#include <map>
#include <set>

#include "ledger/ledger.h"
#include "record/provenance.h"
#include "record/published.h"
#include "record/run_files.h"

namespace naite::verify {

namespace fs = std::filesystem;
using record::StoredState;

// Every file of a stored state is there, is the one that the log has, and has none beside it.
Status States::state_bytes(const StoredState& state) const {
  const fs::path directory = setting_.run.path() / state.directory;
  if (!fs::is_directory(directory))
    return missing("{} is in the log and cannot be found", state.directory);
  NAITE_TRY(record::check_state_names(directory, state.checkpoint, history_.commitment.parameters));
  NAITE_ASSIGN(record::StoredCheckpoint* const stored, setting_.states.open(directory));
  NAITE_ASSIGN(const ledger::ModelManifest manifest, stored->manifest());
  if (ledger::to_hex(manifest.digest()) == state.manifest) return {};
  NAITE_TRY(stored->check_files());
  return fail("{}: its files are not those that the log has", state.directory);
}

Result<Finding> States::bytes() const {
  const std::vector<StoredState>& stored = history_.stored;
  int64_t done = 0;
  for (const StoredState& state : stored) {
    if (setting_.stopped()) return fail("interrupted");
    setting_.progress("checking files", done++, static_cast<int64_t>(stored.size()));
    NAITE_TRY(state_bytes(state));
  }
  return Finding{fmt::format("{} states: every file is the one that was logged", stored.size())};
}

Result<train::StateSetting> States::setting_of(const StoredState& state) {
  const train::Recipe& stage = claims_.stage_that_stored(state);
  NAITE_TRY(claims_.stepper().open(stage));
  return train::StateSetting{claims_.curriculum(),      stage,
                             claims_.stepper().model(), claims_.stepper().loader(),
                             claims_.manifest(),        claims_.tokenizer(),
                             setting_.run.path()};
}

Result<ExpectedStates> States::expected(const StoredState& state, const formats::Record& claimed) {
  NAITE_ASSIGN(const train::StateSetting setting, setting_of(state));
  // What the log leaves open of it, all states say alike.
  if (claimed.branch && !history_.commitment.branch.is_null() && !history_.commitment.parent()) {
    if (!older_branch_) older_branch_ = claimed.branch;
    if (older_branch_->to_json() != claimed.branch->to_json())
      return fail("{}: record.json names another origin than the states before", state.directory);
  }
  return expected_states(history_, state, setting, claimed);
}

// Every byte of the directory of a stored state is what the log, the recipe and the tensors make of
// it, and the tensors are those of the log.
Status States::state_content(const StoredState& state) {
  const fs::path directory = setting_.run.path() / state.directory;
  NAITE_ASSIGN(record::StoredCheckpoint* const stored, setting_.states.open(directory));
  NAITE_ASSIGN(const ExpectedStates wanted, expected(state, stored->record()));
  NAITE_TRY(check_state_files(*stored, wanted));
  if (state.step == history_.commitment.first_step()) NAITE_TRY(check_parent(state, *stored));
  NAITE_ASSIGN(const formats::CheckpointDigests digests, stored->digests());
  if (digests.weights != state.weights || digests.state != state.state)
    return fail("{}: weights or training state are not those that the log has", state.directory);
  return state.checkpoint ? check_model_signature(directory, history_, state) : Status();
}

// A state without an entry has the steps, the recipe and its signature to answer to; what was
// measured there is its own word.
Status States::unentered_content(const std::string& directory) {
  const fs::path path = setting_.run.path() / directory;
  StoredState state;
  state.checkpoint = directory.starts_with("checkpoints/");
  state.step = history_.last_step();
  state.directory = directory;
  state.amendments = history_.amendments.size();
  NAITE_TRY(record::check_state_names(path, state.checkpoint, history_.commitment.parameters));
  NAITE_ASSIGN(record::StoredCheckpoint* const stored, setting_.states.open(path));
  if (state.step > history_.commitment.first_step())
    state.loss = std::bit_cast<double>(history_.step(state.step).loss);
  if (state.checkpoint) state.validation = stored->record().validation;
  NAITE_ASSIGN(const formats::CheckpointDigests digests, stored->digests());
  state.weights = digests.weights;
  state.state = digests.state;
  NAITE_ASSIGN(const ledger::ModelManifest manifest, stored->manifest());
  state.manifest = ledger::to_hex(manifest.digest());
  NAITE_ASSIGN(const ExpectedStates wanted, expected(state, stored->record()));
  NAITE_TRY(check_state_files(*stored, wanted));
  return state.checkpoint ? check_model_signature(path, history_, state) : Status();
}

// The state of another run that this one says it goes on from must be the state that it begins
// with: the same tensors under that run's cursor have the digest that the log names.
Status States::check_parent(const StoredState& first, record::StoredCheckpoint& stored) {
  if (!goes_on_from_known_state(history_.commitment)) return {};  // the verdict says "declared"
  const std::optional<formats::Branch> parent = history_.commitment.parent();
  const std::optional<formats::Cursor> cursor = parent->cursor();
  NAITE_ASSIGN(const std::string same_type, stored.state_digest_under(*cursor));
  if (same_type == parent->state_digest) return {};
  // The other run may store its weights in another precision.
  NAITE_ASSIGN(const train::StateSetting setting, setting_of(first));
  formats::TrainingState state = train::shape_of(setting, first.step);
  NAITE_TRY(stored.read(state));
  state.cursor = *cursor;
  for (const formats::StoredType type : {formats::StoredType::kF32, formats::StoredType::kBf16}) {
    if (type == setting.stage.weights_type()) continue;
    NAITE_ASSIGN(const formats::CheckpointDigests digests,
                 formats::state_digests(state, type, setting_.pool));
    if (digests.state == parent->state_digest) return {};
  }
  return fail("{} is not the state {} of another run that the log says it goes on from",
              first.directory, parent->state_digest);
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

// A checkpoint gets its name before its entry; a process that was killed between the two leaves the
// last one like this, until the run goes on.
bool States::is_on_its_way(const std::string& directory) const {
  const int64_t last = history_.last_step();
  if (history_.ended || history_.abandoned || history_.find(last) != nullptr) return false;
  const train::Recipe& stage = claims_.curriculum().stage_of(std::max<int64_t>(last - 1, 0));
  const fs::path path = setting_.run.path() / directory;
  return path == setting_.run.checkpoint(stage.stage, last, stage.tokens_at(last)) ||
         path == setting_.run.audit(last);
}

// Nothing lies beside the states that the log has. Returns the one that it is going to have.
Result<std::string> States::no_others() const {
  std::set<std::string> logged;
  for (const StoredState& state : history_.stored) logged.insert(state.directory);
  std::string unentered;
  for (const fs::path& parent : {setting_.run.checkpoints(), setting_.run.audits()}) {
    if (!fs::exists(parent)) continue;
    NAITE_ASSIGN(const std::vector<std::string> names, list_directory(parent));
    for (const std::string& name : names) {
      const std::string directory = parent.filename().string() + "/" + name;
      if (name.starts_with(".tmp-") || logged.contains(directory)) continue;
      if (!is_on_its_way(directory)) return fail("{} is not in the log", (parent / name).string());
      if (!unentered.empty())
        return fail("{} and {} are both not in the log", unentered, directory);
      unentered = directory;
    }
  }
  return unentered;
}

// Older programs made no bill of materials. One that does may have gone on with their run, which
// the log then says in an amendment; otherwise all checkpoints have one or none has.
Status States::bills() const {
  const StoredState* before = nullptr;
  bool had = false;
  for (const StoredState& state : history_.stored) {
    if (!state.checkpoint || !is_asked_for(state)) continue;
    NAITE_ASSIGN(record::StoredCheckpoint* const stored,
                 setting_.states.open(setting_.run.path() / state.directory));
    const bool has = stored->record().files.contains(record::kBillFile);
    if (before != nullptr && has != had && (had || state.amendments == 0))
      return fail("{}/{} is missing, other checkpoints have one",
                  has ? before->directory : state.directory, record::kBillFile);
    before = &state;
    had = has;
  }
  return {};
}

Result<Finding> States::states() {
  const std::vector<StoredState>& stored = history_.stored;
  int64_t done = 0;
  for (const StoredState& state : stored) {
    if (setting_.stopped()) return fail("interrupted");
    if (!is_asked_for(state)) continue;
    setting_.progress("checking states", done++, static_cast<int64_t>(stored.size()));
    NAITE_TRY(setting_.source.fetch_state(
        history_, state, [&](const formats::Record& claimed) { return expected(state, claimed); }));
    NAITE_TRY(state_bytes(state));
    NAITE_TRY(state_content(state));
  }
  NAITE_TRY(bills());
  NAITE_ASSIGN(const std::string unentered, no_others());
  NAITE_TRY(record::check_exact_files(setting_.run, claims_.manifest(), history_));
  if (!unentered.empty()) {
    NAITE_TRY(unentered_content(unentered));
    return Finding{fmt::format("{} states as logged; {} is not in the log yet, as after a kill: "
                               "nothing is said about its weights until training enters it",
                               stored.size(), unentered),
                   Outcome::kOpen};
  }
  if (done < static_cast<int64_t>(stored.size()))
    return Finding{fmt::format("{} of {} states fetched: every file and digest as logged; the "
                               "others were not looked at",
                               done, stored.size()),
                   Outcome::kOpen};
  return Finding{fmt::format("{} states: every file, digest{} as logged", stored.size(),
                             history_.commitment.model_key.empty() ? "" : " and signature")};
}

Result<Finding> States::distinct() const {
  std::map<std::string, int64_t> seen;
  for (const StoredState& state : history_.stored) {
    const auto [it, is_new] = seen.emplace(state.weights, state.step);
    if (!is_new)
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
