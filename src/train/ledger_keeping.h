// SPDX-License-Identifier: Apache-2.0
#pragma once
// The ledger of a run under way (record/run_ledger.h): when what is entered, and what of that which
// lies in the run's folders is the run's own.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ledger/witness.h"
#include "record/run_ledger.h"
#include "train/recipe.h"

namespace naite::train {

class LedgerKeeping {
 public:
  using Note = std::function<void(const std::string& line)>;
  // Both outlive this; the seeds of `curriculum` are set by settle_seed().
  LedgerKeeping(const record::RunDirectory& run, Curriculum& curriculum, Note note)
      : run_(run), curriculum_(curriculum), note_(std::move(note)) {}

  // Opens the ledger and commits before anything is trained. `states` are those that are stored.
  Status begin(const std::vector<record::RunDirectory::State>& states,
               const std::filesystem::path& keys, const std::vector<ledger::Witness>& witnesses,
               const data::Manifest& manifest, const std::optional<formats::Branch>& branch,
               const std::atomic<bool>* stop);
  // The seed that the ledger has, from now on in every stage; false while a beacon's value is
  // missing.
  Result<bool> settle_seed(const std::string& beacon_value);
  Status initial(const std::map<std::string, std::string>& tensors);
  // The newest of `states` that this run stored: an autosave with its signature, or a state that
  // the log has, with the logged files. A killed process may have stored one and not come to enter
  // it: that one is made again. None: the run has to begin.
  Result<std::optional<record::RunDirectory::State>> newest_own(
      const std::vector<record::RunDirectory::State>& states) const;
  // Whether the log has what lies at `path`; and that its files are the logged ones.
  bool has(const std::filesystem::path& path) const;
  Status expect(const std::filesystem::path& path) const;
  Status step(int64_t step, const record::StepDigest& digest);

  // What the log claims now; nullptr without a log.
  const record::Commitment* claims() const { return ledger_ ? &ledger_->claims() : nullptr; }

  // The plan that the state after `step` followed; nothing without a log.
  std::optional<nlohmann::json> plan_of(int64_t step) const;

  // From the thread that writes states: steps before the state that they lead to, the state's entry
  // when it is there.
  Status flush(int64_t step);
  // Removes what lies at `path` without being the log's.
  Status make_room(const std::filesystem::path& path) const;
  Status sign(const std::filesystem::path& directory, const formats::Record& record,
              const std::string& name, int64_t step);
  Status sign_autosave(const std::filesystem::path& directory, int64_t step) const;
  Status stored(int64_t step, const std::filesystem::path& path, const formats::Record& record);

  // The run is done: enters its end, and waits for witnesses.
  Status end(int64_t step);
  void settle_witnesses();
  void tell_of_witnesses();

 private:
  std::string name_of(const std::filesystem::path& path) const;  // below the run

  const record::RunDirectory& run_;
  Curriculum& curriculum_;
  const Note note_;
  std::unique_ptr<record::RunLedger> ledger_;
};

}  // namespace naite::train
