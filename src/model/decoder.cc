// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace naite::model {

using tape::Role;

namespace {
constexpr const char* kEmbedding = "model.embed_tokens.weight";
}  // namespace

Tensor Decoder::embed(Tape& tape, const Inputs& in) const {
  return tape::embedding(in.ids, tape.parameter({kEmbedding, base_.vocab_size, base_.hidden_size,
                                                 Role::kEmbedding, base_.initializer_range}));
}

Outputs Decoder::forward(Tape& tape, const Inputs& in, Tensor x) const {
  const DecoderConfig& c = base_;
  const Attending with{in, tables(tape, in)};
  Tensor delta = {};  // [T, D], what the last block adds to the stream
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
    delta = feed_forward(tape, n, i, layer + ".mlp");
  }
  tape.begin_segment();
  const Tensor hidden = add_and_norm("model.norm.weight");
  if (c.tie_word_embeddings) return {hidden, tape.recorded(kEmbedding)};
  return {hidden, tape.parameter({"lm_head.weight", c.vocab_size, c.hidden_size, Role::kHead,
                                  c.initializer_range})};
}

std::vector<Tensor> Decoder::tables(Tape& tape, const Inputs& in) const {
  return {tape.constant("rotary", in.num_positions, base_.head_dim,
                        [rotary = base_.rotary, n = in.num_positions] { return rotary.table(n); })};
}

std::vector<Tensor> Decoder::queries_keys_values(Tape& tape, Tensor n, const std::string& name,
                                                 bool biased) const {
  const auto projection = [&](const char* part, int64_t heads) -> tape::Weight {
    const int64_t rows = heads * base_.head_dim;
    const std::string full = name + part;
    const Tensor weight = matrix(tape, full + ".weight", rows, base_.hidden_size);
    return {weight, bias(tape, full + ".bias", rows, biased)};
  };
  const tape::Weight q = projection(".q_proj", base_.num_attention_heads);
  const tape::Weight k = projection(".k_proj", base_.num_key_value_heads);
  return tape::linear(n, {q, k, projection(".v_proj", base_.num_key_value_heads)});
}

Tensor Decoder::attend(Tape& tape, const Inputs& in, Tensor q, Tensor k, Tensor v,
                       const kernels::AttentionArguments& arguments, const std::string& name) {
  if (!in.watches_scores) return tape::attention(q, k, v, in.spans, arguments);
  const tape::Attended out = tape::attention_with_peaks(q, k, v, in.spans, arguments);
  tape.watch(name + ".scores", out.peaks, tape::Rule::kMax);
  return out.y;
}

ScoredHeads Decoder::scored_layer(int64_t index, const std::string& part) const {
  const std::string name = fmt::format("model.layers.{}.self_attn", index);
  return {name + part + ".scores", name + ".q_proj.weight", name + ".k_proj.weight", {}, {},
          base_.head_dim};
}

std::vector<ScoredHeads> Decoder::plain_scored_heads() const {
  std::vector<ScoredHeads> out;
  for (int64_t i = 0; i < base_.num_hidden_layers; ++i) {
    ScoredHeads& of = out.emplace_back(scored_layer(i));
    for (int64_t h = 0; h < base_.num_attention_heads; ++h) {
      of.query_heads.push_back(h);
      of.key_heads.push_back(h / (base_.num_attention_heads / base_.num_key_value_heads));
    }
  }
  return out;
}

Tensor Decoder::output(Tape& tape, Tensor y, const std::string& name, bool biased) const {
  const std::string full = name + ".o_proj";
  const Tensor weight = matrix(tape, full + ".weight", base_.hidden_size, y.cols(), true);
  return tape::linear(y, {{weight, bias(tape, full + ".bias", base_.hidden_size, biased)}})[0];
}

Tensor Decoder::feed_forward(Tape& tape, Tensor n, int64_t /*index*/,
                             const std::string& name) const {
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

void read_heads(Table& table, DecoderConfig& c) {
  c.num_attention_heads = table.integer("num_attention_heads", std::nullopt, 1, kWidthMax);
  c.num_key_value_heads =
      optional_integer(table, "num_key_value_heads", c.num_attention_heads, kWidthMax);
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    table.reject("num_key_value_heads",
                 fmt::format("a divisor of num_attention_heads = {}", c.num_attention_heads));
}

void read_decoder(Table& table, const DecoderDefaults& defaults, DecoderConfig& c) {
  c.vocab_size = table.integer("vocab_size", std::nullopt, 2, INT32_MAX);
  c.hidden_size = table.integer("hidden_size", std::nullopt, 1, kWidthMax);
  c.intermediate_size = table.integer("intermediate_size", std::nullopt, 1, 4 * kWidthMax);
  c.num_hidden_layers = table.integer("num_hidden_layers", std::nullopt, 1, 4096);
  read_head_dim(table, c);
  c.max_position_embeddings =
      table.integer("max_position_embeddings", defaults.max_positions, 1, INT32_MAX);
  c.rms_norm_eps = table.number("rms_norm_eps", 1e-6, 0, 1);
  c.initializer_range = table.number("initializer_range", 0.02, 0, 10);
  c.tie_word_embeddings = table.boolean("tie_word_embeddings", defaults.tied);
  c.rotary = read_rotary(table, c.head_dim, c.max_position_embeddings, defaults.theta);
}

}  // namespace naite::model
