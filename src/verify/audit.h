// SPDX-License-Identifier: Apache-2.0
#pragma once
// One verification under way: what has been read and believed so far, check after check. A check
// that fails and on which others rest ends the audit; what was not reached is not in the report.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "record/run_directory.h"
#include "train/derived.h"
#include "verify/verify.h"

namespace naite::verify {

// What a check says when it does not fail.
struct Finding {
  std::string detail;
  Outcome outcome = Outcome::kHolds;
};

// Whether a user means this state: by its step, its directory or the last part of that.
bool is_named(const record::StoredState& state, const std::string& name);

class Audit {
 public:
  Audit(const VerifyRequest& request, kernels::Kernels& kernels, ThreadPool& pool)
      : request_(request), run_(request.run), kernels_(kernels), pool_(pool) {}

  Result<Report> verify();

 private:
  struct Interval {
    const record::StoredState* begin;
    const record::StoredState* end;
    std::string why;
  };

  bool check(std::string_view name, const Result<Finding>& finding);
  bool may_fail(std::string_view name, const Result<Finding>& finding);
  bool failed(std::string_view name) const;
  // Everything up to the states; false: the rest rests on nothing.
  bool check_claims();
  bool check_states();

  // audit.cc: what can be compared without computing.
  Result<Finding> files() const;
  Result<Finding> log();
  Result<Finding> bytes() const;
  Result<Finding> signature();
  Result<Finding> publisher();
  Result<Finding> recipe();
  Status adopt_plan(const nlohmann::json& plan);
  Result<Finding> seed() const;
  Result<Finding> data();
  Result<Finding> batches();
  Result<Finding> states();
  Result<Finding> distinct() const;
  Result<Finding> end() const;
  Result<Finding> text() const;
  Status tokens_of(const data::ManifestSplit& split) const;
  const train::Recipe& stage_that_stored(const record::StoredState& state) const;
  bool is_asked_for(const record::StoredState& state) const;
  Status state_bytes(const record::StoredState& state) const;
  Status state_content(const record::StoredState& state);
  Status model_signature(const record::StoredState& state) const;
  Status planned_states() const;

  // replay.cc: what is computed again.
  Status enter(const train::Recipe& stage);
  Status enter_to_train(const train::Recipe& stage);
  Result<Finding> memory();
  Result<Finding> initial();
  Result<std::vector<Interval>> intervals() const;
  Result<std::vector<Interval>> selected();
  Result<std::vector<double>> changes(const std::vector<Interval>& all);
  Status load_state(const record::StoredState& state);
  Status replay(const Interval& interval);
  Status metrics(const record::StoredState& state);
  Result<Finding> replays();

  // reports.cc: what other organisations and verifiers say.
  bool asks_for_organisations() const;
  bool has_cosignatures() const;
  Result<Finding> cosignatures() const;
  Result<Finding> reports();
  Status take_report(const std::filesystem::path& file, const std::vector<Interval>& all,
                     std::vector<std::string>& who);

  // verdict.cc
  void conclude();
  Verdict weights_verdict() const;
  Verdict tokenizer_verdict() const;
  Verdict data_verdict() const;

  bool stopped() const { return request_.stop != nullptr && request_.stop->load(); }
  void progress(std::string_view phase, int64_t done, int64_t total) const {
    if (request_.progress) request_.progress({phase, done, total});
  }

  const VerifyRequest& request_;
  const record::RunDirectory run_;
  kernels::Kernels& kernels_;
  ThreadPool& pool_;
  Report report_;

  record::RunHistory history_;
  ledger::Note note_;
  std::vector<std::string> verifiers_;  // of the reports that were combined, by name
  std::optional<ledger::Verifier> signer_;
  bool unsigned_ = false;
  train::Curriculum curriculum_;
  data::Manifest manifest_;
  std::optional<data::Tokenizer> tokenizer_;
  // Of one stage at a time.
  const train::Recipe* stage_ = nullptr;
  std::unique_ptr<model::Model> model_;
  std::optional<data::Loader> loader_;
  std::unique_ptr<train::Engine> engine_;
  formats::TrainingState initial_, state_;
};

}  // namespace naite::verify
