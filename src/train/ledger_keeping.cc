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
  if (!states.empty() && !fs::exists(run_.ledger()))
    return fail(
        "{} has states, but no log that says which of them are its own: restore {}, or choose "
        "another --run",
        run_.path().string(), run_.ledger().string());
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
  const Recipe& recipe = curriculum_.first();
  NAITE_ASSIGN(const std::optional<int64_t> seed,
               ledger_->seed(recipe.seed, recipe.beacon, beacon_value));
  if (!seed) {
    note_(
        fmt::format("committed in {}; when the value of {} is public, give it with "
                    "--beacon-value",
                    run_.ledger().string(), recipe.beacon));
    // What witnesses sign now, before the value is known, goes into the entry of the seed.
    settle_witnesses();
    return false;
  }
  for (Recipe& stage : curriculum_.stages) stage.seed = *seed;
  return true;
}

Status LedgerKeeping::initial(const std::map<std::string, std::string>& tensors) {
  return ledger_->initial(tensors);
}

Result<std::optional<RunDirectory::State>> LedgerKeeping::newest_own(
    const std::vector<RunDirectory::State>& states) const {
  for (auto state = states.rbegin(); state != states.rend(); ++state) {
    if (state->path.parent_path() == run_.autosaves()) {
      NAITE_TRY(ledger_->check_autosave(state->path, state->step));
      return std::optional(*state);
    }
    if (!has(state->path)) {
      note_(fmt::format("{} is not in the log and is not used", state->path.string()));
      continue;
    }
    NAITE_TRY(expect(state->path));
    return std::optional(*state);
  }
  return std::optional<RunDirectory::State>();
}

std::optional<nlohmann::json> LedgerKeeping::plan_of(int64_t step) const {
  if (!ledger_) return std::nullopt;
  std::optional<nlohmann::json> out;
  for (const record::PlanInForce& plan : ledger_->history().plans())
    if (!out || plan.after < step) out = plan.plan;
  return out;
}

bool LedgerKeeping::has(const fs::path& path) const {
  return ledger_->find(name_of(path)) != nullptr;
}

Status LedgerKeeping::expect(const fs::path& path) const {
  const record::StoredState* const logged = ledger_->find(name_of(path));
  if (logged == nullptr) return fail("{} is not in the log of the run", path.string());
  NAITE_ASSIGN(const ledger::ModelManifest found, record::recorded_manifest(path));
  if (ledger::to_hex(found.digest()) == logged->manifest) return {};
  return fail(
      "{} holds another state than the log of the run has: remove it to go on from an earlier one",
      path.string());
}

Status LedgerKeeping::make_room(const fs::path& path) const {
  std::error_code code;
  return fs::exists(path, code) && !has(path) ? remove_tree(path) : Status();
}

std::string LedgerKeeping::name_of(const fs::path& path) const {
  return path.lexically_relative(run_.path()).generic_string();
}

Status LedgerKeeping::step(int64_t step, const record::StepDigest& digest) {
  return ledger_->step(step, digest);
}

Status LedgerKeeping::flush(int64_t step) { return ledger_->flush(step); }

Status LedgerKeeping::sign(const fs::path& directory, const formats::Record& record,
                           const std::string& name, int64_t step) {
  return ledger_->sign_checkpoint(directory, record, name, step);
}

Status LedgerKeeping::sign_autosave(const fs::path& directory, int64_t step) const {
  return ledger_->sign_autosave(directory, step);
}

Status LedgerKeeping::stored(int64_t step, const fs::path& path, const formats::Record& record) {
  record::StoredState out;
  out.checkpoint = path.parent_path() == run_.checkpoints();
  out.step = step;
  out.end_token = curriculum_.stage_of(step).tokens_at(step);
  out.directory = name_of(path);
  return ledger_->stored(out, record);
}

Status LedgerKeeping::end(int64_t step) {
  if (step < curriculum_.total_steps()) return {};
  return ledger_->end(step, ledger_->states().back().state);
}

void LedgerKeeping::settle_witnesses() {
  if (ledger_->witnesses() != nullptr) ledger_->witnesses()->settle();
  tell_of_witnesses();
}

void LedgerKeeping::tell_of_witnesses() {
  if (ledger_->witnesses() == nullptr) return;
  for (const std::string& note : ledger_->witnesses()->take_notes()) note_(note);
}

}  // namespace naite::train
