// SPDX-License-Identifier: Apache-2.0
#pragma once
// How many rows of each step come from which source. The rows owed to a source add up with its
// share of the weights at the step's progress; every row goes to the source that is owed most, the
// first among equals. So the counts never stray from the schedule by more than a few rows, whatever
// the seed. Any step is reached from the nearest of the states kept at every kStride-th step.
#include <cstdint>
#include <vector>

#include "base/base.h"
#include "data/options.h"

namespace naite::data {

class Mixture {
 public:
  static Result<Mixture> make(const std::vector<SourceOptions>& sources, int64_t rows_per_step,
                              int64_t total_steps);

  // Rows taken from each source before `step`, 0 <= step <= total_steps.
  std::vector<int64_t> rows_before(int64_t step) const;

 private:
  static constexpr int64_t kStride = 256;
  struct State {
    std::vector<double> owed;
    std::vector<int64_t> rows;
  };
  Status advance(State& state, int64_t step) const;

  std::vector<SourceOptions> sources_;
  int64_t rows_per_step_ = 1, total_steps_ = 1;
  std::vector<State> kept_;
};

// The shares of the sources at a progress; all zero if every weight is.
std::vector<double> shares_at(const std::vector<SourceOptions>& sources, double progress);

}  // namespace naite::data
