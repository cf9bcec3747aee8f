// SPDX-License-Identifier: Apache-2.0
#include "formats/model_files.h"

#include <set>

#include "formats/gguf_keys.h"

namespace naite::formats {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::string_view kHead = "lm_head.weight";

// Tables that older programs saved beside the weights and that follow from the config.
bool is_derived(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq") || name == kRotaryDivisors;
}

}  // namespace

int32_t begin_token_of(const json& tokenizer) {
  if (!tokenizer.is_object()) return -1;
  const auto it = tokenizer.find("post_processor");
  if (it == tokenizer.end() || !it->is_object()) return -1;
  json parts = json::array({*it});
  if (it->contains("processors")) parts = (*it)["processors"];
  for (const json& part : parts) {
    const json single = part.is_object() ? part.value("single", json()) : json();
    if (!single.is_array() || single.empty() || !single[0].is_object()) continue;
    const json token = single[0].value("SpecialToken", json());
    if (!token.is_object() || !token.contains("id") || !token["id"].is_string()) continue;
    const json known = part.value("special_tokens", json::object());
    const std::string name = token["id"].get<std::string>();
    if (!known.is_object() || !known.contains(name) || !known[name].is_object()) continue;
    const json ids = known[name].value("ids", json());
    if (ids.is_array() && ids.size() == 1 && ids[0].is_number_unsigned() && ids[0] <= INT32_MAX)
      return ids[0].get<int32_t>();
  }
  return -1;
}

Result<ModelFiles> ModelFiles::open(const fs::path& path) {
  ModelFiles out;
  out.path_ = path;
  out.name_ = path.string();
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    if (!fs::exists(path / "config.json", ignored))
      return fail("{}: is no model directory: it holds no config.json", out.name_);
    NAITE_ASSIGN(out.config_, read_json(path / "config.json"));
    NAITE_ASSIGN(out.safetensors_, Safetensors::open(path));
    return out;
  }
  if (!fs::exists(path, ignored))
    return fail("{}: does not exist; a model directory or a .gguf file is expected", out.name_);
  NAITE_ASSIGN(out.gguf_, Gguf::open(path));
  NAITE_ASSIGN(out.config_, config_from_gguf(*out.gguf_));
  NAITE_ASSIGN(const Architecture* architecture,
               architecture_of(out.config_["model_type"].get<std::string>()));
  out.gguf_names_ = gguf_names(*architecture, out.config_["num_hidden_layers"].get<int64_t>());
  return out;
}

Result<const StoredTensor*> ModelFiles::find(const tape::ParameterSpec& spec) const {
  const StoredTensor* tensor = nullptr;
  if (safetensors_) {
    tensor = safetensors_->find(spec.name);
  } else if (const auto it = gguf_names_.find(spec.name); it != gguf_names_.end()) {
    tensor = gguf_->find(it->second.name);
  }
  if (tensor == nullptr) return fail("{}: the tensor {} is missing", name_, spec.name);
  const bool is_vector = spec.role == tape::Role::kVector;
  const Shape shape = is_vector ? Shape{spec.cols} : Shape{spec.rows, spec.cols};
  if (tensor->shape != shape)
    return fail("{}: the tensor {} has shape {}, the config asks for {}", name_, spec.name,
                shape_text(tensor->shape), shape_text(shape));
  return tensor;
}

Status ModelFiles::check(const std::vector<tape::ParameterSpec>& specs) const {
  std::set<std::string_view> used;
  bool has_head = false;
  for (const tape::ParameterSpec& spec : specs) {
    NAITE_ASSIGN(const StoredTensor* tensor, find(spec));
    used.insert(tensor->name);
    has_head |= spec.role == tape::Role::kHead;
  }
  for (const StoredTensor& tensor : safetensors_ ? safetensors_->tensors() : gguf_->tensors()) {
    const bool tied_copy = !has_head && tensor.name == kHead;
    if (used.contains(tensor.name) || is_derived(tensor.name) || tied_copy) continue;
    return fail("{}: the tensor {} has no place in a model of type {}", name_,
                shown_name(tensor.name), config_.value("model_type", std::string("?")));
  }
  return {};
}

Status ModelFiles::read(const tape::ParameterSpec& spec, std::span<float> out) const {
  NAITE_ASSIGN(const StoredTensor* tensor, find(spec));
  if (const Status status = read_floats(*tensor, out); !status)
    return fail("{}: {}", name_, status.error().message);
  if (!gguf_) return {};
  const Transform transform = gguf_names_.find(spec.name)->second.transform;
  const int64_t cols = spec.role == tape::Role::kVector ? 1 : spec.cols;
  const auto head_dim = config_["head_dim"].get<int64_t>();
  if (transform != Transform::kNone && spec.size() / cols % head_dim != 0)
    return fail("{}: the tensor {} does not consist of heads of {}", name_, spec.name, head_dim);
  from_gguf_order(transform, head_dim, cols, out);
  return {};
}

Result<std::string> ModelFiles::tokenizer_json() const {
  if (gguf_) return tokenizer_from_gguf(*gguf_);
  return read_file(path_ / "tokenizer.json");
}

Result<json> ModelFiles::optional_json(const char* file) const {
  std::error_code ignored;
  if (!fs::exists(path_ / file, ignored)) return json::object();
  NAITE_ASSIGN(json value, read_json(path_ / file));
  if (!value.is_object()) return fail("{}/{}: is not a table", name_, file);
  return value;
}

Result<json> ModelFiles::tokenizer_config() const {
  if (gguf_) return tokenizer_config_from_gguf(*gguf_);
  NAITE_ASSIGN(json config, optional_json("tokenizer_config.json"));
  std::error_code ignored;
  if (fs::exists(path_ / "chat_template.jinja", ignored)) {
    NAITE_ASSIGN(config["chat_template"], read_file(path_ / "chat_template.jinja"));
  }
  return config;
}

Result<json> ModelFiles::generation_config() const {
  if (gguf_) return generation_config_from_gguf(*gguf_);
  return optional_json("generation_config.json");
}

}  // namespace naite::formats
