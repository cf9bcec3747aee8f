// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/gguf_keys.h"
#include "formats/model_json.h"
#include "model/model.h"
#include "model/rotary.h"

namespace naite::formats {

using nlohmann::json;

namespace {

constexpr std::string_view kScalingKey = "naite.rope_scaling";

// The rope scaling table of a config under either of its names; null if there is none.
json scaling_of(const json& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto it = config.find(key);
    if (it == config.end() || !it->is_object()) continue;
    const std::string type = it->value("rope_type", std::string("default"));
    if (type != "default") return *it;
  }
  return nullptr;
}

Status put_scaling(GgufKeys& keys, const std::string& prefix, const json& config) {
  const json scaling = scaling_of(config);
  if (scaling.is_null()) return {};
  const auto type = scaling["rope_type"].get<std::string>();
  keys.text(kScalingKey, scaling.dump());
  if (type == "llama3") return {};  // as a table of factors: the tensor rope_freqs.weight
  if (type != "yarn" && type != "linear")
    return fail("rope scaling of type {} cannot be written to GGUF", type);
  keys.text(prefix + "rope.scaling.type", type);
  keys.f32(prefix + "rope.scaling.factor", scaling.value("factor", 1.0f));
  if (type == "yarn") {
    const int64_t original = scaling.value("original_max_position_embeddings",
                                           config.value("max_position_embeddings", 0));
    keys.u32(prefix + "rope.scaling.original_context_length", static_cast<uint32_t>(original));
  }
  return {};
}

Result<json> scaling_from_gguf(const Gguf& file, const std::string& prefix) {
  if (file.has(kScalingKey)) {
    NAITE_ASSIGN(const std::string text, file.text(kScalingKey));
    return parse_model_json(text, file.name());
  }
  if (file.find(kRotaryDivisors) != nullptr)
    return fail(
        "{}: its rotary frequencies were scaled by a table whose origin the file does not "
        "say; use the model's Hugging Face directory",
        file.name());
  const std::string type_key = prefix + "rope.scaling.type";
  if (!file.has(type_key)) return json(nullptr);
  NAITE_ASSIGN(const std::string type, file.text(type_key));
  if (type == "none") return json(nullptr);
  json scaling = {{"rope_type", type}};
  NAITE_ASSIGN(scaling["factor"], file.number(prefix + "rope.scaling.factor"));
  const std::string original = prefix + "rope.scaling.original_context_length";
  if (file.has(original)) {
    NAITE_ASSIGN(scaling["original_max_position_embeddings"], file.integer(original));
  }
  return scaling;
}

// What the architecture's keys may ask for and is done, by the end of the key.
constexpr std::string_view kKnown[] = {"block_count",
                                       "context_length",
                                       "embedding_length",
                                       "feed_forward_length",
                                       "vocab_size",
                                       "attention.head_count",
                                       "attention.head_count_kv",
                                       "attention.key_length",
                                       "attention.value_length",
                                       "attention.layer_norm_rms_epsilon",
                                       "rope.freq_base",
                                       "rope.dimension_count",
                                       "rope.scaling.type",
                                       "rope.scaling.factor",
                                       "rope.scaling.original_context_length",
                                       "rope.scaling.finetuned",
                                       "tensor_data_layout"};

// Values by which nothing is asked; zero and false are so for every key.
struct NeutralValue {
  std::string_view key;
  double value;
};
constexpr NeutralValue kNeutral[] = {{"rope.scaling.attn_factor", 1},
                                     {"rope.scaling.yarn_attn_factor", 1},
                                     {"rope.scaling.yarn_ext_factor", 1},
                                     {"rope.scaling.yarn_beta_fast", 32},
                                     {"rope.scaling.yarn_beta_slow", 1},
                                     {"logit_scale", 1},
                                     {"residual_scale", 1},
                                     {"embedding_scale", 1},
                                     {"attention.causal", 1}};

// A key of the architecture that is not read would make another model.
Status check_keys(const Gguf& file, const std::string& prefix, const json& config) {
  for (const std::string_view key : file.keys()) {
    if (!key.starts_with(prefix)) continue;
    const std::string_view rest = key.substr(prefix.size());
    if (std::find(std::begin(kKnown), std::end(kKnown), rest) != std::end(kKnown)) continue;
    const Result<double> value = file.number(key);
    bool is_neutral = value.ok() && *value == 0;
    for (const NeutralValue& neutral : kNeutral)
      is_neutral |= value.ok() && rest == neutral.key && *value == neutral.value;
    // A window that sees the whole context is none.
    if (rest == "attention.sliding_window" && value.ok())
      is_neutral |= *value >= config["max_position_embeddings"].get<double>();
    if (is_neutral) continue;
    return fail(
        "{}: has the key {}{}, which Naite does not do: it would be another model without it",
        file.name(), shown_name(key), value.ok() ? fmt::format(" = {}", *value) : "");
  }
  for (const auto& [key, expected] : {std::pair("rope.dimension_count", "head_dim"),
                                      {"attention.value_length", "head_dim"},
                                      {"vocab_size", "vocab_size"}}) {
    if (!file.has(prefix + key)) continue;
    NAITE_ASSIGN(const int64_t value, file.integer(prefix + key));
    if (value != config[expected].get<int64_t>())
      return fail("{}: {}{} is {}, where {} is read", file.name(), prefix, key, value,
                  config[expected].get<int64_t>());
  }
  return {};
}

// The table of divisors must be what the scaling comes to: llama.cpp goes by the table.
Status check_divisors(const Gguf& file, const json& config) {
  const StoredTensor* tensor = file.find(kRotaryDivisors);
  if (tensor == nullptr) return {};
  // As many as the file holds before any are made: the config may announce billions.
  std::vector<float> expected, found;
  bool same = tensor->shape == Shape{config["head_dim"].get<int64_t>() / 2};
  if (same) expected = rotary_divisors(config);
  found.resize(expected.size());
  same = same && static_cast<int64_t>(found.size()) == tensor->shape[0];
  if (same) NAITE_TRY(read_floats(*tensor, found));
  for (size_t i = 0; same && i < found.size(); ++i)
    same = std::abs(found[i] - expected[i]) <= 1e-5f * expected[i];
  if (same) return {};
  return fail("{}: the tensor {} is not what {} comes to", file.name(), kRotaryDivisors,
              kScalingKey);
}

}  // namespace

// Llama 3's stretching of rotary frequencies as GGUF says it: the divisor of each frequency. Empty
// for other models.
std::vector<float> rotary_divisors(const json& config) {
  const auto scaling = config.find("rope_scaling");
  if (scaling == config.end() || !scaling->is_object() ||
      scaling->value("rope_type", json()) != "llama3")
    return {};
  Table table(config, "config.json");
  const auto head_dim = config["head_dim"].get<int64_t>();
  const model::Rotary rotary =
      model::read_rotary(table, head_dim, config["max_position_embeddings"].get<int64_t>());
  const std::vector<double> plain = model::inverse_frequencies(rotary.theta, head_dim);
  std::vector<float> out;
  for (size_t i = 0; i < plain.size(); ++i)
    out.push_back(static_cast<float>(plain[i] / rotary.frequencies[i]));
  return out;
}

Status put_config(GgufKeys& keys, const Architecture& architecture, const json& config) {
  const std::string prefix = std::string(architecture.gguf) + ".";
  const auto put = [&](const char* key, const char* from) {
    keys.u32(prefix + key, config.value(from, uint32_t{0}));
  };
  put("block_count", "num_hidden_layers");
  put("context_length", "max_position_embeddings");
  put("embedding_length", "hidden_size");
  put("feed_forward_length", "intermediate_size");
  put("vocab_size", "vocab_size");
  put("attention.head_count", "num_attention_heads");
  put("attention.head_count_kv", "num_key_value_heads");
  put("attention.key_length", "head_dim");
  put("attention.value_length", "head_dim");
  put("rope.dimension_count", "head_dim");
  keys.f32(prefix + "attention.layer_norm_rms_epsilon", config.value("rms_norm_eps", 1e-6f));
  keys.f32(prefix + "rope.freq_base", config.value("rope_theta", 10000.0f));
  const auto window = config.find("sliding_window");
  const bool windowed = window != config.end() && window->is_number_integer();
  if (windowed && window->get<int64_t>() < config.value("max_position_embeddings", int64_t{0}))
    return fail("a sliding window of {} tokens cannot be written to GGUF for {}",
                window->get<int64_t>(), architecture.model_type);
  return put_scaling(keys, prefix, config);
}

Result<json> config_from_gguf(const Gguf& file) {
  for (const auto& [key, wanted] : {std::pair("general.type", "model"), {"adapter.type", ""}}) {
    if (!file.has(key)) continue;
    NAITE_ASSIGN(const std::string type, file.text(key));
    if (type != wanted)
      return fail("{}: its {} is {}: it is no model by itself", file.name(), key, shown_name(type));
  }
  NAITE_ASSIGN(const std::string name, file.text("general.architecture"));
  const Result<const Architecture*> found = architecture_of_gguf(name);
  if (!found) return fail("{}: {}", file.name(), found.error().message);
  const Architecture& architecture = **found;
  const std::string prefix = std::string(architecture.gguf) + ".";
  const StoredTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    return fail("{}: the tensor token_embd.weight is missing", file.name());

  json config = {{"architectures", {architecture.class_name}},
                 {"model_type", architecture.model_type},
                 {"vocab_size", embedding->shape[0]},
                 {"hidden_act", "silu"},
                 {"attention_bias", file.find("blk.0.attn_output.bias") != nullptr},
                 {"tie_word_embeddings", file.find("output.weight") == nullptr}};
  const auto get = [&](const char* key, const char* to) -> Status {
    NAITE_ASSIGN(const int64_t value, file.integer(prefix + key));
    if (value < 1 || value > INT32_MAX)
      return fail("{}: {}{} is {}, not a sensible number", file.name(), prefix, key, value);
    config[to] = value;
    return {};
  };
  NAITE_TRY(get("block_count", "num_hidden_layers"));
  NAITE_TRY(get("context_length", "max_position_embeddings"));
  NAITE_TRY(get("embedding_length", "hidden_size"));
  NAITE_TRY(get("feed_forward_length", "intermediate_size"));
  NAITE_TRY(get("attention.head_count", "num_attention_heads"));
  config["num_key_value_heads"] = config["num_attention_heads"];
  if (file.has(prefix + "attention.head_count_kv"))
    NAITE_TRY(get("attention.head_count_kv", "num_key_value_heads"));
  config["head_dim"] =
      config["hidden_size"].get<int64_t>() / config["num_attention_heads"].get<int64_t>();
  if (file.has(prefix + "attention.key_length")) NAITE_TRY(get("attention.key_length", "head_dim"));
  if (config["num_hidden_layers"].get<int64_t>() > static_cast<int64_t>(file.tensors().size()))
    return fail("{}: announces {} layers, holds {} tensors", file.name(),
                config["num_hidden_layers"].get<int64_t>(), file.tensors().size());
  NAITE_ASSIGN(config["rms_norm_eps"], file.number(prefix + "attention.layer_norm_rms_epsilon"));
  config["rope_theta"] = 10000.0;
  if (file.has(prefix + "rope.freq_base")) {
    NAITE_ASSIGN(config["rope_theta"], file.number(prefix + "rope.freq_base"));
  }
  NAITE_ASSIGN(config["rope_scaling"], scaling_from_gguf(file, prefix));
  NAITE_TRY(check_keys(file, prefix, config));
  NAITE_TRY(check_divisors(file, config));
  return config;
}

}  // namespace naite::formats
