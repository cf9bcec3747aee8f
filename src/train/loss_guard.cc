// SPDX-License-Identifier: Apache-2.0
#include "train/loss_guard.h"

#include <algorithm>
#include <cmath>

namespace naite::train {

std::string LossGuard::check(const StepResult& result, double max_ratio) {
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm))
    return fmt::format("the loss is {} and the gradient norm {}", result.loss, result.grad_norm);
  if (max_ratio > 0 && recent_.size() >= kWindow / 2) {
    std::vector<double> sorted(recent_.begin(), recent_.end());
    std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
    const double median = sorted[sorted.size() / 2];
    if (result.loss > max_ratio * median)
      return fmt::format("the loss {:.4f} is more than {} times {:.4f}, its recent median",
                         result.loss, max_ratio, median);
  }
  recent_.push_back(result.loss);
  if (recent_.size() > kWindow) recent_.pop_front();
  return "";
}

}  // namespace naite::train
