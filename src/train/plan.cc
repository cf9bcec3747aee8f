// SPDX-License-Identifier: Apache-2.0
#include "train/plan.h"

#include <algorithm>
#include <optional>

#include "infer/infer.h"
#include "kernels/counting.h"

namespace naite::train {

namespace {

// The sum, and the checkpoint that is added to it.
int64_t averaging_bytes(const Recipe& recipe, int64_t parameters) {
  return recipe.averaging_steps().size() > 1 ? 2 * 4 * parameters : 0;
}

}  // namespace

int64_t MemoryPlan::total() const {
  return parameters + gradients + optimizer + activations + validation + batches + backend +
         checkpoint + std::max(samples, averaging);
}

Result<MemoryPlan> plan_memory(const model::Model& model, const kernels::Kernels& kernels,
                               const Recipe& recipe, const EngineOptions& options) {
  NAITE_TRY(computed_by(kernels, recipe));
  const std::unique_ptr<kernels::CountingKernels> counting = kernels::make_counting(kernels);
  Engine engine(model, *counting, recipe, options);
  std::optional<infer::Generator> generator;
  if (!recipe.sample.prompts.empty())
    generator.emplace(model, engine.parameters(), recipe.data.sequence_length);
  MemoryPlan plan;
  static_cast<Memory&>(plan) = engine.memory();
  plan.checkpoint = engine.state_bytes();
  plan.samples = generator ? generator->bytes() : 0;
  plan.averaging = averaging_bytes(recipe, model.num_parameters());
  const int64_t allocated = plan.parameters + plan.gradients + plan.optimizer + plan.activations +
                            plan.validation + plan.samples;
  NAITE_CHECK(allocated == counting->live_bytes(), "{} bytes in parts, {} allocated", allocated,
              counting->live_bytes());
  return plan;
}

}  // namespace naite::train
