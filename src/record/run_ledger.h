// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a run writes into its signed log, RUN/ledger/, entry by entry as record/history.h reads it.
//
// What is written is held to the rules of what is read: an entry that a reader would refuse is not
// entered. In step with the disk: steps are logged before the state that they lead to is stored, a
// state only when it is stored. A run that was killed and goes on therefore meets steps that are
// logged already; they must give the logged bits, and are not entered again. Without keys the log
// is signed by a key that is made for the run (RUN/.run-key), which vouches for nobody. With keys,
// the log of runs of that publisher (KEYS/ledger/) lists every run before its first step, and
// RUN/ledger/publisher/ holds a copy.
//
// step() belongs to the training thread; the rest is called by one thread at a time, which may be
// another one.
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "ledger/ledger.h"
#include "record/history.h"
#include "record/run_directory.h"
#include "record/stored_checkpoint.h"
#include "record/witnesses.h"

namespace naite::record {

class RunLedger {
 public:
  // Opens the log in the run's directory or begins one. `keys`: the publisher's directory of keys;
  // empty: none.
  static Result<std::unique_ptr<RunLedger>> open(const RunDirectory& directory,
                                                 const std::filesystem::path& keys,
                                                 const std::string& run_name);

  // From now on, witnesses are shown every new head, and this one.
  Status begin_witnessing(const std::vector<ledger::Witness>& witnesses,
                          const std::atomic<bool>* stop);
  Witnesses* witnesses() { return witnesses_.get(); }  // nullptr: there are none

  bool self_signed() const { return !keys_; }
  std::string vkey() const { return writer_.signer().verifier().vkey(); }
  const RunHistory& history() const { return history_; }
  const Commitment& claims() const { return claims_; }  // in force, once commit() is done

  // Enters what is going to be done; origin, keys, nonce and time are filled in here. If that has
  // happened, compares, and enters an amendment about what may change.
  Status commit(Commitment commitment, int64_t step);
  // The run's seed, entered if it is new: `chosen` or, if the recipe names a `beacon`, what its
  // value gives; none while that is missing.
  Result<std::optional<int64_t>> seed(int64_t chosen, const std::string& beacon,
                                      const std::string& beacon_value);
  Status initial(const std::map<std::string, std::string>& tensors);

  // Step number `step`, from 1, has been done.
  Status step(int64_t step, const StepDigest& digest);
  // Enters the steps up to `step`.
  Status flush(int64_t step);
  // A directory with its final name and this record holds the state after `state.step`; digests
  // and metrics are filled in here.
  Status stored(StoredState state, const formats::Record& record);
  Status end(int64_t step, const std::string& state_digest);
  Status abandon(const std::string& reason);

  // What the log has of states, by step; of one step, the last one counts.
  const std::vector<StoredState>& states() const { return history_.stored; }
  // The newest entry about what lies in `directory`, below the run; nullptr if there is none.
  const StoredState* find(const std::string& directory) const;

  // An autosave is the run's by a signature of the log's key (record/autosave.h).
  Status sign_autosave(const std::filesystem::path& directory, int64_t step) const;
  Status check_autosave(const std::filesystem::path& directory, int64_t step) const;

  // For the directory of a checkpoint that is complete but for its name: the statement of where it
  // comes from (provenance.json) and, with keys, its signature (model.sig).
  Status sign_checkpoint(const std::filesystem::path& directory, const formats::Record& record,
                         const std::string& name, int64_t step) const;

 private:
  RunLedger(const RunDirectory& directory, ledger::LogWriter writer)
      : directory_(directory), writer_(std::move(writer)) {}
  Status compare(const Commitment& commitment, int64_t step);
  Status list_run(const nlohmann::json& entry);
  Status adopt(const std::vector<std::string>& entries);  // into history_; mutex_ is held
  Status write(const std::vector<std::string>& entries);
  Status append(const std::vector<std::string>& entries);
  Result<std::vector<std::string>> cosignatures() const;
  Status show_head();
  int64_t now() const;

  const RunDirectory directory_;
  std::filesystem::path keys_directory_;
  std::optional<ledger::Keys> keys_;
  ledger::LogWriter writer_;
  std::unique_ptr<Witnesses> witnesses_;  // adds to what writer_ writes
  Commitment claims_;

  std::mutex mutex_;
  RunHistory history_;               // as far as it is entered; changed under mutex_ alone
  std::vector<StepDigest> pending_;  // steps after those
};

}  // namespace naite::record
