// SPDX-License-Identifier: Apache-2.0
// What depends on the number of a step alone: the learning rate of the update number `step` of the
// run, and the steps after which a state is stored or the parameters are a mean.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "train/recipe.h"

namespace naite::train {

namespace {

constexpr double kPi = 3.14159265358979323846;

// Steps strictly within the `total` ones from `first` on, ascending, at each multiple of `share` of
// them. p% falls at ceil(p x steps); a hair is taken off so that 10% of 100 is 10 in floating point
// too.
std::vector<int64_t> steps_every(double share, int64_t first, int64_t total) {
  std::vector<int64_t> steps;
  share = std::max(share, 1.0 / static_cast<double>(total));  // at most every step
  for (int64_t i = 1; static_cast<double>(i) * share < 1.0 - 1e-9; ++i) {
    const double at = static_cast<double>(i) * share * static_cast<double>(total);
    const int64_t step = first + static_cast<int64_t>(std::ceil(at - 1e-6));
    if (step > (steps.empty() ? first : steps.back()) && step < first + total)
      steps.push_back(step);
  }
  return steps;
}

}  // namespace

std::vector<int64_t> Recipe::checkpoint_steps() const {
  const std::vector<int64_t> regular = steps_every(checkpoint.every, first_step, total_steps());
  const std::vector<int64_t> averaged = averaging_steps();
  std::vector<int64_t> steps{first_step};
  std::set_union(regular.begin(), regular.end(), averaged.begin(), averaged.end(),
                 std::back_inserter(steps));
  if (steps.back() != end_step()) steps.push_back(end_step());
  return steps;
}

std::vector<int64_t> Recipe::averaging_steps() const {
  if (averaging.last < 2) return {};
  std::vector<int64_t> steps = steps_every(averaging.every, first_step, total_steps());
  const int64_t decay_begin = end_step() - decay_steps();
  std::erase_if(steps, [&](int64_t step) { return step <= decay_begin; });
  steps.push_back(end_step());
  return steps;
}

bool Recipe::averages_at(int64_t step) const {
  const std::vector<int64_t> steps = averaging_steps();
  return std::binary_search(steps.begin(), steps.end(), step);
}

int64_t Recipe::decay_steps() const {
  return static_cast<int64_t>(
      std::ceil(schedule.decay_ratio * static_cast<double>(total_steps()) - 1e-6));
}

std::vector<int64_t> Recipe::audit_steps() const {
  if (checkpoint.audit_every <= 0) return {};
  std::vector<int64_t> steps = steps_every(checkpoint.audit_every, first_step, total_steps());
  const std::vector<int64_t> checkpoints = checkpoint_steps();
  std::erase_if(steps, [&](int64_t step) {
    return std::binary_search(checkpoints.begin(), checkpoints.end(), step);
  });
  return steps;
}

double Recipe::learning_rate(int64_t step) const {
  return scheduled(optimizer.learning_rate, step);
}

double Recipe::other_learning_rate(int64_t step) const {
  return scheduled(optimizer.other_learning_rate, step);
}

double Recipe::scheduled(double peak, int64_t step) const {
  const double total = static_cast<double>(total_steps());
  const double warmup = std::ceil(schedule.warmup_ratio * total - 1e-6);
  const double done = static_cast<double>(step - first_step);
  const double low = schedule.min_learning_rate_ratio;
  if (done < warmup) return peak * (done + 1) / warmup;
  if (schedule.kind == "cosine") {
    const double x = (done + 1 - warmup) / (total - warmup);
    return peak * (low + (1 - low) * 0.5 * (1 + exact_cos(kPi * x)));
  }
  const auto decay = static_cast<double>(decay_steps());
  if (schedule.kind == "wsd" && done >= total - decay)
    return decayed(peak, (done + 1 - (total - decay)) / decay);
  return peak;
}

// The tail of wsd after the share x of it; at 1 every form has come down to the lowest rate.
double Recipe::decayed(double peak, double x) const {
  const double low = schedule.min_learning_rate_ratio;
  if (schedule.decay == "cosine") return peak * (low + (1 - low) * 0.5 * (1 + exact_cos(kPi * x)));
  if (schedule.decay == "inverse_square_root")
    return peak / std::sqrt(1 + (1 / (low * low) - 1) * x);
  return peak * (1 - (1 - low) * x);
}

}  // namespace naite::train
