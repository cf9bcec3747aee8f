// SPDX-License-Identifier: Apache-2.0
#include "formats/architectures.h"

#include <algorithm>

namespace naite::formats {

namespace {

using Rules = std::vector<TensorRule>;

// What every dense decoder of the Llama family shares.
const Rules kDense = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"},
    {"model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"},
    {"model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"},
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"},
    {"model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"},
    {"model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"},
    {"model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};
const Rules kQueriesKeys = {
    {"model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"},
    {"model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight"},
};
const Rules kQueriesKeysInterleaved = {
    {"model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight",
     Transform::kInterleavedPairs},
    {"model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight",
     Transform::kInterleavedPairs},
};
const Rules kAttentionBiasesInterleaved = {
    {"model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias", Transform::kInterleavedPairs},
    {"model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias", Transform::kInterleavedPairs},
    {"model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"},
    {"model.layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias"},
};
const Rules kQueryKeyValueBiases = {
    {"model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias"},
    {"model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias"},
    {"model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"},
};
const Rules kQueryKeyNorms = {
    {"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"},
    {"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"},
};

Rules joined(std::initializer_list<const Rules*> parts) {
  Rules out;
  for (const Rules* part : parts) out.insert(out.end(), part->begin(), part->end());
  return out;
}

std::string with_layer(std::string_view pattern, int64_t layer) {
  std::string out(pattern);
  if (const size_t at = out.find("{}"); at != std::string::npos)
    out.replace(at, 2, std::to_string(layer));
  return out;
}

}  // namespace

const std::vector<Architecture>& architectures() {
  // Of two that share a GGUF name the first is what such a file is read as.
  static const std::vector<Architecture> list = {
      {"llama", "LlamaForCausalLM", "llama",
       joined({&kDense, &kQueriesKeysInterleaved, &kAttentionBiasesInterleaved})},
      {"mistral", "MistralForCausalLM", "llama", joined({&kDense, &kQueriesKeysInterleaved})},
      {"qwen2", "Qwen2ForCausalLM", "qwen2",
       joined({&kDense, &kQueriesKeys, &kQueryKeyValueBiases})},
      {"qwen3", "Qwen3ForCausalLM", "qwen3", joined({&kDense, &kQueriesKeys, &kQueryKeyNorms})},
  };
  return list;
}

Result<const Architecture*> architecture_of(std::string_view model_type) {
  for (const Architecture& architecture : architectures())
    if (architecture.model_type == model_type) return &architecture;
  std::vector<std::string_view> names;
  for (const Architecture& architecture : architectures()) names.push_back(architecture.model_type);
  return fail("no other format is known for model_type {}; those with one are {}", model_type,
              fmt::join(names, ", "));
}

Result<const Architecture*> architecture_of_gguf(std::string_view gguf) {
  std::vector<std::string_view> names;
  for (const Architecture& architecture : architectures()) {
    if (architecture.gguf == gguf) return &architecture;
    if (std::find(names.begin(), names.end(), architecture.gguf) == names.end())
      names.push_back(architecture.gguf);
  }
  return fail("general.architecture is {}; {} can be read", gguf, fmt::join(names, ", "));
}

std::map<std::string, GgufName, std::less<>> gguf_names(const Architecture& architecture,
                                                        int64_t num_layers) {
  std::map<std::string, GgufName, std::less<>> out;
  for (const TensorRule& rule : architecture.tensors) {
    const int64_t copies = rule.ours.find("{}") == std::string_view::npos ? 1 : num_layers;
    for (int64_t layer = 0; layer < copies; ++layer)
      out[with_layer(rule.ours, layer)] = {with_layer(rule.gguf, layer), rule.transform};
  }
  return out;
}

namespace {

// Calls move(ours, gguf) with the two indices of every row.
template <class Move>
void for_each_row(int64_t rows, int64_t head_dim, Move move) {
  for (int64_t head = 0; head < rows; head += head_dim)
    for (int64_t j = 0; j < 2; ++j)
      for (int64_t i = 0; i < head_dim / 2; ++i)
        move(head + j * (head_dim / 2) + i, head + 2 * i + j);
}

}  // namespace

void to_gguf_order(Transform transform, int64_t head_dim, int64_t cols,
                   std::vector<float>& values) {
  if (transform == Transform::kNone) return;
  const std::vector<float> from = values;
  for_each_row(static_cast<int64_t>(values.size()) / cols, head_dim,
               [&](int64_t ours, int64_t gguf) {
                 std::copy_n(from.begin() + ours * cols, cols, values.begin() + gguf * cols);
               });
}

void from_gguf_order(Transform transform, int64_t head_dim, int64_t cols, std::span<float> values) {
  if (transform == Transform::kNone) return;
  const std::vector<float> from(values.begin(), values.end());
  for_each_row(static_cast<int64_t>(values.size()) / cols, head_dim,
               [&](int64_t ours, int64_t gguf) {
                 std::copy_n(from.begin() + gguf * cols, cols, values.begin() + ours * cols);
               });
}

}  // namespace naite::formats
