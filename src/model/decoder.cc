// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace naite::model {

using tape::Role;

Outputs Decoder::forward(Tape& tape, const Inputs& in) const {
  const DecoderConfig& c = base_;
  const Tensor table = tape.parameter({"model.embed_tokens.weight", c.vocab_size, c.hidden_size,
                                       Role::kEmbedding, c.initializer_range});
  Attending with{in, tables(tape, in)};

  Tensor x = tape::embedding(in.ids, table);  // [T, D], the residual stream
  Tensor delta = {};                          // [T, D], what the last block adds to it
  auto add_and_norm = [&](const std::string& name) {
    const Tensor weight = norm_weight(tape, name, c.hidden_size);
    if (delta.tape == nullptr) return tape::rms_norm(x, weight, c.rms_norm_eps);
    const tape::Normed normed = tape::add_rms_norm(x, delta, weight, c.rms_norm_eps);
    x = normed.sum;
    return normed.y;
  };
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    tape.begin_segment();
    const std::string layer = fmt::format("model.layers.{}", i);
    Tensor n = add_and_norm(layer + ".input_layernorm.weight");
    delta = self_attention(tape, with, n, i, layer + ".self_attn");
    n = add_and_norm(layer + ".post_attention_layernorm.weight");
    delta = mlp(tape, n, layer + ".mlp");
  }
  tape.begin_segment();
  const Tensor hidden = add_and_norm("model.norm.weight");
  if (c.tie_word_embeddings) return {hidden, table, std::move(with.peaks)};
  return {hidden,
          tape.parameter(
              {"lm_head.weight", c.vocab_size, c.hidden_size, Role::kHead, c.initializer_range}),
          std::move(with.peaks)};
}

std::vector<Tensor> Decoder::tables(Tape& tape, const Inputs& in) const {
  return {tape.constant("rotary", in.num_positions, base_.head_dim,
                        base_.rotary.table(in.num_positions))};
}

Tensor Decoder::mlp(Tape& tape, Tensor n, const std::string& name) const {
  const int64_t D = base_.hidden_size, F = base_.intermediate_size;
  const std::vector<Tensor> gate_up =
      tape::linear(n, {{matrix(tape, name + ".gate_proj.weight", F, D)},
                       {matrix(tape, name + ".up_proj.weight", F, D)}});
  const Tensor h = activate(tape, gate_up[0], gate_up[1], name);  // [T, F]
  return tape::linear(h, {{matrix(tape, name + ".down_proj.weight", D, F, true)}})[0];
}

Tensor Decoder::activate(Tape& /*tape*/, Tensor gate, Tensor up,
                         const std::string& /*name*/) const {
  return tape::silu_mul(gate, up);
}

// Residual projections start smaller so that the size of the stream does not grow with depth
// (Radford et al., "Language models are unsupervised multitask learners", 2019).
Tensor Decoder::matrix(Tape& tape, const std::string& name, int64_t rows, int64_t cols,
                       bool to_residual) const {
  const double depth = std::sqrt(2.0 * static_cast<double>(base_.num_hidden_layers));
  const double std = to_residual ? base_.initializer_range / depth : base_.initializer_range;
  return tape.parameter({name, rows, cols, Role::kMatrix, std});
}

Tensor Decoder::vector(Tape& tape, const std::string& name, int64_t cols, double initial_std,
                       double initial_value) const {
  return tape.parameter({name, 1, cols, Role::kVector, initial_std, initial_value});
}

nlohmann::json Decoder::base_config(const char* model_type, const char* class_name) const {
  const DecoderConfig& c = base_;
  nlohmann::json out = {{"architectures", {class_name}},
                        {"model_type", model_type},
                        {"vocab_size", c.vocab_size},
                        {"hidden_size", c.hidden_size},
                        {"intermediate_size", c.intermediate_size},
                        {"num_hidden_layers", c.num_hidden_layers},
                        {"num_attention_heads", c.num_attention_heads},
                        {"num_key_value_heads", c.num_key_value_heads},
                        {"head_dim", c.head_dim},
                        {"hidden_act", "silu"},
                        {"max_position_embeddings", c.max_position_embeddings},
                        {"initializer_range", c.initializer_range},
                        {"rms_norm_eps", c.rms_norm_eps},
                        {"attention_dropout", 0.0},
                        {"tie_word_embeddings", c.tie_word_embeddings},
                        {"use_cache", true}};
  c.rotary.put(out);
  return out;
}

int64_t optional_integer(Table& table, const char* key, int64_t fallback, int64_t maximum,
                         int64_t minimum) {
  const nlohmann::json* value = table.raw(key);
  return value == nullptr || value->is_null() ? fallback
                                              : table.integer(key, fallback, minimum, maximum);
}

namespace {

// Without head_dim, hidden_size is divided by the number of query heads.
void read_head_dim(Table& table, DecoderConfig& c) {
  const int64_t heads = c.num_attention_heads;
  c.head_dim = optional_integer(table, "head_dim", 0, 65536);
  if (c.head_dim == 0) {
    if (c.hidden_size % heads != 0)
      table.reject("hidden_size",
                   fmt::format("a multiple of num_attention_heads = {} (or give head_dim)", heads));
    c.head_dim = std::max<int64_t>(1, c.hidden_size / heads);
  }
  if (c.head_dim > kWidthMax / heads)
    table.reject("head_dim", fmt::format("at most {} / num_attention_heads", kWidthMax));
  if (c.head_dim % 2 != 0) table.reject("head_dim", "even, for rotary pairs");
}

}  // namespace

void read_decoder(Table& table, int64_t max_positions, DecoderConfig& c) {
  c.vocab_size = table.integer("vocab_size", std::nullopt, 2, INT32_MAX);
  c.hidden_size = table.integer("hidden_size", std::nullopt, 1, kWidthMax);
  c.intermediate_size = table.integer("intermediate_size", std::nullopt, 1, 4 * kWidthMax);
  c.num_hidden_layers = table.integer("num_hidden_layers", std::nullopt, 1, 4096);
  read_head_dim(table, c);
  c.max_position_embeddings = table.integer("max_position_embeddings", max_positions, 1, INT32_MAX);
  c.rms_norm_eps = table.number("rms_norm_eps", 1e-6, 0, 1);
  c.initializer_range = table.number("initializer_range", 0.02, 0, 10);
  c.tie_word_embeddings = table.boolean("tie_word_embeddings", false);
  c.rotary = read_rotary(table, c.head_dim, c.max_position_embeddings);
}

}  // namespace naite::model
