// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a run claims: log, signatures, recipe, tokenizer, data and batches, each compared with what
// was committed to before the first step. Digests come first: what is parsed afterwards is what
// somebody has signed.
#include <map>
#include <optional>

#include "data/tokenizer.h"
#include "record/run_list.h"
#include "train/stepper.h"
#include "verify/audit.h"

namespace naite::verify {

// Whether a user means this state: by its step, its directory or the last part of that.
bool is_named(const record::StoredState& state, const std::string& name);
// A file of the run that is read whole: there, and not too large.
Status plain_text_file(const std::filesystem::path& path);

class Claims {
 public:
  explicit Claims(Setting& setting) : setting_(setting) {}

  // Up to the signature of the log: nothing else can be believed without it. Fills the report's
  // head. Then everything that follows from the log; false: the rest rests on nothing.
  bool check_log(Checklist& list);
  bool check_rest(Checklist& list);

  // What was read so far.
  const record::RunHistory& history() const { return history_; }
  const train::Curriculum& curriculum() const { return curriculum_; }
  const data::Manifest& manifest() const { return manifest_; }
  const data::Tokenizer& tokenizer() const { return *tokenizer_; }
  // By source, as far as `batches` looked.
  const std::map<std::string, int64_t>& tokens_read() const { return tokens_read_; }
  bool is_unsigned() const { return unsigned_; }
  // The training, as the recipe says it.
  train::Stepper& stepper() { return *stepper_; }
  // The stage whose last steps led to the state; for the first state of a run, the one it begins.
  const train::Recipe& stage_that_stored(const record::StoredState& state) const;

 private:
  Result<Finding> files() const;
  Status log_with_room() const;
  Result<Finding> log(Report& report);
  Result<Finding> signature(Report& report);
  Result<Finding> publisher(const Report& report);
  Status text_with_room(const char* file) const;
  Result<Finding> listed(const record::ListedRun& run, const std::string& detail) const;
  Result<Finding> recipe();
  Status plan_of_recipe() const;
  Result<Finding> plan() const;
  Status compare_commitment(const record::Commitment& amended);
  Result<Finding> seed() const;
  Result<Finding> beacon() const;
  Result<std::vector<Cosigner>> witnesses_before_seed() const;
  Result<Finding> data();
  Status tokens_of(const data::ManifestSplit& split) const;
  Result<Finding> batches();
  std::optional<std::filesystem::path> path_of_text(const std::string& named) const;
  Result<Finding> text() const;

  Setting& setting_;
  record::RunHistory history_;
  ledger::Note note_;
  std::vector<Digest> leaves_;  // of the log
  std::optional<ledger::Verifier> signer_;
  bool unsigned_ = false;
  train::Curriculum curriculum_;
  data::Manifest manifest_;
  std::optional<data::Tokenizer> tokenizer_;
  std::map<std::string, int64_t> tokens_read_;
  std::optional<train::Stepper> stepper_;
};

}  // namespace naite::verify
