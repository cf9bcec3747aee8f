// SPDX-License-Identifier: Apache-2.0
#pragma once
// Ends a run before a bad step spoils its state: a loss that is no number, or far above the recent
// ones.
#include <deque>
#include <string>

#include "train/engine.h"

namespace naite::train {

class LossGuard {
 public:
  static constexpr size_t kWindow = 50;  // steps whose median a loss is measured against

  void begin(std::deque<double> recent) { recent_ = std::move(recent); }
  // What is wrong with a step; empty: nothing, and its loss counts from now on. `max_ratio` over
  // the median is let pass; 0: any.
  std::string check(const StepResult& result, double max_ratio);

 private:
  std::deque<double> recent_;
};

}  // namespace naite::train
