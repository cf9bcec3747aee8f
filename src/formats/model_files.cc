// SPDX-License-Identifier: Apache-2.0
#include "formats/model_files.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "formats/foreign_models.h"
#include "formats/gguf_keys.h"
#include "formats/model_json.h"

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

Result<ModelFiles> ModelFiles::open(const fs::path& path) {
  ModelFiles out;
  out.path_ = path;
  out.name_ = path.string();
  NAITE_TRY(expect_model(path));
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    NAITE_ASSIGN(out.config_, read_model_json(path / "config.json"));
    NAITE_ASSIGN(out.safetensors_, Safetensors::open(path));
    return out;
  }
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
  if (tensor == nullptr && spec.role == tape::Role::kHead)
    return fail("{}: the tensor {} is missing, and tie_word_embeddings is not true", name_,
                spec.name);
  if (tensor == nullptr) return fail("{}: the tensor {} is missing", name_, spec.name);
  const bool is_vector = spec.role == tape::Role::kVector;
  const Shape shape = is_vector ? Shape{spec.cols} : Shape{spec.rows, spec.cols};
  if (tensor->shape != shape)
    return fail("{}: the tensor {} has shape {}, the config asks for {}", name_, spec.name,
                shape_text(tensor->shape), shape_text(shape));
  return tensor;
}

Status ModelFiles::check(const std::vector<tape::ParameterSpec>& specs) const {
  NAITE_TRY(check_declared_dtype());
  NAITE_TRY(check_own_code());
  std::set<std::string_view> used;
  const tape::ParameterSpec* embedding = nullptr;
  bool has_head = false;
  for (const tape::ParameterSpec& spec : specs) {
    NAITE_ASSIGN(const StoredTensor* tensor, find(spec));
    used.insert(tensor->name);
    has_head |= spec.role == tape::Role::kHead;
    if (spec.role == tape::Role::kEmbedding) embedding = &spec;
  }
  for (const StoredTensor& tensor : tensors()) {
    if (used.contains(tensor.name) || is_derived(tensor.name)) continue;
    if (!has_head && embedding != nullptr && tensor.name == kHead) {
      NAITE_TRY(check_tied_head(tensor, *embedding));
      continue;
    }
    return fail("{}: the tensor {} has no place in a model of type {}", name_,
                shown_name(tensor.name), config_.value("model_type", std::string("?")));
  }
  return {};
}

std::string ModelFiles::declared_dtype() const {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto value = config_.find(key);
    if (value == config_.end() || !value->is_string()) continue;
    const auto text = value->get<std::string>();
    return text.starts_with("torch.") ? text.substr(6) : text;
  }
  return "";
}

// Types that transformers has no class for need code; for others it would be another model.
Status ModelFiles::check_own_code() const {
  const auto code = config_.find("auto_map");
  if (code == config_.end() || code->empty()) return {};
  const auto type = config_.find("model_type");
  if (type == config_.end() || !type->is_string() ||
      !architecture_of(type->get<std::string>()).ok())
    return {};
  return fail(
      "{}: the config asks for code of its own (`auto_map`), which programs run if they are told "
      "to: take the key out if the model is one of type {} without it",
      name_, shown_name(type->get<std::string>()));
}

// transformers 4 loads in fp32 unless it is told otherwise, transformers 5 in the config's type.
Status ModelFiles::check_declared_dtype() const {
  const std::string declared = declared_dtype();
  if (declared.empty() || declared == "auto" || declared == "float32") return {};
  const StoredType common = common_dtype();
  if (declared == torch_name(common)) return {};
  return fail(
      "{}: the config's type is {}, its tensors are not: programs differ in whether they round "
      "them; set `dtype` in config.json to float32, or convert the tensors",
      name_, shown_name(declared));
}

StoredType ModelFiles::compute_dtype() const {
  return declared_dtype() == "float32" ? StoredType::kF32 : common_dtype();
}

// transformers 4 puts the table in the head's place, transformers 5 keeps both: only where they are
// the same do all agree on what the model is.
Status ModelFiles::check_tied_head(const StoredTensor& head,
                                   const tape::ParameterSpec& embedding) const {
  NAITE_ASSIGN(const StoredTensor* table, find(embedding));
  bool same = head.shape == table->shape;
  if (same && head.type == table->type) {
    same = head.bytes == table->bytes;
  } else if (same) {
    std::vector<float> a(static_cast<size_t>(embedding.size())), b(a.size());
    NAITE_TRY(read_floats(head, a));
    NAITE_TRY(read_floats(*table, b));
    same = a == b;
  }
  if (same) return {};
  return fail(
      "{}: {} differs from {}, although tie_word_embeddings is true: set it to false in "
      "config.json to use both, or remove the head",
      name_, kHead, embedding.name);
}

Status ModelFiles::read(const tape::ParameterSpec& spec, std::span<float> out) const {
  NAITE_ASSIGN(const StoredTensor* tensor, find(spec));
  if (const Status status = read_floats(*tensor, out); !status)
    return fail("{}: {}", name_, status.error().message);
  const auto wrong =
      std::count_if(out.begin(), out.end(), [](float x) { return !std::isfinite(x); });
  if (wrong != 0)
    return fail("{}: the tensor {} holds {} values that are no finite numbers: the model is broken",
                name_, spec.name, wrong);
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
  NAITE_TRY(expect_tokenizer(path_));
  return read_file(path_ / "tokenizer.json", kTokenizerJson.bytes);
}

StoredType ModelFiles::common_dtype() const {
  bool is_half = true, is_bf16 = true;
  for (const StoredTensor& tensor : tensors()) {
    if (is_derived(tensor.name)) continue;
    is_half &= tensor.type == StoredType::kF16;
    is_bf16 &= tensor.type == StoredType::kBf16;
  }
  return is_half ? StoredType::kF16 : is_bf16 ? StoredType::kBf16 : StoredType::kF32;
}

Result<json> ModelFiles::optional_json(const char* file) const {
  std::error_code ignored;
  if (!fs::exists(path_ / file, ignored)) return json::object();
  NAITE_ASSIGN(json value, read_model_json(path_ / file));
  if (!value.is_object()) return fail("{}/{}: is not a table", name_, file);
  return value;
}

Result<json> ModelFiles::tokenizer_config() const {
  if (gguf_) return tokenizer_config_from_gguf(*gguf_);
  NAITE_ASSIGN(json config, optional_json("tokenizer_config.json"));
  // Where older programs wrote the names of special tokens.
  NAITE_ASSIGN(const json names, optional_json("special_tokens_map.json"));
  for (const auto& [key, token] : names.items())
    if (!config.contains(key)) config[key] = token;
  std::error_code ignored;
  if (fs::exists(path_ / "chat_template.jinja", ignored)) {
    NAITE_ASSIGN(config["chat_template"], read_file(path_ / "chat_template.jinja", kJson.bytes));
  }
  return config;
}

Result<json> ModelFiles::generation_config() const {
  if (gguf_) return generation_config_from_gguf(*gguf_);
  return optional_json("generation_config.json");
}

Result<TokenUse> ModelFiles::tokens(int64_t vocab_size) const {
  TokenFiles files;
  const auto named = [&](const char* file) { return is_gguf() ? name_ : name_ + "/" + file; };
  NAITE_ASSIGN(const std::string text, tokenizer_json());
  files.tokenizer.name = tokenizer_name();
  NAITE_ASSIGN(files.tokenizer.value, parse_model_json(text, files.tokenizer.name, kTokenizerJson));
  files.tokenizer_config.name = named("tokenizer_config.json");
  NAITE_ASSIGN(files.tokenizer_config.value, tokenizer_config());
  files.generation.name = named("generation_config.json");
  NAITE_ASSIGN(files.generation.value, generation_config());
  files.config = {config_name(), config_};
  if (!gguf_) {
    files.special_tokens.name = named("special_tokens_map.json");
    NAITE_ASSIGN(files.special_tokens.value, optional_json("special_tokens_map.json"));
    files.added_tokens.name = named("added_tokens.json");
    NAITE_ASSIGN(files.added_tokens.value, optional_json("added_tokens.json"));
  }
  return use_tokens(files, vocab_size);
}

}  // namespace naite::formats
