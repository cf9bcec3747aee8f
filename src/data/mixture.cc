// SPDX-License-Identifier: Apache-2.0
#include "data/mixture.h"

#include <algorithm>
#include <cmath>

namespace naite::data {

std::vector<double> shares_at(const std::vector<SourceOptions>& sources, double progress) {
  std::vector<double> shares;
  double total = 0.0;
  for (const SourceOptions& source : sources) {
    shares.push_back(source.weight_at(progress));
    total += shares.back();
  }
  if (total > 0.0)
    for (double& share : shares) share /= total;
  return shares;
}

Result<Mixture> Mixture::make(const std::vector<SourceOptions>& sources, int64_t rows_per_step,
                              int64_t total_steps) {
  NAITE_CHECK(rows_per_step >= 1 && total_steps >= 0, "{} rows, {} steps", rows_per_step,
              total_steps);
  Mixture mixture;
  mixture.sources_ = sources;
  mixture.rows_per_step_ = rows_per_step;
  mixture.total_steps_ = total_steps;
  State state{std::vector<double>(sources.size(), 0.0), std::vector<int64_t>(sources.size(), 0)};
  for (int64_t step = 0; step <= total_steps; ++step) {
    if (step % kStride == 0) mixture.kept_.push_back(state);
    if (step < total_steps) NAITE_TRY(mixture.advance(state, step));
  }
  return mixture;
}

Status Mixture::advance(State& state, int64_t step) const {
  const double progress = static_cast<double>(step) / static_cast<double>(total_steps_);
  const std::vector<double> shares = shares_at(sources_, progress);
  int64_t left = rows_per_step_;
  const auto give = [&](size_t source, int64_t rows) {
    state.rows[source] += rows;
    state.owed[source] -= static_cast<double>(rows);
    left -= rows;
  };
  bool any = false;
  for (size_t i = 0; i < shares.size(); ++i) {
    any = any || shares[i] > 0.0;
    state.owed[i] += shares[i] * static_cast<double>(rows_per_step_);
    // What is due beyond doubt goes at once; the greedy loop below hands out the rest.
    const int64_t due = static_cast<int64_t>(std::floor(state.owed[i])) - 1;
    if (shares[i] > 0.0 && due > 0) give(i, std::min(due, left));
  }
  if (!any)
    return fail("[data] at progress {} every source has the weight 0: give one a weight there",
                progress);
  while (left > 0) {
    size_t best = shares.size();
    for (size_t i = 0; i < shares.size(); ++i)
      if (shares[i] > 0.0 && (best == shares.size() || state.owed[i] > state.owed[best])) best = i;
    give(best, 1);
  }
  return {};
}

std::vector<int64_t> Mixture::rows_before(int64_t step) const {
  NAITE_CHECK(step >= 0 && step <= total_steps_, "step {} of {}", step, total_steps_);
  State state = kept_[static_cast<size_t>(step / kStride)];
  for (int64_t at = step / kStride * kStride; at < step; ++at)
    NAITE_CHECK(advance(state, at).ok(), "step {} was checked by make()", at);
  return state.rows;
}

}  // namespace naite::data
