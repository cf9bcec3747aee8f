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
#include "formats/token_ids.h"
#include "tape/record.h"

namespace naite::formats {

class ModelFiles {
 public:
  static Result<ModelFiles> open(const std::filesystem::path& path);

  const std::string& name() const { return name_; }  // for messages
  bool is_gguf() const { return gguf_.has_value(); }
  const nlohmann::json& config() const { return config_; }
  std::string config_name() const { return is_gguf() ? name_ : name_ + "/config.json"; }

  // Every parameter is there in its shape, and nothing is there that the model would not use: a
  // head beside tied embeddings must be their copy. Tables that follow from the config
  // (*.rotary_emb.inv_freq, rope_freqs.weight) may be there. A type in the config that does not
  // hold the tensors as they are is refused: some programs would round them on the way in.
  Status check(const std::vector<tape::ParameterSpec>& specs) const;
  // One parameter's values; `out` has spec.size() places. Values that are no finite numbers are an
  // error that names the tensor.
  Status read(const tape::ParameterSpec& spec, std::span<float> out) const;

  // The type that holds every tensor of floating-point numbers as it is: F32, F16 or BF16.
  StoredType common_dtype() const;
  // In which other programs compute: common_dtype(), unless the config asks for more.
  StoredType compute_dtype() const;

  Result<std::string> tokenizer_json() const;
  std::string tokenizer_name() const { return is_gguf() ? name_ : name_ + "/tokenizer.json"; }
  // tokenizer_config.json and generation_config.json; empty tables if there are none.
  Result<nlohmann::json> tokenizer_config() const;
  Result<nlohmann::json> generation_config() const;
  // The tokens that begin and end a text, after checking that the tokenizer and all that stands
  // beside it fit a vocabulary of this size.
  Result<TokenUse> tokens(int64_t vocab_size) const;

 private:
  Result<const StoredTensor*> find(const tape::ParameterSpec& spec) const;
  const std::vector<StoredTensor>& tensors() const {
    return safetensors_ ? safetensors_->tensors() : gguf_->tensors();
  }
  Status check_declared_dtype() const;
  Status check_own_code() const;
  std::string declared_dtype() const;  // of the config; empty: it says nothing
  Status check_tied_head(const StoredTensor& head, const tape::ParameterSpec& embedding) const;
  Result<nlohmann::json> optional_json(const char* file) const;

  std::filesystem::path path_;
  std::string name_;
  nlohmann::json config_;
  std::optional<Safetensors> safetensors_;
  std::optional<Gguf> gguf_;
  std::map<std::string, GgufName, std::less<>> gguf_names_;
};

}  // namespace naite::formats
