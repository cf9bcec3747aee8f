// SPDX-License-Identifier: Apache-2.0
#include "model/config_keys.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/shown.h"
#include "base/utf8.h"

namespace naite::model {

namespace {

using nlohmann::json;

const std::set<std::string_view> kIrrelevant = {
    // where it comes from
    "model_type", "architectures", "name", "transformers_version", "auto_map", "torch_dtype",
    "dtype", "use_bfloat16", "bfloat16", "fp16", "bf16", "fp32", "license", "unsloth_version",
    "unsloth_fixed", "name_or_path", "model_name", "revision", "version", "library_name",
    "pipeline_tag", "tags", "language", "datasets", "description", "author", "is_llama_config",
    "is_decoder", "trust_remote_code", "base_model_name_or_path", "num_parameters",
    // the vocabulary: formats/token_ids.h checks it
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id",
    "unk_token_id", "decoder_start_token_id", "tokenizer_class", "prefix",
    // training alone
    "initializer_range", "attention_dropout", "hidden_dropout", "hidden_dropout_prob",
    "attention_probs_dropout_prob", "attn_pdrop", "embd_pdrop", "resid_pdrop", "embedding_dropout",
    "residual_dropout", "classifier_dropout", "summary_first_dropout", "layerdrop",
    "neftune_noise_alpha", "label_smoothing", "ignore_index", "loss_reduction",
    "gradient_checkpointing",
    // how, not what, is computed
    "use_cache", "pretraining_tp", "attn_implementation", "use_flash_attn", "use_flash_attention",
    "use_flash_attention_2", "use_fused_rms_norm", "use_fused_mlp", "fused_rope", "torchscript",
    "tf_legacy_loss", "tie_encoder_decoder", "output_attentions", "output_hidden_states",
    "return_dict", "use_return_dict", "chunk_size_feed_forward", "max_window_layers",
    "use_advanced_parallelization", "num_stages",
    // lengths that nothing obeys
    "max_sequence_length", "max_seq_len", "seq_length", "model_max_length",
    "tokenizer_model_max_length",
    // other tasks than continuing text
    "problem_type", "num_labels", "id2label", "label2id", "finetuning_task", "task_specific_params",
    // how text is drawn: generation_config.json's keys
    "max_length", "min_length", "max_new_tokens", "min_new_tokens", "do_sample", "early_stopping",
    "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "min_p",
    "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
    "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
    "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
    "begin_suppress_tokens"};

// Factors by which nothing is multiplied, and numbers of parts that are not there.
struct NeutralNumber {
  std::string_view key;
  double value;
};
constexpr NeutralNumber kNeutralNumbers[] = {
    {"embedding_multiplier", 1},
    {"residual_multiplier", 1},
    {"logits_scaling", 1},
    {"logit_scale", 1},
    {"scale_emb", 1},
    {"rotary_pct", 1},
    {"rotary_percent", 1},
    {"num_experts", 0},
    {"num_local_experts", 0},
    {"num_nextn_predict_layers", 0},
};

std::string shown(std::string_view text, size_t bytes) {
  const std::string out = shown_line(text.substr(0, floor_to_char(text, bytes)));
  return text.size() > bytes ? out + "..." : out;
}

bool same_letters(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

// A classifier, a reward model, or a class that adds something of its own.
Status check_class(const json& config, const std::string& where, const json& written) {
  const auto it = config.find("architectures");
  if (it == config.end() || !it->is_array()) return {};
  const auto own = written["architectures"][0].get<std::string>();
  for (const json& name : *it)
    if (!name.is_string() || !same_letters(name.get<std::string>(), own))
      return fail("{} `architectures` must be {} for model_type {}, is {}", where, own,
                  written["model_type"].get<std::string>(),
                  shown(name.dump(-1, ' ', false, json::error_handler_t::replace), 60));
  return {};
}

Status check_dtypes(const json& config, const std::string& where) {
  const auto old = config.find("torch_dtype"), now = config.find("dtype");
  if (old == config.end() || now == config.end() || old->is_null() || now->is_null() ||
      *old == *now)
    return {};
  return fail("{} `torch_dtype` and `dtype` must agree", where);
}

}  // namespace

bool is_irrelevant_key(std::string_view key) {
  return key.starts_with('_') || key.starts_with("transformers.js") || kIrrelevant.contains(key);
}

bool is_neutral_value(std::string_view key, const json& value) {
  if (value.is_null() || value == json(false) || value == json("")) return true;
  if (value.is_structured()) return value.empty();
  return std::any_of(
      std::begin(kNeutralNumbers), std::end(kNeutralNumbers), [&](const NeutralNumber& neutral) {
        return neutral.key == key && value.is_number() && value.get<double>() == neutral.value;
      });
}

Status check_config_keys(const json& config, const Table& table, const json& written) {
  NAITE_TRY(check_class(config, table.where(), written));
  NAITE_TRY(check_dtypes(config, table.where()));
  for (const std::string& key : table.unread()) {
    const json& value = config[key];
    if (is_irrelevant_key(key) || is_neutral_value(key, value)) continue;
    return fail("{} has `{}` = {}, which Naite does not do: it would be another model without it",
                table.where(), shown(key, 60),
                shown(value.dump(-1, ' ', false, json::error_handler_t::replace), 60));
  }
  return {};
}

}  // namespace naite::model
