// SPDX-License-Identifier: Apache-2.0
#include "formats/load_model.h"

#include <nlohmann/json.hpp>

#include "formats/model_files.h"

namespace naite::formats {

namespace {

using nlohmann::json;

// What changes the text that other programs draw from the same logits, and its neutral value.
// Temperatures and the like are not among them: whoever draws gives them anew.
const std::pair<const char*, json> kSamplingRules[] = {{"repetition_penalty", 1.0},
                                                       {"encoder_repetition_penalty", 1.0},
                                                       {"no_repeat_ngram_size", 0},
                                                       {"encoder_no_repeat_ngram_size", 0},
                                                       {"min_length", 0},
                                                       {"min_new_tokens", 0},
                                                       {"num_beams", 1},
                                                       {"diversity_penalty", 0.0},
                                                       {"guidance_scale", 1.0},
                                                       {"penalty_alpha", 0.0},
                                                       {"suppress_tokens", {}},
                                                       {"begin_suppress_tokens", {}},
                                                       {"bad_words_ids", {}},
                                                       {"force_words_ids", {}},
                                                       {"sequence_bias", {}},
                                                       {"forced_bos_token_id", {}},
                                                       {"forced_eos_token_id", {}},
                                                       {"exponential_decay_length_penalty", {}},
                                                       {"constraints", {}},
                                                       {"stop_strings", {}}};

std::vector<std::string> rules_of(const json& generation) {
  std::vector<std::string> out;
  for (const auto& [key, neutral] : kSamplingRules) {
    const auto it = generation.find(key);
    if (it == generation.end() || it->is_null() || *it == neutral) continue;
    if (it->is_array() && it->empty()) continue;
    out.emplace_back(key);
  }
  return out;
}

}  // namespace

Result<LoadedModel> load_model(const std::filesystem::path& path, kernels::Kernels& kernels) {
  NAITE_ASSIGN(const ModelFiles files, ModelFiles::open(path));
  LoadedModel loaded;
  NAITE_ASSIGN(loaded.model, model::make_model(files.config(), files.config_name() + ":", false));
  NAITE_ASSIGN(loaded.tokenizer_json, files.tokenizer_json());
  loaded.tokenizer_name = files.tokenizer_name();
  const std::vector<tape::ParameterSpec> specs = model::parameters_of(*loaded.model);
  NAITE_TRY(files.check(specs));
  NAITE_ASSIGN(TokenUse tokens, files.tokens(loaded.model->vocab_size()));
  loaded.begin_tokens = std::move(tokens.begin);
  loaded.stop_tokens = std::move(tokens.stop);
  NAITE_ASSIGN(const json generation, files.generation_config());
  loaded.not_done = rules_of(generation);
  const bool is_bf16 = files.common_dtype() == StoredType::kBf16;
  loaded.parameters = std::make_unique<tape::Parameters>(
      kernels, is_bf16 ? kernels::DType::kBf16 : kernels::DType::kF32, specs);
  std::vector<float> values;
  for (int p = 0; p < loaded.parameters->size(); ++p) {
    values.resize(static_cast<size_t>(specs[p].size()));
    NAITE_TRY(files.read(specs[p], values));
    const kernels::View master = loaded.parameters->master(p);
    NAITE_TRY(kernels.upload(master.data, values.data(), master.bytes()));
  }
  return loaded;
}

}  // namespace naite::formats
