// SPDX-License-Identifier: Apache-2.0
#pragma once
// A trained model as others and we keep it: a Hugging Face directory (config.json, safetensors in
// one file or shards, tokenizer.json) or one GGUF file. Whatever the source, this gives a config in
// Hugging Face's keys, tensors by our names in fp32, and the text of tokenizer.json.
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/architectures.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "tape/record.h"

namespace naite::formats {

class ModelFiles {
 public:
  static Result<ModelFiles> open(const std::filesystem::path& path);

  const std::string& name() const { return name_; }  // for messages
  bool is_gguf() const { return gguf_.has_value(); }
  const nlohmann::json& config() const { return config_; }
  std::string config_name() const { return is_gguf() ? name_ : name_ + "/config.json"; }

  // Every parameter is there in its shape, and nothing is there that the model would not use.
  Status check(const std::vector<tape::ParameterSpec>& specs) const;
  // One parameter's values; `out` has spec.size() places.
  Status read(const tape::ParameterSpec& spec, std::span<float> out) const;

  Result<std::string> tokenizer_json() const;
  std::string tokenizer_name() const { return is_gguf() ? name_ : name_ + "/tokenizer.json"; }
  // tokenizer_config.json and generation_config.json; empty tables if there are none.
  Result<nlohmann::json> tokenizer_config() const;
  Result<nlohmann::json> generation_config() const;

 private:
  Result<const StoredTensor*> find(const tape::ParameterSpec& spec) const;
  Result<nlohmann::json> optional_json(const char* file) const;

  std::filesystem::path path_;
  std::string name_;
  nlohmann::json config_;
  std::optional<Safetensors> safetensors_;
  std::optional<Gguf> gguf_;
  std::map<std::string, GgufName, std::less<>> gguf_names_;
};

// The token that a tokenizer.json puts before every text (a TemplateProcessing that begins with a
// special token); -1 if there is none.
int32_t begin_token_of(const nlohmann::json& tokenizer);

}  // namespace naite::formats
