// SPDX-License-Identifier: Apache-2.0
#include "formats/load_model.h"

#include <nlohmann/json.hpp>

#include "formats/model_files.h"

namespace naite::formats {

namespace {

// transformers wrote "torch_dtype" before version 5 and writes "dtype" since.
bool is_bf16(const nlohmann::json& config) {
  for (const char* key : {"torch_dtype", "dtype"})
    if (config.contains(key)) return config[key] == "bfloat16";
  return false;
}

}  // namespace

Result<LoadedModel> load_model(const std::filesystem::path& path, kernels::Kernels& kernels) {
  NAITE_ASSIGN(const ModelFiles files, ModelFiles::open(path));
  LoadedModel loaded;
  NAITE_ASSIGN(loaded.model, model::make_model(files.config(), files.config_name() + ":", false));
  NAITE_ASSIGN(loaded.tokenizer_json, files.tokenizer_json());
  const std::vector<tape::ParameterSpec> specs = model::parameters_of(*loaded.model);
  NAITE_TRY(files.check(specs));
  loaded.parameters = std::make_unique<tape::Parameters>(
      kernels, is_bf16(files.config()) ? kernels::DType::kBf16 : kernels::DType::kF32, specs);
  std::vector<float> values;
  for (int p = 0; p < loaded.parameters->size(); ++p) {
    values.resize(static_cast<size_t>(specs[p].size()));
    NAITE_TRY(files.read(specs[p], values));
    const kernels::View master = loaded.parameters->master(p);
    NAITE_TRY(kernels.upload(master.data, values.data(), master.bytes()));
  }
  loaded.tokenizer_name = files.tokenizer_name();
  NAITE_ASSIGN(const nlohmann::json tokenizer,
               parse_json(loaded.tokenizer_json, loaded.tokenizer_name));
  loaded.begin_token = begin_token_of(tokenizer);
  return loaded;
}

}  // namespace naite::formats
