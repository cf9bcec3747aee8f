// SPDX-License-Identifier: Apache-2.0
#include "train/ledger_keeping.h"

#include "train/commitment.h"

namespace naite::train {

namespace fs = std::filesystem;
using record::RunDirectory;

Status LedgerKeeping::begin(const std::vector<RunDirectory::State>& states, const fs::path& keys,
                            const std::vector<ledger::Witness>& witnesses,
                            const data::Manifest& manifest,
                            const std::optional<formats::Branch>& branch,
                            const std::atomic<bool>* stop) {
  if (!states.empty() && !fs::exists(run_.ledger())) {
    if (!curriculum_.first().beacon.empty())
      return fail("{} has no log, which a run with seed = \"beacon\" needs: restore {}",
                  run_.path().string(), run_.ledger().string());
    note_("no log: this run began without one");
    return {};
  }
  NAITE_ASSIGN(ledger_, record::RunLedger::open(run_, keys, curriculum_.first().name));
  if (ledger_->self_signed())
    note_("unsigned: the log is signed by a key of this run alone (see naite key new)");
  else
    note_(fmt::format("signed as {}", ledger_->vkey()));
  NAITE_TRY(ledger_->begin_witnessing(witnesses, stop));
  NAITE_ASSIGN(const record::Commitment commitment,
               commitment_of(curriculum_, manifest, branch ? branch->to_json() : nlohmann::json(),
                             run_.path()));
  return ledger_->commit(commitment, states.empty() ? 0 : states.back().step);
}

Result<bool> LedgerKeeping::settle_seed(const std::string& beacon_value) {
  if (!ledger_) return true;
  const Recipe& recipe = curriculum_.first();
  NAITE_ASSIGN(const std::optional<int64_t> seed,
               ledger_->seed(recipe.seed, recipe.beacon, beacon_value));
  if (!seed) {
    note_(
        fmt::format("committed in {}; when the value of {} is public, give it with "
                    "--beacon-value",
                    run_.ledger().string(), recipe.beacon));
    return false;
  }
  for (Recipe& stage : curriculum_.stages) stage.seed = *seed;
  return true;
}

Status LedgerKeeping::initial(const std::map<std::string, std::string>& tensors) {
  return ledger_ ? ledger_->initial(tensors) : Status();
}

Status LedgerKeeping::catch_up(const std::vector<RunDirectory::State>& states) {
  if (!ledger_) return {};
  for (const RunDirectory::State& state : states) {
    if (state.path.parent_path() == run_.autosaves()) continue;
    NAITE_ASSIGN(const formats::Record record, formats::Record::read(state.path));
    NAITE_TRY(stored(state.step, state.path, record));
  }
  return {};
}

Status LedgerKeeping::step(int64_t step, const record::StepDigest& digest) {
  return ledger_ ? ledger_->step(step, digest) : Status();
}

Status LedgerKeeping::flush(int64_t step) { return ledger_ ? ledger_->flush(step) : Status(); }

Status LedgerKeeping::sign(const fs::path& directory, const formats::Record& record,
                           const std::string& name, int64_t step) {
  return ledger_ ? ledger_->sign_checkpoint(directory, record, name, step) : Status();
}

Status LedgerKeeping::stored(int64_t step, const fs::path& path, const formats::Record& record) {
  if (!ledger_) return {};
  record::StoredState out;
  out.checkpoint = path.parent_path() == run_.checkpoints();
  out.step = step;
  out.end_token = curriculum_.stage_of(step).tokens_at(step);
  out.directory = path.lexically_relative(run_.path()).generic_string();
  return ledger_->stored(out, record);
}

Status LedgerKeeping::end(int64_t step) {
  if (!ledger_ || step < curriculum_.total_steps()) return {};
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, run_.states());
  NAITE_ASSIGN(const formats::Record record, formats::Record::read(states.back().path));
  return ledger_->end(step, record.state_digest);
}

void LedgerKeeping::settle_witnesses() {
  if (ledger_ && ledger_->witnesses() != nullptr) ledger_->witnesses()->settle();
  tell_of_witnesses();
}

void LedgerKeeping::tell_of_witnesses() {
  if (!ledger_ || ledger_->witnesses() == nullptr) return;
  for (const std::string& note : ledger_->witnesses()->take_notes()) note_(note);
}

}  // namespace naite::train
