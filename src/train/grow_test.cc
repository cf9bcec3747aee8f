// SPDX-License-Identifier: Apache-2.0
#include "train/grow.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "formats/checkpoint.h"
#include "formats/safetensors.h"
#include "infer/infer.h"

namespace naite::train {
namespace {

namespace fs = std::filesystem;
using formats::StoredType;
using nlohmann::json;

const json kMotif = {{"model_type", "motif"},    {"hidden_size", 24},
                     {"intermediate_size", 20},  {"num_hidden_layers", 2},
                     {"num_attention_heads", 4}, {"num_noise_heads", 2},
                     {"num_key_value_heads", 4}, {"head_dim", 8},
                     {"rms_norm_eps", 1e-6},     {"max_position_embeddings", 64}};
const json kQwen = {{"model_type", "qwen3"},
                    {"hidden_size", 24},
                    {"intermediate_size", 20},
                    {"num_hidden_layers", 2},
                    {"num_attention_heads", 4},
                    {"num_key_value_heads", 2},
                    {"head_dim", 8},
                    {"max_position_embeddings", 64}};

json with(json config, const json& changes) {
  config.update(changes);
  return config;
}

class Grow : public testing::Test {
 protected:
  void SetUp() override {
    set_float_mode();
    root_ = fs::temp_directory_path() / fmt::format("naite-grow-{}", ::getpid());
    fs::remove_all(root_);
    fs::create_directories(root_);
    Result<std::unique_ptr<kernels::Kernels>> made = kernels::make_cpu(pool_, "");
    ASSERT_TRUE(made.ok());
    kernels_ = *std::move(made);
  }
  void TearDown() override { fs::remove_all(root_); }

  // A model of random weights, none of them what training starts from, as a directory.
  void write_parent(json config) {
    config["vocab_size"] = 40;
    Result<std::unique_ptr<model::Model>> model = model::make_model(config, "parent", false);
    ASSERT_TRUE(model.ok()) << model.error().message;
    parent_ = *std::move(model);
    std::vector<formats::TensorSpec> tensors;
    std::map<std::string, std::vector<float>> values;
    parent_values_.clear();
    for (const tape::ParameterSpec& spec : parent_->tensors()) {
      const bool is_vector = spec.role == tape::Role::kVector;
      tensors.push_back(
          {spec.name, StoredType::kF32,
           is_vector ? formats::Shape{spec.cols} : formats::Shape{spec.rows, spec.cols}});
      std::vector<float>& tensor = values[spec.name];
      for (int64_t i = 0; i < spec.size(); ++i)
        tensor.push_back(static_cast<float>(
            random_unit(3, Purpose::kInitialTensor, i, static_cast<uint32_t>(values.size())) -
            (is_vector ? 0.2 : 0.5)));
      parent_values_.insert(parent_values_.end(), tensor.begin(), tensor.end());
    }
    ASSERT_TRUE(write_file(root_ / "config.json", config.dump()));
    ASSERT_TRUE(write_file(root_ / "tokenizer.json", R"({"model": {"vocab": {"a": 39}}})"));
    ASSERT_TRUE(formats::write_model_safetensors(
        root_, tensors, {},
        [&](const formats::TensorSpec& spec, const formats::ByteSink& sink) -> Status {
          const std::vector<float>& tensor = values.at(spec.name);
          return sink(tensor.data(), tensor.size() * sizeof(float));
        }));
  }
  static Recipe recipe_of(const json& model, double noise) {
    Result<Curriculum> recipe = parse_recipe(
        {{"data", {{"sequence_length", 32}, {"source", {{{"name", "text"}, {"path", "x"}}}}}},
         {"model", model},
         {"train", {{"tokens", 64}, {"batch_tokens", 64}}},
         {"optimizer", {{"learning_rate", 0.01}}},
         {"growth", {{"noise", noise}}}},
        "r.toml");
    NAITE_CHECK(recipe.ok(), "{}", recipe.error().message);
    return recipe->first();
  }
  // Of the last of twelve tokens.
  std::vector<float> logits(const model::Model& model, const std::vector<float>& values) {
    tape::Parameters parameters(*kernels_, kernels::DType::kF32, model.parameters());
    int64_t offset = 0;
    for (int p = 0; p < parameters.size(); ++p) {
      const kernels::View master = parameters.master(p);
      NAITE_CHECK(kernels_->upload(master.data, values.data() + offset, master.bytes()).ok());
      offset += master.size();
    }
    infer::Generator generator(model, parameters, 32);
    const std::vector<int32_t> ids{3, 17, 39, 0, 5, 5, 21, 8, 30, 11, 2, 26};
    const std::span<const float> last = *generator.append(ids);
    return {last.begin(), last.end()};
  }
  void expect_same_function(const json& parent, const json& child, double noise) {
    write_parent(parent);
    const Recipe recipe = recipe_of(child, noise);
    Result<StartWeights> grown = grow(root_, recipe, pool_);
    ASSERT_TRUE(grown.ok()) << grown.error().message;
    Result<std::unique_ptr<model::Model>> model = recipe.make_model(40);
    ASSERT_TRUE(model.ok());
    EXPECT_GT(grown->masters.size(), parent_values_.size());
    const std::vector<float> before = logits(*parent_, parent_values_);
    const std::vector<float> after = logits(**model, grown->masters);
    float largest = 0;
    for (const float z : before) largest = std::max(largest, std::abs(z));
    for (size_t i = 0; i < before.size(); ++i)
      EXPECT_NEAR(after[i], before[i], 2e-5 * largest) << i;
    EXPECT_EQ(grown->parent.weights_digest, *formats::weights_digest(root_, pool_));
  }

  fs::path root_;
  ThreadPool pool_{2};
  std::unique_ptr<kernels::Kernels> kernels_;
  std::unique_ptr<model::Model> parent_;
  std::vector<float> parent_values_;
};

TEST_F(Grow, WidthKeepsTheFunction) {
  for (const bool tied : {false, true})
    for (const double noise : {0.0, 0.05}) {
      const json ties = {{"tie_word_embeddings", tied}};
      expect_same_function(with(kMotif, ties),
                           with(with(kMotif, ties), {{"hidden_size", 48},
                                                     {"intermediate_size", 60},
                                                     {"num_attention_heads", 8},
                                                     {"num_noise_heads", 4},
                                                     {"num_key_value_heads", 8}}),
                           noise);
      expect_same_function(with(kQwen, ties),
                           with(with(kQwen, ties), {{"hidden_size", 72},
                                                    {"intermediate_size", 40},
                                                    {"num_attention_heads", 16},
                                                    {"num_key_value_heads", 4}}),
                           noise);
    }
}

// 2 signal and 2 noise heads become 8 and 2, as between Motif-2.6B and Motif-2-12.7B.
TEST_F(Grow, SignalHeadsAloneKeepTheFunction) {
  for (const double noise : {0.0, 0.05})
    expect_same_function(kMotif, with(kMotif, {{"num_attention_heads", 10}}), noise);
}

TEST_F(Grow, DepthKeepsTheFunctionAlthoughLambdaFollowsTheLayer) {
  for (const int64_t layers : {3, 4, 7}) {
    expect_same_function(kMotif, with(kMotif, {{"num_hidden_layers", layers}}), 0);
    expect_same_function(kQwen, with(kQwen, {{"num_hidden_layers", layers}}), 0);
  }
}

TEST_F(Grow, EverythingAtOnceKeepsTheFunction) {
  expect_same_function(kMotif,
                       with(kMotif, {{"hidden_size", 48},
                                     {"intermediate_size", 40},
                                     {"num_attention_heads", 10},
                                     {"num_hidden_layers", 3}}),
                       0.02);
}

// Copies that were equal would receive equal gradients for ever.
TEST_F(Grow, NoiseTellsCopiesApart) {
  write_parent(kMotif);
  const json child = with(kMotif, {{"hidden_size", 48}});
  const Result<StartWeights> plain = grow(root_, recipe_of(child, 0), pool_);
  const Result<StartWeights> noisy = grow(root_, recipe_of(child, 0.05), pool_);
  ASSERT_TRUE(plain.ok() && noisy.ok());
  const std::vector<float>& weights = noisy->masters;
  EXPECT_NE(weights, plain->masters);
  EXPECT_EQ(weights, grow(root_, recipe_of(child, 0.05), pool_)->masters);
}

TEST_F(Grow, WhatDoesNotFitIsOneClearLine) {
  write_parent(kMotif);
  const auto message = [&](const json& changes) {
    const Result<StartWeights> grown = grow(root_, recipe_of(with(kMotif, changes), 0), pool_);
    return grown.ok() ? std::string("accepted") : grown.error().message;
  };
  const std::string begin = fmt::format("run cannot grow from {}: ", root_.string());
  EXPECT_EQ(message({{"hidden_size", 36}}),
            begin + "[model] `hidden_size` must be a multiple of the parent's 24, is 36");
  EXPECT_EQ(message({{"num_hidden_layers", 1}}),
            begin + "[model] `num_hidden_layers` must be at least the parent's 2, is 1");
  EXPECT_EQ(message({{"rope_theta", 5.0}}),
            begin +
                "[model] `rope_parameters` must be the parent's "
                "{\"rope_theta\":10000.0,\"rope_type\":\"default\"}, is "
                "{\"rope_theta\":5.0,\"rope_type\":\"default\"}");
  EXPECT_EQ(message({{"num_noise_heads", 4}, {"num_attention_heads", 8}}),
            begin +
                "[model] `num_noise_heads` must grow with num_key_value_heads, 1 times the "
                "parent's 2, is 4");
}

}  // namespace
}  // namespace naite::train
