// SPDX-License-Identifier: Apache-2.0
#include "infer/infer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "infer/scorer.h"

namespace naite::infer {
namespace {

using kernels::DType;

// With windows shorter than the texts, and longer than a step of prefill.
std::unique_ptr<model::Model> small_model(const std::string& model_type) {
  nlohmann::json config = {{"model_type", model_type}, {"vocab_size", 50},
                           {"hidden_size", 32},        {"intermediate_size", 48},
                           {"num_hidden_layers", 2},   {"num_attention_heads", 4},
                           {"num_key_value_heads", 2}};
  if (model_type == "mistral") config["sliding_window"] = 70;
  if (model_type == "qwen2")
    config.update({{"use_sliding_window", true}, {"sliding_window", 7}, {"max_window_layers", 1}});
  if (model_type == "tri")
    config.update({{"sliding_window", 33}, {"global_attention_freq", 2}, {"floor_scale", 8.0}});
  Result<std::unique_ptr<model::Model>> model = model::make_model(config, "test", true);
  NAITE_CHECK(model.ok());
  return *std::move(model);
}

void set_random(tape::Parameters& parameters) {
  for (int p = 0; p < parameters.size(); ++p) {
    std::vector<float> values(parameters.specs()[p].size());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(random_unit(5, Purpose::kInitialTensor, i, p) - 0.5);
    const kernels::View master = parameters.master(p);
    NAITE_CHECK(parameters.kernels().upload(master.data, values.data(), master.bytes()).ok());
  }
}

// Logits of every position by one forward pass without a cache.
std::vector<float> uncached(const model::Model& model, tape::Parameters& parameters,
                            const std::vector<int32_t>& ids) {
  const auto tokens = static_cast<int64_t>(ids.size());
  tape::Tape tape(parameters.kernels(), parameters.compute(), false);
  const model::Inputs in = model::Inputs::declare(tape, tokens, tokens);
  const model::Outputs out = model.forward(tape, in);
  const tape::Tensor logits = tape::logits(out.hidden, out.head);
  tape.keep(logits);
  tape::Program program(tape, parameters);
  NAITE_CHECK(parameters.prepare_all().ok());
  std::vector<int32_t> positions, spans;
  for (int32_t t = 0; t < tokens; ++t) {
    positions.push_back(t);
    spans.insert(spans.end(), {0, t + 1});
  }
  NAITE_CHECK(program.write(in.ids, ids.data(), 4 * tokens).ok());
  NAITE_CHECK(program.write(in.positions, positions.data(), 4 * tokens).ok());
  NAITE_CHECK(program.write(in.spans, spans.data(), 8 * tokens).ok());
  NAITE_CHECK(program.forward().ok());
  std::vector<float> result(tokens * model.vocab_size());
  NAITE_CHECK(program.read(logits, result.data(), static_cast<int64_t>(result.size() * 4)).ok());
  return result;
}

class Generators : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, Generators,
                         testing::Values("llama", "motif", "mistral", "qwen2", "qwen3", "smollm3",
                                         "tri"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Generators, CachedDecodingGivesTheBitsOfTheUncachedPass) {
  set_float_mode();
  ThreadPool pool(2);
  Result<std::unique_ptr<kernels::Kernels>> cpu = kernels::make_cpu(pool, "");
  ASSERT_TRUE(cpu.ok());
  const std::unique_ptr<model::Model> model = small_model(GetParam());
  for (const DType compute : {DType::kF32, DType::kBf16}) {
    tape::Parameters parameters(**cpu, compute, model->parameters());
    set_random(parameters);
    std::vector<int32_t> ids;
    for (int i = 0; i < 150; ++i) ids.push_back((i * 17) % 50);
    const std::vector<float> expected = uncached(*model, parameters, ids);
    Generator generator(*model, parameters, 160);
    // The same 150 tokens in pieces: prefill with padding, single tokens, and a longer prefill.
    for (const auto& [begin, end] :
         std::vector<std::pair<int, int>>{{0, 1}, {1, 5}, {5, 6}, {6, 149}, {149, 150}}) {
      const std::span<const float> logits =
          *generator.append(std::span(ids).subspan(begin, end - begin));
      EXPECT_EQ(std::memcmp(logits.data(), &expected[(end - 1) * 50], 50 * sizeof(float)), 0)
          << "after token " << end << ", " << kernels::dtype_name(compute);
    }
  }
}

// A document at the start of a batch of so many tokens.
Batch batch_of(const std::vector<int32_t>& ids, int64_t tokens) {
  Batch batch = Batch::text(tokens);
  const auto count = static_cast<int64_t>(ids.size());
  batch.pad(count);
  for (size_t t = 0; t < ids.size(); ++t) {
    batch.ints("ids")[t] = ids[t];
    batch.ints("targets")[t] = t + 1 < ids.size() ? ids[t + 1] : -1;
    batch.ints("positions")[t] = static_cast<int32_t>(t);
    batch.ints("spans")[2 * t] = 0;
    batch.ints("spans")[2 * t + 1] = static_cast<int32_t>(t) + 1;
  }
  return batch;
}

// Losses are those of the logits, and what else is in the batch changes no bit of them.
TEST(Scorer, LossesAreThoseOfTheLogits) {
  set_float_mode();
  ThreadPool pool(2);
  Result<std::unique_ptr<kernels::Kernels>> cpu = kernels::make_cpu(pool, "");
  ASSERT_TRUE(cpu.ok());
  const std::unique_ptr<model::Model> model = small_model("llama");
  tape::Parameters parameters(**cpu, DType::kF32, model->parameters());
  set_random(parameters);
  std::vector<int32_t> ids;
  for (int i = 0; i < 30; ++i) ids.push_back((i * 17) % 50);
  const std::vector<float> logits = uncached(*model, parameters, ids);
  Scorer small(*model, parameters, 30, 64), large(*model, parameters, 64, 64);
  const std::span<const float> first = *small.score(batch_of(ids, 30));
  const std::span<const float> second = *large.score(batch_of(ids, 64));
  for (size_t t = 0; t < 64; ++t) {
    if (t + 1 >= ids.size()) {
      EXPECT_EQ(second[t], 0);
      continue;
    }
    EXPECT_EQ(first[t], second[t]);
    double total = 0;
    for (size_t j = 0; j < 50; ++j)
      total += exact_exp2(1.44269504088896 * static_cast<double>(logits[50 * t + j]));
    const double expected = exact_ln(total) - static_cast<double>(logits[50 * t + ids[t + 1]]);
    EXPECT_NEAR(first[t], expected, 1e-5);
  }
}

TEST(Sample, IsGreedyAtZeroAndStaysInTheNucleus) {
  const std::vector<float> logits{0.0f, 3.0f, 2.9f, -5.0f};
  EXPECT_EQ(*sample(logits, {.temperature = 0, .stop_tokens = {}}, 0), 1);
  int counts[4] = {};
  for (int i = 0; i < 2000; ++i)
    ++counts[*sample(logits, {.temperature = 1, .top_p = 0.9, .seed = 1, .stop_tokens = {}}, i)];
  EXPECT_EQ(counts[0] + counts[3], 0);
  EXPECT_NEAR(counts[1] / 2000.0, 0.525, 0.04);
}

TEST(Sample, LogitsThatAreNoNumbersAreAnError) {
  for (const float wrong :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const double temperature : {0.0, 1.0}) {
      const std::vector<float> logits{0.0f, wrong, 1.0f};
      const Result<int32_t> token =
          sample(logits, {.temperature = temperature, .stop_tokens = {}}, 0);
      ASSERT_FALSE(token.ok());
      EXPECT_TRUE(token.error().message.starts_with("the logits are no numbers"));
    }
}

TEST_P(Generators, StopsAtAnyOfItsTokensAndRefusesIdsBeyondTheModel) {
  set_float_mode();
  ThreadPool pool(1);
  Result<std::unique_ptr<kernels::Kernels>> cpu = kernels::make_cpu(pool, "");
  ASSERT_TRUE(cpu.ok());
  const std::unique_ptr<model::Model> model = small_model(GetParam());
  tape::Parameters parameters(**cpu, DType::kF32, model->parameters());
  for (int p = 0; p < parameters.size(); ++p) {
    std::vector<float> values(parameters.specs()[p].size());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(random_unit(5, Purpose::kInitialTensor, i, p) - 0.5);
    ASSERT_TRUE((*cpu)
                    ->upload(parameters.master(p).data, values.data(), parameters.master(p).bytes())
                    .ok());
  }
  Generator generator(*model, parameters, 32);
  const std::vector<int32_t> prompt{1, 2, 3};
  std::vector<int32_t> tokens;
  const auto count = [&](const std::vector<int32_t>& stops) {
    tokens.clear();
    return *generator.generate(prompt, {.max_tokens = 8, .temperature = 0, .stop_tokens = stops},
                               [&](int32_t token) {
                                 tokens.push_back(token);
                                 return true;
                               });
  };
  EXPECT_EQ(count({}), 8);
  const int32_t first = tokens[0];
  EXPECT_EQ(count({-1, first}), 0);
  for (const int32_t id : {-1, 50, INT32_MAX}) {
    const std::vector<int32_t> beyond{1, id};
    const auto refused = generator.generate(beyond, {}, [](int32_t) { return true; });
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find(fmt::format("the token id {}", id)), std::string::npos);
  }
}

}  // namespace
}  // namespace naite::infer
