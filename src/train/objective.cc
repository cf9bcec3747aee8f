// SPDX-License-Identifier: Apache-2.0
#include "train/objective.h"

#include <map>

namespace naite::train {

namespace {

class Pretrain final : public Objective {
 public:
  tape::Tensor loss(tape::Tape& tape, const model::Outputs& outputs) const override {
    const int64_t tokens = outputs.hidden.rows();
    const tape::Tensor targets = tape.data("targets", kernels::DType::kI32, tokens, 1);
    const tape::Tensor scale = tape.data("scale", tape.wide(), tokens, 1);
    return tape::linear_cross_entropy(outputs.hidden, outputs.head, targets, scale);
  }

  void declare(Batch& batch) const override {
    batch.add_floats("scale", batch.column("targets").rows, 1, true);
  }

  double weight(const Batch& batch) const override {
    double total = 0;
    each(batch, [&](size_t, double weight) { total = total + weight; });
    return total;
  }

  // The gradient that each token's loss receives: its share of the step.
  void fill(Batch& batch, double total) const override {
    const std::span<float> scale = batch.floats("scale");
    each(batch, [&](size_t t, double weight) {
      scale[t] = static_cast<float>(weight / (total > 0 ? total : 1));
    });
  }

  double sum(const Batch& batch, std::span<const float> losses) const override {
    double sum = 0;
    each(batch,
         [&](size_t t, double weight) { sum = sum + weight * static_cast<double>(losses[t]); });
    return sum;
  }

 private:
  // Calls visit(t, what the loss at token t counts); without a target, 0.
  template <class Visit>
  static void each(const Batch& batch, const Visit& visit) {
    const std::span<const int32_t> targets = batch.ints("targets");
    const std::span<const float> weights =
        batch.has("weights") ? batch.floats("weights") : std::span<const float>();
    for (size_t t = 0; t < targets.size(); ++t) {
      const double weight = weights.empty() ? 1 : static_cast<double>(weights[t]);
      visit(t, targets[t] < 0 ? 0 : weight);
    }
  }
};

const std::map<std::string, std::unique_ptr<const Objective>>& table() {
  static const auto all = [] {
    std::map<std::string, std::unique_ptr<const Objective>> out;
    out["pretrain"] = std::make_unique<Pretrain>();
    return out;
  }();
  return all;
}

}  // namespace

const std::vector<std::string>& objective_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const auto& [name, objective] : table()) out.push_back(name);
    return out;
  }();
  return names;
}

const Objective& objective_of(const std::string& name) { return *table().at(name); }

}  // namespace naite::train
