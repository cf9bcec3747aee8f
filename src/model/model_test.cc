// SPDX-License-Identifier: Apache-2.0
// Whole models: gradients against central differences, lifetimes under poison, recomputation, and
// the bits of cached decoding.
#include "model/model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "model/motif.h"
#include "model/rotary.h"

namespace naite::model {
namespace {

using kernels::DType;
using nlohmann::json;

json small_llama(bool tied) {
  return {{"model_type", "llama"},    {"vocab_size", 13},       {"hidden_size", 12},
          {"intermediate_size", 10},  {"num_hidden_layers", 3}, {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"head_dim", 4},          {"tie_word_embeddings", tied},
          {"initializer_range", 0.5}};
}

// Plain differential attention, and groups: 3:1 where the noise heads share their key, 4:1, and
// values of SiLU with stretched rotations.
json small_motif(const std::string& form) {
  json config = small_llama(form == "motif_silu");
  config.update({{"model_type", "motif"}, {"num_key_value_heads", 4}});
  if (form == "motif_3to1")
    config.update({{"num_attention_heads", 8}, {"num_noise_heads", 2}, {"num_key_value_heads", 2}});
  if (form == "motif_4to1") config.update({{"num_attention_heads", 10}, {"num_noise_heads", 2}});
  if (form == "motif_gelu") config["hidden_act"] = "gelu_pytorch_tanh";
  if (form == "motif_silu")
    config.update(
        {{"hidden_act", "silu"},
         {"rope_scaling",
          {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}}}});
  return config;
}

// Every form of the family: ties, windows, biases, norms of queries and keys, stretched rotations.
json small_model(const std::string& form) {
  if (form.starts_with("motif")) return small_motif(form);
  json config = small_llama(form == "llama_tied");
  if (form == "mistral") config.update({{"model_type", "mistral"}, {"sliding_window", 3}});
  if (form == "llama_biased")
    config.update({{"attention_bias", true},
                   {"rope_scaling",
                    {{"rope_type", "llama3"},
                     {"factor", 4.0},
                     {"low_freq_factor", 1.0},
                     {"high_freq_factor", 4.0},
                     {"original_max_position_embeddings", 16}}}});
  if (form == "qwen2")
    config.update({{"model_type", "qwen2"},
                   {"use_sliding_window", true},
                   {"sliding_window", 4},
                   {"max_window_layers", 1}});
  if (form == "tri")
    config.update({{"model_type", "tri"},
                   {"sliding_window", 3},
                   {"global_attention_freq", 2},
                   {"attn_scale", 0.5},
                   {"floor_scale", 2.0}});
  if (form == "smollm3")
    config.update({{"model_type", "smollm3"},
                   {"no_rope_layer_interval", 2},
                   {"use_sliding_window", true},
                   {"sliding_window", 3}});
  if (form == "qwen3")
    config.update(
        {{"model_type", "qwen3"},
         {"rope_scaling",
          {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}}}});
  return config;
}

std::unique_ptr<Model> make(const json& config) {
  Result<std::unique_ptr<Model>> model = make_model(config, "test", true);
  NAITE_CHECK(model.ok(), "{}", model.error().message);
  return *std::move(model);
}

// A training tape over two documents of 5 and 6 tokens, with random parameters.
struct Trainer {
  static constexpr int64_t kTokens = 11;

  Trainer(const Model& model, kernels::Kernels& kernels, DType compute,
          tape::ProgramOptions options)
      : kernels(kernels), tape(kernels, compute, true) {
    const Inputs in = Inputs::declare(tape, kTokens, kTokens);
    const Tensor targets = tape.data("targets", DType::kI32, kTokens, 1);
    const Tensor scale = tape.data("scale", tape.wide(), kTokens, 1);
    const Outputs out = model.forward(tape, in);
    loss = tape::linear_cross_entropy(out.hidden, out.head, targets, scale);
    tape.keep(loss);
    parameters = std::make_unique<tape::Parameters>(kernels, compute, tape.parameters());
    program = std::make_unique<tape::Program>(tape, *parameters, options);
    slab = tape::Block(kernels, parameters->layout().bytes());
    std::vector<int32_t> ids, positions, spans, next;
    for (int t = 0; t < kTokens; ++t) {
      const int begin = t < 5 ? 0 : 5;
      ids.push_back((t * 7) % 13);
      next.push_back(t == 4 ? -1 : (t * 7 + 7) % 13);
      positions.push_back(t - begin);
      spans.insert(spans.end(), {begin, t + 1});
    }
    NAITE_CHECK(program->write(in.ids, ids.data(), 4 * kTokens).ok());
    NAITE_CHECK(program->write(in.positions, positions.data(), 4 * kTokens).ok());
    NAITE_CHECK(program->write(in.spans, spans.data(), 8 * kTokens).ok());
    NAITE_CHECK(program->write(targets, next.data(), 4 * kTokens).ok());
    const std::vector<double> ones(kTokens, 1);
    const std::vector<float> ones32(kTokens, 1);
    NAITE_CHECK(compute == DType::kF64 ? program->write(scale, ones.data(), 8 * kTokens).ok()
                                       : program->write(scale, ones32.data(), 4 * kTokens).ok());
    for (int p = 0; p < parameters->size(); ++p)
      for (int64_t i = 0; i < parameters->specs()[p].size(); ++i) set(p, i, value(p, i));
  }

  double value(int p, int64_t i) const {
    return random_unit(3, Purpose::kInitialTensor, i, p) - 0.5 +
           parameters->specs()[p].initial_value;
  }
  void set(int p, int64_t i, double value) {
    const View view = parameters->master(p);
    const auto single = static_cast<float>(value);
    if (view.dtype == DType::kF64)
      NAITE_CHECK(kernels.upload(view.as<double>() + i, &value, 8).ok());
    if (view.dtype == DType::kF32)
      NAITE_CHECK(kernels.upload(view.as<float>() + i, &single, 4).ok());
  }
  double run(bool accumulate = false) {
    NAITE_CHECK(parameters->prepare_all().ok());
    NAITE_CHECK(program->forward().ok());
    NAITE_CHECK(program->backward(slab, accumulate).ok());
    double total = 0;
    std::vector<double> wide(kTokens);
    std::vector<float> single(kTokens);
    if (tape.compute() == DType::kF64) {
      NAITE_CHECK(program->read(loss, wide.data(), 8 * kTokens).ok());
    } else {
      NAITE_CHECK(program->read(loss, single.data(), 4 * kTokens).ok());
      wide.assign(single.begin(), single.end());
    }
    for (double value : wide) total += value;
    return total;
  }
  std::string gradient_bits() const {
    std::string bytes(slab.bytes(), '\0');
    NAITE_CHECK(kernels.download(bytes.data(), slab.data(), slab.bytes()).ok());
    return bytes;
  }
  double gradient(int p, int64_t i) const {
    double value = 0;
    NAITE_CHECK(
        kernels.download(&value, parameters->layout().view(slab, p).as<double>() + i, 8).ok());
    return value;
  }

  using View = kernels::View;
  kernels::Kernels& kernels;
  Tape tape;
  Tensor loss;
  std::unique_ptr<tape::Parameters> parameters;
  std::unique_ptr<tape::Program> program;
  tape::Block slab;
};

class Family : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, Family,
                         testing::Values("llama", "llama_tied", "llama_biased", "mistral", "qwen2",
                                         "qwen3", "motif", "motif_3to1", "motif_4to1", "motif_silu",
                                         "motif_gelu", "tri", "smollm3"),
                         [](const auto& info) { return info.param; });

TEST_P(Family, GradientsAreDerivativesUnderThePlan) {
  set_float_mode();
  const std::unique_ptr<kernels::Kernels> reference = kernels::make_reference(DType::kF64);
  const std::unique_ptr<Model> model = make(small_model(GetParam()));
  Trainer trainer(*model, *reference, DType::kF64, {.poison = true});
  trainer.run();
  Trainer moved(*model, *reference, DType::kF64, {});
  constexpr double kStep = 1e-5;
  for (int p = 0; p < trainer.parameters->size(); ++p) {
    for (int64_t i = 0; i < trainer.parameters->specs()[p].size(); i += 17) {
      moved.set(p, i, moved.value(p, i) + kStep);
      const double up = moved.run();
      moved.set(p, i, moved.value(p, i) - kStep);
      const double down = moved.run();
      moved.set(p, i, moved.value(p, i));
      const double expected = (up - down) / (2 * kStep);
      EXPECT_NEAR(trainer.gradient(p, i), expected, 1e-6 * (1 + std::abs(expected)))
          << trainer.parameters->specs()[p].name << " element " << i;
    }
  }
}

TEST_P(Family, PoisonRecomputationAndThreadsChangeNoBit) {
  set_float_mode();
  const std::unique_ptr<Model> model = make(small_model(GetParam()));
  for (const DType compute : {DType::kF32, DType::kBf16}) {
    const std::unique_ptr<kernels::Kernels> reference = kernels::make_reference(DType::kF32);
    Trainer plain(*model, *reference, compute, {});
    plain.run();
    plain.run(true);  // a second micro-batch accumulates
    const std::string expected = plain.gradient_bits();
    for (const bool recompute : {false, true}) {
      Trainer poisoned(*model, *reference, compute, {.recompute = recompute, .poison = true});
      poisoned.run();
      poisoned.run(true);
      EXPECT_TRUE(poisoned.gradient_bits() == expected) << "recompute " << recompute;
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        Result<std::unique_ptr<kernels::Kernels>> cpu = kernels::make_cpu(pool, "");
        ASSERT_TRUE(cpu.ok());
        Trainer fast(*model, **cpu, compute, {.recompute = recompute, .poison = true});
        fast.run();
        fast.run(true);
        EXPECT_TRUE(fast.gradient_bits() == expected) << threads << " threads";
      }
    }
  }
}

TEST(Plan, ReusesMemoryAndRecomputationSavesMore) {
  const std::unique_ptr<kernels::Kernels> reference = kernels::make_reference(DType::kF32);
  json config = small_llama(false);
  config["num_hidden_layers"] = 12;
  const std::unique_ptr<Model> model = make(config);
  Trainer trainer(*model, *reference, DType::kF32, {});
  const tape::Plan whole = tape::make_plan(trainer.tape, false);
  const tape::Plan small = tape::make_plan(trainer.tape, true);
  EXPECT_LT(whole.arena_bytes, whole.naive_bytes * 7 / 10);
  EXPECT_LT(small.arena_bytes, whole.arena_bytes / 2);
  for (const tape::Plan* plan : {&whole, &small})
    for (const tape::Placement& a : plan->placements)
      for (const tape::Placement& b : plan->placements) {
        if (&a == &b || a.last < b.first || b.last < a.first) continue;
        EXPECT_TRUE(a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset);
      }
}

TEST(Config, BadModelsAreOneClearLine) {
  auto message = [](const char* key, json value) {
    json config = small_llama(false);
    config[key] = std::move(value);
    Result<std::unique_ptr<Model>> model = make_model(config, "r.toml: [model]", true);
    return model.ok() ? std::string("accepted") : model.error().message;
  };
  EXPECT_EQ(message("num_key_value_heads", 3),
            "r.toml: [model] `num_key_value_heads` must be a divisor of num_attention_heads = 4, "
            "is 3");
  EXPECT_EQ(
      message("model_type", "lama"),
      "r.toml: [model] `model_type` must be one of llama, mistral, qwen2, qwen3, motif, smollm3, "
      "tri, is \"lama\"");
  EXPECT_EQ(message("hiden_size", 3),
            "r.toml: [model] does not know the key `hiden_size`; did you mean `hidden_size`?");
  EXPECT_EQ(message("head_dim", 3),
            "r.toml: [model] `head_dim` must be even, for rotary pairs, is 3");
  EXPECT_EQ(message("hidden_size", "x"),
            "r.toml: [model] `hidden_size` must be an integer from 1 to 131072, is \"x\"");
}

TEST(Config, WindowsOfQwenBeginAtAnyLayer) {
  json config = small_model("qwen2");
  config.erase("max_window_layers");
  const auto kinds = [&](const json& layers) {
    config["layer_types"] = layers;
    return make_model(config, "r:", false);
  };
  const auto count = config["num_hidden_layers"].get<size_t>();
  const auto every = kinds(json(count, "sliding_attention"));
  ASSERT_TRUE(every.ok()) << every.error().message;
  const json written = (*every)->config();
  EXPECT_EQ(written["max_window_layers"], 0);
  const auto again = make_model(written, "again:", false);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ((*again)->config(), written);
  const auto more = kinds(json(count + 1, "sliding_attention"));
  ASSERT_FALSE(more.ok());
  EXPECT_NE(more.error().message.find("`layer_types` must be a list of"), std::string::npos);
}

// What make_model() says of a config.json with these changes; empty if it reads it.
std::string refusal(json config, const json& changes) {
  config.update(changes);
  const Result<std::unique_ptr<Model>> model = make_model(config, "config.json:", false);
  return model.ok() ? "" : model.error().message;
}

TEST(Config, WhatIsNotDoneIsRefusedByItsName) {
  const std::pair<const char*, json> keys[] = {
      {"final_logit_softcapping", 30.0},
      {"attn_logit_softcapping", 50.0},
      {"residual_multiplier", 0.22},
      {"embedding_multiplier", 12},
      {"logits_scaling", 8.0},
      {"attention_multiplier", 0.5},
      {"query_pre_attn_scalar", 256},
      {"qk_norm", true},
      {"use_parallel_residual", true},
      {"rotary_pct", 0.25},
      {"partial_rotary_factor", 0.5},
      {"mlp_bias", true},
      {"num_local_experts", 8},
      {"sliding_window", 16},
      {"rope_local_base_freq", 10000.0},
      {"hidden_act", "gelu"},
      {"no_rope_layers", {1, 1, 0}},
      {"quantization_config", {{"quant_method", "gptq"}}},
      {"attention_kind", "linear"},
      {"vision_config", {{"depth", 2}}},
      {"layer_types", {"full_attention", "sliding_attention", "full_attention"}},
      {"architectures", {"LlamaForSequenceClassification"}}};
  for (const auto& [key, value] : keys) {
    const std::string said = refusal(small_llama(false), {{key, value}});
    EXPECT_NE(said.find(std::string("`") + key + "`"), std::string::npos) << key << ": " << said;
  }
  EXPECT_NE(refusal(small_llama(false), {{"dtype", "float16"}, {"torch_dtype", "bfloat16"}}), "");
}

TEST(Config, WhatAsksForNothingIsLetStand) {
  for (const json& changes :
       {json{{"final_logit_softcapping", nullptr}}, json{{"residual_multiplier", 1.0}},
        json{{"qk_norm", false}}, json{{"pruned_heads", json::object()}},
        json{{"attention_dropout", 0.1}}, json{{"_name_or_path", "a/b"}},
        json{{"transformers_version", "5.0.0"}}, json{{"eos_token_id", {1, 2}}},
        json{{"id2label", {{"0", "LABEL_0"}}}}, json{{"partial_rotary_factor", 1}},
        json{{"architectures", {"LLaMAForCausalLM"}}}, json{{"architectures", nullptr}},
        json{{"layer_types", json(3, "full_attention")}}, json{{"temperature", 0.6}},
        json{{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}}},
        json{{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}, {"finetuned", true}}}}})
    EXPECT_EQ(refusal(small_llama(false), changes), "") << changes;
}

TEST(Config, WindowsOfQwenFollowEveryKey) {
  const json off = {{"use_sliding_window", false}};
  EXPECT_EQ(refusal(small_model("qwen2"), off), "");
  EXPECT_NE(refusal(small_model("qwen2"),
                    {{"use_sliding_window", false}, {"layer_types", json(3, "sliding_attention")}}),
            "");
  EXPECT_NE(refusal(small_model("qwen2"), {{"layer_types", json(3, "chunked_attention")}}), "");
  json none = small_model("qwen2");
  none["sliding_window"] = nullptr;  // asked for, of no size
  EXPECT_EQ((*make_model(none, "config.json:", false))->config()["use_sliding_window"], false);
}

TEST(Rotary, WhatATableSaysIsDoneOrRefused) {
  const auto said = [](const json& changes) { return refusal(small_llama(false), changes); };
  const json layered = {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 1e6}}},
                        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}};
  EXPECT_NE(said({{"rope_parameters", layered}}).find("`rope_parameters` must be one table"),
            std::string::npos);
  for (const char* key : {"mscale", "mrope_section", "short_factor", "factor"})
    EXPECT_NE(said({{"rope_parameters", {{"rope_type", "default"}, {key, 2.0}}}}).find(key),
              std::string::npos)
        << key;
  EXPECT_NE(said({{"rope_parameters", {{"partial_rotary_factor", 0.5}}}}), "");
  EXPECT_NE(said({{"rope_scaling", {{"rope_type", "longrope"}}}}), "");
  EXPECT_NE(said({{"rope_scaling", {{"rope_type", "default"}, {"type", "mrope"}}}}), "");
  EXPECT_NE(said({{"rope_theta", 1e4}, {"rope_parameters", {{"rope_theta", 1e6}}}}), "");
  EXPECT_NE(said({{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}},
                  {"rope_parameters", {{"rope_type", "linear"}, {"factor", 4.0}}}}),
            "");
  EXPECT_NE(said({{"rope_scaling", "linear"}}), "");
}

// Without no_rope_layers every fourth layer does not turn, and only such layers may have windows.
TEST(SmolLm3, LayersThatDoNotTurnAreAsTheConfigSays) {
  json config = small_llama(true);
  config.update({{"model_type", "smollm3"}, {"num_hidden_layers", 5}});
  EXPECT_EQ(make(config)->config()["no_rope_layers"], json({1, 1, 1, 0, 1}));
  const auto message = [&](const char* key, json value) {
    json changed = config;
    changed[key] = std::move(value);
    Result<std::unique_ptr<Model>> model = make_model(changed, "s:", false);
    return model.ok() ? std::string("accepted") : model.error().message;
  };
  EXPECT_EQ(message("no_rope_layers", {0, 1, 0, 1, 1}), "accepted");
  EXPECT_EQ(message("no_rope_layers", {0, 1}),
            "s: `no_rope_layers` must be a list of 5 zeros and ones, is [0,1]");
  EXPECT_EQ(message("layer_types", json(5, "full_attention")), "accepted");
  EXPECT_NE(message("layer_types", json(5, "sliding_attention")), "accepted");
}

TEST(Motif, LambdaStartsAsInThePublishedModels) {
  const double expected[] = {-0.009915, 0.2, 0.355509, 0.470713, 0.556058};
  for (int64_t layer = 0; layer < 5; ++layer)
    EXPECT_NEAR(motif_lambda_initial(layer), expected[layer], 5e-7);
  EXPECT_NEAR(motif_lambda_initial(39), 0.799993, 5e-7);
}

TEST(Motif, HeadsThatFormNoGroupsAreOneClearLine) {
  const auto message = [](const json& changes) {
    json config = small_motif("motif_4to1");
    config.update(changes);
    Result<std::unique_ptr<Model>> model = make_model(config, "m/config.json:", false);
    return model.ok() ? std::string("accepted") : model.error().message;
  };
  EXPECT_EQ(message({{"num_noise_heads", 3}}),
            "m/config.json: `num_noise_heads` must be a divisor of num_attention_heads = 10 below "
            "it, so that every noise head serves as many signal heads, is 3");
  EXPECT_EQ(message({{"num_attention_heads", 5}, {"num_noise_heads", nullptr}}),
            "m/config.json: `num_attention_heads` must be even, or num_noise_heads must say how "
            "many are noise, is 5");
  EXPECT_EQ(message({{"num_key_value_heads", 3}}),
            "m/config.json: `num_key_value_heads` must be even: a key for signal and one for noise "
            "each, is 3");
  EXPECT_EQ(message({{"num_key_value_heads", 8}}),
            "m/config.json: `num_key_value_heads` must be twice a divisor of num_noise_heads = 2, "
            "is 8");
  EXPECT_EQ(message({{"k_ratio", 2}}),
            "m/config.json: `k_ratio` must be an integer from 1 to 1, is 2");
  EXPECT_EQ(message({{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}}}),
            "m/config.json: [rope_scaling] `rope_type` must be one of default, linear, llama3, "
            "yarn, is \"dynamic\"");
}

json published_motif(const std::string& size) {
  json config = {
      {"model_type", "Motif"},     {"vocab_size", 219520},       {"head_dim", 128},
      {"num_noise_heads", 8},      {"num_key_value_heads", 16},  {"hidden_act", "poly_norm"},
      {"hidden_size", 2048},       {"intermediate_size", 8192},  {"num_hidden_layers", 32},
      {"num_attention_heads", 16}, {"tie_word_embeddings", true}};
  if (size == "12.7B")
    config.update(
        {{"hidden_size", 4096},
         {"intermediate_size", 16384},
         {"num_hidden_layers", 40},
         {"num_attention_heads", 40},
         {"tie_word_embeddings", false},
         {"rope_scaling",
          {{"factor", 2.0}, {"original_max_position_embeddings", 65536}, {"rope_type", "yarn"}}}});
  return config;
}

// Totals and numbers of tensors of the published files.
TEST(Motif, PublishedModelsHaveTheirParameters) {
  const auto expect = [](const char* size, int64_t parameters, size_t tensors) {
    Result<std::unique_ptr<Model>> model = make_model(published_motif(size), "config.json", false);
    ASSERT_TRUE(model.ok()) << model.error().message;
    EXPECT_EQ((*model)->num_parameters(), parameters);
    EXPECT_EQ((*model)->parameters().size(), tensors);
  };
  expect("12.7B", 12'703'860'896, 643);
  expect("2.6B", 2'597'218'432, 514);
}

TEST_P(Family, ConfigsReadBackAsTheyAreWritten) {
  const std::unique_ptr<Model> model = make(small_model(GetParam()));
  Result<std::unique_ptr<Model>> again = make_model(model->config(), "config.json", false);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ((*again)->config(), model->config());
  EXPECT_EQ((*again)->parameters(), model->parameters());
}

// Values of transformers 5.23, modeling_rope_utils.py, for head_dim 8 and theta 10000.
TEST(Rotary, StretchedFrequenciesMatchTransformers) {
  const auto frequencies = [](json scaling) {
    const json config = {{"rope_scaling", std::move(scaling)}};
    Table table(config, "test");
    Rotary rotary = read_rotary(table, 8, 256);
    EXPECT_TRUE(table.finish(true).ok());
    rotary.frequencies.push_back(rotary.magnitude);
    return rotary.frequencies;
  };
  const auto expect = [](const std::vector<double>& actual, const std::vector<double>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i)
      EXPECT_NEAR(actual[i], expected[i], 1e-6 * expected[i]) << i;
  };
  expect(frequencies(nullptr), {1.0, 0.1, 0.01, 0.001, 1.0});
  expect(frequencies({{"type", "linear"}, {"factor", 2.0}}), {0.5, 0.05, 0.005, 0.0005, 1.0});
  expect(frequencies({{"rope_type", "llama3"},
                      {"factor", 8.0},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 128}}),
         {1.0, 0.0427511781, 0.00125, 0.000125, 1.0});
  json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
  expect(frequencies(yarn), {1.0, 0.0625, 0.0025, 0.00025, 1.138629436});
  yarn.update({{"beta_fast", 4.0}, {"truncate", false}});
  expect(frequencies(yarn), {1.0, 0.0259965975, 0.0025, 0.00025, 1.138629436});
}

// A table that is only looked up multiplies nothing; a tied one does, as the head.
TEST(Count, FlopsLeaveOutWhatIsLookedUp) {
  const std::unique_ptr<Model> tied = make(small_llama(true)), untied = make(small_llama(false));
  EXPECT_EQ(untied->num_parameters(), tied->num_parameters() + 13 * 12);
  EXPECT_EQ(tied->cost(8).active_parameters, tied->num_parameters());
  EXPECT_EQ(untied->cost(8).training_flops, tied->cost(8).training_flops);
  const double attention = static_cast<double>(tied->attention_width()) * 8 / 2;
  EXPECT_EQ(tied->cost(8).training_flops,
            6 * (static_cast<double>(tied->num_parameters()) + attention));
}

TEST(Count, MatchesTheFormula) {
  const std::unique_ptr<Model> model = make({{"model_type", "llama"},
                                             {"vocab_size", 128256},
                                             {"hidden_size", 8192},
                                             {"intermediate_size", 28672},
                                             {"num_hidden_layers", 80},
                                             {"num_attention_heads", 64},
                                             {"num_key_value_heads", 8}});
  EXPECT_EQ(model->num_parameters(), 70'553'706'496);  // Llama 3 70B
  const std::unique_ptr<Model> tri = make({{"model_type", "tri"},
                                           {"vocab_size", 124416},
                                           {"hidden_size", 8192},
                                           {"intermediate_size", 28672},
                                           {"num_hidden_layers", 80},
                                           {"num_attention_heads", 64},
                                           {"num_key_value_heads", 8},
                                           {"head_dim", 128}});
  EXPECT_EQ(tri->num_parameters(), 70'490'791'936);
  const std::unique_ptr<Model> smol = make({{"model_type", "smollm3"},
                                            {"vocab_size", 128256},
                                            {"hidden_size", 2048},
                                            {"intermediate_size", 11008},
                                            {"num_hidden_layers", 36},
                                            {"num_attention_heads", 16},
                                            {"num_key_value_heads", 4}});
  EXPECT_EQ(smol->num_parameters(), 3'075'098'624);  // SmolLM3-3B
}

}  // namespace
}  // namespace naite::model
