// SPDX-License-Identifier: Apache-2.0
#pragma once
// The keys of a GGUF model: config.json and tokenizer.json said in llama.cpp's words, and back.
//
//   A = general.architecture. A.block_count, context_length, embedding_length, feed_forward_length,
//   vocab_size, attention.{head_count, head_count_kv, key_length, value_length,
//   layer_norm_rms_epsilon}, rope.{freq_base, dimension_count}, rope.scaling.{type, factor,
//   original_context_length}; tokenizer.ggml.{model "gpt2", pre, tokens, token_type, merges,
//   bos_token_id, eos_token_id, eot_token_id, eom_token_id, padding_token_id, add_bos_token},
//   tokenizer.chat_template.
//   token_type: 1 ordinary, 3 special, 4 added, 5 unused. `pre` names the split pattern.
//   naite.rope_scaling holds the table of config.json as JSON, of which GGUF keeps only the effect;
//   naite.eos_token_ids all that ends a text, if that is more than one token.
// Every other key of the architecture is refused by its name, unless it asks for nothing.
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "formats/architectures.h"
#include "formats/gguf.h"
#include "formats/token_ids.h"

namespace naite::formats {

// The tensor of a GGUF file by which llama.cpp divides rotary frequencies.
inline constexpr std::string_view kRotaryDivisors = "rope_freqs.weight";

// `config` has all defaults written out, as Model::config() gives it.
Status put_config(GgufKeys& keys, const Architecture& architecture, const nlohmann::json& config);
// `tokenizer` is tokenizer.json; the two configs may be empty tables. The tokens are filled up to
// `vocab_size` with unused ones.
Status put_tokenizer(GgufKeys& keys, const nlohmann::json& tokenizer,
                     const nlohmann::json& tokenizer_config,
                     const nlohmann::json& generation_config, const TokenUse& use,
                     int64_t vocab_size);

// Llama 3's stretching of rotary frequencies as GGUF says it: the divisor of each frequency. Empty
// for other models.
std::vector<float> rotary_divisors(const nlohmann::json& config);

Result<nlohmann::json> config_from_gguf(const Gguf& file);
Result<std::string> tokenizer_from_gguf(const Gguf& file);  // the text of tokenizer.json
Result<nlohmann::json> tokenizer_config_from_gguf(const Gguf& file);
Result<nlohmann::json> generation_config_from_gguf(const Gguf& file);

}  // namespace naite::formats
