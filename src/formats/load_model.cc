// SPDX-License-Identifier: Apache-2.0
#include "formats/load_model.h"

#include <nlohmann/json.hpp>

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

Result<OpenedModel> open_model(const std::filesystem::path& path) {
  NAITE_ASSIGN(ModelFiles files, ModelFiles::open(path));
  OpenedModel out{std::move(files)};
  NAITE_ASSIGN(out.model,
               model::make_model(out.files.config(), out.files.config_name() + ":", false));
  NAITE_TRY(out.files.check(out.model->tensors()));
  if (out.files.compute_dtype() == StoredType::kBf16) out.compute = kernels::DType::kBf16;
  NAITE_ASSIGN(out.tokenizer_json, out.files.tokenizer_json());
  out.tokenizer_name = out.files.tokenizer_name();
  NAITE_ASSIGN(TokenUse tokens, out.files.tokens(out.model->vocab_size()));
  out.begin_tokens = std::move(tokens.begin);
  out.stop_tokens = std::move(tokens.stop);
  NAITE_ASSIGN(const json generation, out.files.generation_config());
  out.not_done = rules_of(generation);
  return out;
}

Result<std::unique_ptr<tape::Parameters>> load_weights(const OpenedModel& opened,
                                                       kernels::Kernels& kernels) {
  const std::vector<tape::ParameterSpec>& specs = opened.model->parameters();
  auto out = std::make_unique<tape::Parameters>(kernels, opened.compute, specs);
  std::vector<float> values;
  for (int p = 0; p < out->size(); ++p)
    for (int64_t i = 0; i < specs[p].count; ++i) {
      const tape::ParameterSpec tensor = specs[p].tensor(i);
      values.resize(static_cast<size_t>(tensor.size()));
      NAITE_TRY(opened.files.read(tensor, values));
      const kernels::View master = out->tensor(p, i);
      NAITE_TRY(kernels.upload(master.data, values.data(), master.bytes()));
    }
  return out;
}

}  // namespace naite::formats
