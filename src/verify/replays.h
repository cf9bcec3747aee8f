// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a verification computes: initial tensors from the seed, and intervals of the training, step
// by step, with the code that trains (train/stepper.h).
#include "verify/claims.h"
#include "verify/sampling.h"

namespace naite::verify {

// The audit unit: what lies between two stored states.
struct Interval {
  const record::StoredState* begin;
  const record::StoredState* end;
  std::string why;
};
std::vector<Interval> intervals_of(const record::RunHistory& history);
inline constexpr const char* kNothingToReplay = "nothing to replay yet: the log has one state";

// An error if the states that were asked for are not there: the question is wrong, not the run.
Status check_selection(const Selection& selection, const record::RunHistory& history);

class Replays {
 public:
  Replays(Setting& setting, Claims& claims)
      : setting_(setting), claims_(claims), history_(claims.history()) {}

  // Before anything of the run's size is allocated. A run may claim to be of any size.
  Result<Finding> memory();
  bool fit() const { return fit_; }  // memory() found room
  Result<Finding> initial();
  // Those that were asked for.
  Result<std::vector<Interval>> selected(Report& report);
  // The report gets each of them.
  Result<Finding> replays(const std::vector<Interval>& chosen, Report& report);

 private:
  Result<record::StoredCheckpoint*> open(const record::StoredState& state);
  Result<std::vector<Interval>> sampled(const std::vector<Interval>& all, Report& report);
  Result<std::vector<Change>> changes(const std::vector<Interval>& all);
  Result<std::string> digest_now();
  Status load(const record::StoredState& state);
  Status replay(const Interval& interval);
  Status metrics(const record::StoredState& state);

  Setting& setting_;
  Claims& claims_;
  const record::RunHistory& history_;
  formats::TrainingState host_;
  bool fit_ = true;
};

}  // namespace naite::verify
