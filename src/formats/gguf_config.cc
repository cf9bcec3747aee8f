// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "formats/gguf_keys.h"

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
    return parse_json(text, file.name());
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

}  // namespace

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
  return config;
}

}  // namespace naite::formats
