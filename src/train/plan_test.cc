// SPDX-License-Identifier: Apache-2.0
#include "train/plan.h"

#include <gtest/gtest.h>

#include "infer/infer.h"
#include "kernels/forwarding.h"

namespace naite::train {
namespace {

using nlohmann::json;

// A real backend whose allocations are added up.
class Tally final : public kernels::ForwardingKernels {
 public:
  using ForwardingKernels::ForwardingKernels;
  void* allocate(int64_t bytes) override {
    live += bytes;
    return ForwardingKernels::allocate(bytes);
  }
  void release(void* memory, int64_t bytes) override {
    live -= bytes;
    ForwardingKernels::release(memory, bytes);
  }
  int64_t live = 0;
};

Recipe recipe_of(const json& changes) {
  json value = {
      {"data", {{"sequence_length", 32}, {"source", {{{"name", "text"}, {"path", "x"}}}}}},
      {"model",
       {{"model_type", "llama"},
        {"hidden_size", 32},
        {"num_hidden_layers", 2},
        {"num_attention_heads", 4},
        {"num_key_value_heads", 2},
        {"intermediate_size", 48}}},
      {"train", {{"tokens", 1024}, {"batch_tokens", 256}, {"micro_batch_tokens", 64}}},
      {"optimizer", {{"learning_rate", 0.01}}}};
  value.merge_patch(changes);
  Result<Curriculum> recipe = parse_recipe(value, "r.toml");
  NAITE_CHECK(recipe.ok(), "{}", recipe.error().message);
  return recipe->first();
}

// Byte for byte what the real thing allocates, whatever it is made of.
TEST(Plan, IsWhatIsAllocated) {
  set_float_mode();
  ThreadPool pool(2);
  Result<std::unique_ptr<kernels::Kernels>> cpu = kernels::make_cpu(pool, "");
  ASSERT_TRUE(cpu.ok());
  const json muon = {{"optimizer", {{"name", "muon"}, {"muon", {{"qk_clip", 50.0}}}}},
                     {"train", {{"precision", "fp32"}}}};
  const json sampling = {{"sample", {{"prompts", {"a"}}}}, {"model", {{"model_type", "motif"}}}};
  for (const auto& [changes, options] :
       {std::pair<json, EngineOptions>{json::object(), {}}, {muon, {2, true}}, {sampling, {}}}) {
    const Recipe recipe = recipe_of(changes);
    const auto model = *recipe.make_model(50);
    const MemoryPlan plan = *plan_memory(*model, **cpu, recipe, options);
    Tally tally(**cpu);
    Engine engine(*model, tally, recipe, options);
    std::unique_ptr<infer::Generator> generator;
    if (!recipe.sample.prompts.empty())
      generator = std::make_unique<infer::Generator>(*model, engine.parameters(), 32);
    EXPECT_EQ(plan.parameters + plan.gradients + plan.optimizer + plan.activations +
                  plan.validation + plan.samples,
              tally.live)
        << changes;
    EXPECT_EQ(plan.samples > 0, generator != nullptr);
    formats::TrainingState state;
    ASSERT_TRUE(engine.save(state).ok());
    size_t values = state.masters.size();
    for (const auto& moments : state.moments) values += moments.values.size();
    EXPECT_EQ(plan.checkpoint, static_cast<int64_t>(values * sizeof(float)));
    EXPECT_EQ(plan.batches, recipe.train.batch_tokens * (4 + 4 + 4 + 8 + 4));
    EXPECT_GT(plan.gradients, plan.checkpoint / 4);
  }
}

// A run may be planned that no machine holds.
TEST(Plan, TakesNoMemoryOfTheModelsSize) {
  const std::unique_ptr<kernels::Kernels> kernels = kernels::make_reference(kernels::DType::kF32);
  const Recipe recipe = recipe_of({{"model",
                                    {{"hidden_size", 8192},
                                     {"num_hidden_layers", 4},
                                     {"num_attention_heads", 64},
                                     {"intermediate_size", 28672}}}});
  const auto model = *recipe.make_model(128256);
  const MemoryPlan plan = *plan_memory(*model, *kernels, recipe, {});
  EXPECT_GT(plan.total(), 12 * model->num_parameters());
}

TEST(Plan, RefusesAnArithmeticThatNobodyHereComputes) {
  ThreadPool pool(1);
  const std::unique_ptr<kernels::Kernels> cpu = *kernels::make_cpu(pool, "portable");
  const Recipe recipe = recipe_of({{"run", {{"arithmetic", "chain-8"}}}});
  const auto model = *recipe.make_model(50);
  EXPECT_EQ(plan_memory(*model, *cpu, recipe, {}).error().message,
            "arithmetic chain-8 is published and computed by the reference alone; cpu portable "
            "computes chain-1: write arithmetic = \"chain-1\" in [run]");
  const auto reference = kernels::make_reference(kernels::DType::kF32, kernels::kChain8);
  EXPECT_TRUE(plan_memory(*model, *reference, recipe, {}).ok());
}

}  // namespace
}  // namespace naite::train
