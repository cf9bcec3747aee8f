// SPDX-License-Identifier: Apache-2.0
#include "formats/export.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "formats/checkpoint.h"
#include "formats/gguf_keys.h"

namespace naite::formats {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

struct Quantization {
  std::string_view name;
  StoredType type;
  uint32_t file_type;  // general.file_type
};
constexpr Quantization kQuantizations[] = {{"f32", StoredType::kF32, 0},
                                           {"f16", StoredType::kF16, 1},
                                           {"bf16", StoredType::kBf16, 32},
                                           {"q8_0", StoredType::kQ8_0, 7},
                                           {"q4_k_m", StoredType::kQ4K, 15}};
constexpr uint32_t kQuantizationVersion = 2;

bool is_quantized(StoredType type) { return stored_type_info(type).block_elements > 1; }

Shape shape_of(const tape::ParameterSpec& spec) {
  if (spec.role == tape::Role::kVector) return {spec.cols};
  return {spec.rows, spec.cols};
}

// Layers whose more sensitive matrices get more bits in q4_k_m.
bool is_sensitive_layer(int64_t layer, int64_t num_layers) {
  const int64_t eighth = num_layers / 8;
  return layer < eighth || layer >= 7 * num_layers / 8 || (layer - eighth) % 3 == 2;
}

int64_t layer_of(std::string_view name) {
  constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers)) return -1;
  int64_t layer = 0;
  for (const char c : name.substr(kLayers.size())) {
    if (c < '0' || c > '9') break;
    layer = layer * 10 + (c - '0');
  }
  return layer;
}

StoredType gguf_type(const Quantization& quantization, const tape::ParameterSpec& spec, bool tied,
                     int64_t num_layers) {
  if (spec.role == tape::Role::kVector) return StoredType::kF32;
  StoredType type = quantization.type;
  if (type == StoredType::kQ4K) {
    const bool is_head =
        spec.role == tape::Role::kHead || (tied && spec.role == tape::Role::kEmbedding);
    const bool is_sensitive =
        spec.name.ends_with("v_proj.weight") || spec.name.ends_with("down_proj.weight");
    if (is_head || (is_sensitive && is_sensitive_layer(layer_of(spec.name), num_layers)))
      type = StoredType::kQ6K;
  }
  if (is_quantized(type) && spec.cols % stored_type_info(type).block_elements != 0)
    type = StoredType::kQ8_0;
  if (is_quantized(type) && spec.cols % stored_type_info(type).block_elements != 0)
    type = StoredType::kF16;
  return type;
}

// That what was written is still a number, and not nothing but zeros.
Status check_range(const TensorSpec& target, std::span<const float> values,
                   std::string_view bytes) {
  if (target.type == StoredType::kF32) return {};
  NAITE_ASSIGN(const ValueCounts counts, count_values(target.type, bytes));
  const bool has_values = std::any_of(values.begin(), values.end(), [](float x) { return x != 0; });
  const std::string_view type = stored_type_info(target.type).name;
  const std::string_view wider = target.type == StoredType::kBf16 ? "f32" : "bf16 or f32";
  if (counts.not_finite > 0)
    return fail("the tensor {} has {} values beyond the range of {}: write it as {}", target.name,
                counts.not_finite, type, wider);
  if (has_values && counts.zero == static_cast<int64_t>(values.size()))
    return fail("the tensor {} has only values below the range of {}: write it as {}", target.name,
                type, wider);
  return {};
}

// A source that reads each parameter from `files`; `by_name` maps the names of the new file.
struct Place {
  tape::ParameterSpec spec;
  Transform transform = Transform::kNone;
  std::vector<float> values = {};  // of a tensor that is no parameter
};

TensorSource source_of(const ModelFiles& files, const std::map<std::string, Place>& by_name,
                       int64_t head_dim) {
  return [&files, &by_name, head_dim](const TensorSpec& target, const ByteSink& sink) -> Status {
    const Place& place = by_name.at(target.name);
    std::vector<float> values = place.values;
    if (values.empty()) {
      values.resize(static_cast<size_t>(place.spec.size()));
      NAITE_TRY(files.read(place.spec, values));
    }
    const int64_t cols = place.spec.role == tape::Role::kVector ? 1 : place.spec.cols;
    to_gguf_order(place.transform, head_dim, cols, values);
    std::string bytes;
    NAITE_TRY(encode_floats(target.type, values, bytes));
    if (const Status status = check_range(target, values, bytes); !status)
      return fail("{}: {}", files.name(), status.error().message);
    return sink(bytes.data(), bytes.size());
  };
}

Result<json> parsed_tokenizer(const ModelFiles& files) {
  NAITE_ASSIGN(const std::string text, files.tokenizer_json());
  return parse_json(text, files.tokenizer_name(), kTokenizerJson);
}

// A model without a tokenizer that speaks its vocabulary is of no use to anybody.
Result<TokenUse> checked(const ModelFiles& files, const std::vector<tape::ParameterSpec>& specs,
                         const model::Model& model) {
  NAITE_TRY(files.check(specs));
  return files.tokens(model.vocab_size());
}

}  // namespace

Result<StoredType> dtype_of(const std::string& name, const ModelFiles& files) {
  if (name.empty()) return files.common_dtype();
  if (name == "float32") return StoredType::kF32;
  if (name == "float16") return StoredType::kF16;
  if (name == "bfloat16") return StoredType::kBf16;
  return fail("--dtype {}: float32, float16 and bfloat16 can be written", name);
}

Status export_hugging_face(const ModelFiles& files, const model::Model& model,
                           const fs::path& directory, const HuggingFaceOptions& options) {
  const std::vector<tape::ParameterSpec> specs = model.tensors();
  if (const Result<TokenUse> use = checked(files, specs, model); !use) return use.error();
  std::map<std::string, Place> by_name;
  std::vector<TensorSpec> targets;
  for (const tape::ParameterSpec& spec : specs) {
    by_name[spec.name] = {spec};
    targets.push_back({spec.name, options.dtype, shape_of(spec)});
  }
  NAITE_ASSIGN(const std::string tokenizer, files.tokenizer_json());
  NAITE_ASSIGN(const json tokenizer_config, files.tokenizer_config());
  NAITE_ASSIGN(const json generation_config, files.generation_config());
  json config = model.config();
  config["torch_dtype"] = config["dtype"] = torch_name(options.dtype);
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (files.config().contains(key)) config[key] = files.config()[key];
    if (generation_config.contains(key)) config[key] = generation_config[key];
  }

  std::error_code ignored;
  if (fs::exists(directory, ignored))
    return fail("{}: exists already; name a new directory", directory.string());
  NAITE_ASSIGN(DirectoryWriter writer, DirectoryWriter::create(directory));
  const fs::path& out = writer.path();
  NAITE_TRY(write_file(out / "config.json", config.dump(2) + "\n"));
  NAITE_TRY(write_file(out / "generation_config.json", generation_config.dump(2) + "\n"));
  NAITE_TRY(write_file(out / "tokenizer.json", tokenizer));
  NAITE_TRY(write_file(out / "tokenizer_config.json", tokenizer_config.dump(2) + "\n"));
  if (const auto chat = tokenizer_config.find("chat_template");
      chat != tokenizer_config.end() && chat->is_string())
    NAITE_TRY(write_file(out / "chat_template.jinja", chat->get<std::string>()));
  NAITE_TRY(write_model_safetensors(out, std::move(targets), {}, source_of(files, by_name, 0),
                                    options.shard_bytes));
  if (options.origin) {
    Record record;
    record.origin = options.origin;
    ThreadPool alone(1);
    NAITE_ASSIGN(record.weights_digest, weights_digest(out, alone));
    NAITE_TRY(write_record(out, record));
  }
  return writer.commit();
}

const std::vector<std::string>& gguf_quantizations() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Quantization& quantization : kQuantizations) out.emplace_back(quantization.name);
    return out;
  }();
  return names;
}

Status export_gguf(const ModelFiles& files, const model::Model& model, const fs::path& path,
                   std::string_view quantization_name) {
  const auto* quantization =
      std::find_if(std::begin(kQuantizations), std::end(kQuantizations),
                   [&](const Quantization& one) { return one.name == quantization_name; });
  if (quantization == std::end(kQuantizations))
    return fail("quantization {} is not known; {} are", quantization_name,
                fmt::join(gguf_quantizations(), ", "));
  const std::vector<tape::ParameterSpec> specs = model.tensors();
  const json config = model.config();
  NAITE_ASSIGN(const Architecture* architecture,
               architecture_of(config["model_type"].get<std::string>()));
  NAITE_ASSIGN(const TokenUse use, checked(files, specs, model));
  NAITE_ASSIGN(const json tokenizer, parsed_tokenizer(files));
  NAITE_ASSIGN(const json tokenizer_config, files.tokenizer_config());
  NAITE_ASSIGN(const json generation_config, files.generation_config());

  GgufKeys keys;
  keys.text("general.architecture", architecture->gguf);
  keys.text("general.name", fs::absolute(files.name()).lexically_normal().stem().string());
  keys.u32("general.file_type", quantization->file_type);
  if (is_quantized(quantization->type))
    keys.u32("general.quantization_version", kQuantizationVersion);
  NAITE_TRY(put_config(keys, *architecture, config));
  NAITE_TRY(
      put_tokenizer(keys, tokenizer, tokenizer_config, generation_config, use, model.vocab_size()));

  const auto names = gguf_names(*architecture, model.num_hidden_layers());
  const bool tied = std::none_of(specs.begin(), specs.end(), [](const tape::ParameterSpec& spec) {
    return spec.role == tape::Role::kHead;
  });
  std::map<std::string, Place> by_name;
  std::vector<TensorSpec> targets;
  for (const tape::ParameterSpec& spec : specs) {
    const auto it = names.find(spec.name);
    if (it == names.end())
      return fail("{}: GGUF has no name for the tensor {} of {}", files.name(), spec.name,
                  architecture->model_type);
    by_name[it->second.name] = {spec, it->second.transform};
    targets.push_back({it->second.name,
                       gguf_type(*quantization, spec, tied, model.num_hidden_layers()),
                       shape_of(spec)});
  }
  if (std::vector<float> divisors = rotary_divisors(config); !divisors.empty()) {
    const std::string name(kRotaryDivisors);
    targets.push_back({name, StoredType::kF32, {static_cast<int64_t>(divisors.size())}});
    Place& place = by_name[name];
    place.spec.role = tape::Role::kVector;
    place.values = std::move(divisors);
  }
  return write_gguf(path, keys, targets,
                    source_of(files, by_name, config["head_dim"].get<int64_t>()));
}

}  // namespace naite::formats
