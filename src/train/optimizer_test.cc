// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

namespace naite::train {
namespace {

using kernels::DType;
using nlohmann::json;

constexpr int64_t kTokens = 24;
constexpr double kLimit = 1.5;

Recipe recipe_of(json model) {
  model.update(
      {{"hidden_size", 16}, {"num_hidden_layers", 2}, {"intermediate_size", 24}, {"head_dim", 8}});
  Result<Curriculum> recipe = parse_recipe(
      {{"data", {{"sequence_length", kTokens}, {"source", {{{"name", "text"}, {"path", "x"}}}}}},
       {"model", std::move(model)},
       {"train", {{"tokens", 64}, {"batch_tokens", kTokens}, {"precision", "fp32"}}},
       {"optimizer", {{"name", "muon"}, {"learning_rate", 0.01}, {"muon", {{"qk_clip", kLimit}}}}}},
      "r.toml");
  NAITE_CHECK(recipe.ok(), "{}", recipe.error().message);
  return recipe->first();
}

// One forward pass over parameters of which some make large scores.
struct Pass {
  Pass(kernels::Kernels& kernels, const Recipe& recipe)
      : model(*recipe.make_model(50)), tape(kernels, DType::kF32, false) {
    model::Inputs in = model::Inputs::declare(tape, kTokens, kTokens);
    in.watches_scores = true;
    model->forward(tape, in);
    heads = model->scored_heads();
    parameters = std::make_unique<tape::Parameters>(kernels, DType::kF32, tape.parameters());
    program = std::make_unique<tape::Program>(tape, *parameters);
    std::vector<int32_t> ids, positions, spans;
    for (int32_t t = 0; t < kTokens; ++t) {
      ids.push_back(t * 7 % 50);
      positions.push_back(t);
      spans.insert(spans.end(), {0, t + 1});
    }
    NAITE_CHECK(program->write(in.ids, ids.data(), 4 * kTokens).ok());
    NAITE_CHECK(program->write(in.positions, positions.data(), 4 * kTokens).ok());
    NAITE_CHECK(program->write(in.spans, spans.data(), 8 * kTokens).ok());
    for (int p = 0; p < parameters->size(); ++p) {
      const tape::ParameterSpec& spec = parameters->specs()[p];
      std::vector<float> values;
      for (int64_t i = 0; i < spec.size(); ++i)
        values.push_back(
            static_cast<float>(spec.initial_value + random_unit(1, Purpose::kSampling, i, p) - .5));
      NAITE_CHECK(kernels.upload(parameters->master(p).data, values.data(), 4 * spec.size()).ok());
    }
  }
  std::vector<std::vector<float>> peaks() {
    NAITE_CHECK(parameters->prepare_all().ok());
    program->begin_watching();
    NAITE_CHECK(program->forward().ok());
    std::vector<std::vector<float>> out;
    for (const model::ScoredHeads& of : heads) {
      const kernels::View found = program->watched(of.name);
      out.emplace_back(static_cast<size_t>(found.size()));
      NAITE_CHECK(
          parameters->kernels().download(out.back().data(), found.data, found.bytes()).ok());
    }
    return out;
  }

  std::unique_ptr<model::Model> model;
  tape::Tape tape;
  std::vector<model::ScoredHeads> heads;
  std::unique_ptr<tape::Parameters> parameters;
  std::unique_ptr<tape::Program> program;
};

// In the first layer, whose input clipping does not change, every score that was beyond the limit
// comes down to it, further where a neighbour's was larger; heads of other keys stay.
TEST(Clip, BringsScoresDownToTheLimit) {
  set_float_mode();
  const std::unique_ptr<kernels::Kernels> kernels = kernels::make_reference(DType::kF32);
  for (const json& model :
       {json{{"model_type", "llama"}, {"num_attention_heads", 4}, {"num_key_value_heads", 2}},
        json{{"model_type", "motif"},
             {"num_attention_heads", 10},
             {"num_noise_heads", 2},
             {"num_key_value_heads", 4}}}) {
    const Recipe recipe = recipe_of(model);
    Pass pass(*kernels, recipe);
    Optimizer optimizer(recipe, *kernels, *pass.parameters);
    const auto natural = [](float peak) { return std::log(2.0) * peak; };
    const std::vector<std::vector<float>> before = pass.peaks();
    const size_t in_layer = before.size() / 2;
    for (size_t i = 0; i < before.size(); ++i)
      ASSERT_TRUE(optimizer.clip(pass.heads[i], before[i]).ok());
    const std::vector<std::vector<float>> after = pass.peaks();
    int clipped = 0;
    for (size_t i = 0; i < in_layer; ++i) {
      for (size_t h = 0; h < before[i].size(); ++h) {
        double largest = 0;  // of the heads that share the key
        for (size_t other = 0; other < before[i].size(); ++other)
          if (pass.heads[i].key_heads[other] == pass.heads[i].key_heads[h])
            largest = std::max(largest, natural(before[i][other]));
        if (largest <= kLimit) {
          EXPECT_EQ(after[i][h], before[i][h]);
          continue;
        }
        ++clipped;
        EXPECT_LE(natural(after[i][h]), kLimit * (1 + 1e-5));
        if (natural(before[i][h]) == largest) {
          EXPECT_NEAR(natural(after[i][h]), kLimit, 1e-5);
        }
      }
    }
    EXPECT_GT(clipped, 0);
  }
}

// Each matrix of a stack is updated as it would be alone, and saved under its own name.
TEST(Muon, TreatsTheMatricesOfAStackOneByOne) {
  set_float_mode();
  const std::unique_ptr<kernels::Kernels> kernels = kernels::make_reference(DType::kF32);
  const Recipe recipe =
      recipe_of({{"model_type", "llama"}, {"num_attention_heads", 4}, {"num_key_value_heads", 2}});
  constexpr int64_t kRows = 6, kCols = 4, kSize = kRows * kCols;
  using tape::ParameterSpec;
  const auto updated = [&](std::vector<ParameterSpec> specs) {
    tape::Parameters parameters(*kernels, DType::kF32, std::move(specs));
    Optimizer optimizer(recipe, *kernels, parameters);
    const tape::Block gradient(*kernels, parameters.layout().bytes());
    int64_t number = 0;
    for (int p = 0; p < parameters.size(); ++p)
      for (int64_t i = 0; i < parameters.specs()[p].count; ++i, ++number) {
        std::vector<float> values;
        for (int64_t k = 0; k < kSize; ++k)
          values.push_back(static_cast<float>(random_unit(1, Purpose::kSampling, k, number) - .5));
        NAITE_CHECK(kernels->upload(parameters.tensor(p, i).data, values.data(), 4 * kSize).ok());
        NAITE_CHECK(kernels
                        ->upload(tape::matrix_of(parameters.layout().view(gradient, p),
                                                 parameters.specs()[p], i)
                                     .data,
                                 values.data(), 4 * kSize)
                        .ok());
      }
    NAITE_CHECK(optimizer.update(0, 0.5f, gradient).ok());
    formats::TrainingState state;
    NAITE_CHECK(optimizer.save(state).ok());
    std::vector<float> out = state.moments[0].values;
    EXPECT_EQ(state.moments[0].members, (std::vector<int>{0, 1, 2}));
    EXPECT_TRUE(state.moments[1].members.empty());
    for (int p = 0; p < parameters.size(); ++p) {
      std::vector<float> values(static_cast<size_t>(parameters.specs()[p].size()));
      NAITE_CHECK(
          kernels->download(values.data(), parameters.master(p).data, parameters.master(p).bytes())
              .ok());
      out.insert(out.end(), values.begin(), values.end());
    }
    return out;
  };
  const auto stack = updated({{"e.{}.w", kRows, kCols, tape::Role::kMatrix, 0, 0, 3}});
  EXPECT_EQ(stack,
            updated({{"e.0.w", kRows, kCols}, {"e.1.w", kRows, kCols}, {"e.2.w", kRows, kCols}}));
}

TEST(Clip, IsRefusedWhereQueriesAreNormed) {
  const Result<Curriculum> recipe = parse_recipe(
      {{"data", {{"sequence_length", 32}, {"source", {{{"name", "text"}, {"path", "x"}}}}}},
       {"model",
        {{"model_type", "qwen3"},
         {"hidden_size", 16},
         {"num_hidden_layers", 1},
         {"num_attention_heads", 2},
         {"intermediate_size", 24}}},
       {"train", {{"tokens", 64}, {"batch_tokens", 64}}},
       {"optimizer", {{"name", "muon"}, {"learning_rate", 0.01}, {"muon", {{"qk_clip", 100.0}}}}}},
      "r.toml");
  ASSERT_FALSE(recipe.ok());
  EXPECT_EQ(recipe.error().message,
            "r.toml: [optimizer.muon] `qk_clip` needs queries and keys that are projections alone; "
            "a qwen3 has biases or norms in them");
}

}  // namespace
}  // namespace naite::train
