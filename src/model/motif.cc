// SPDX-License-Identifier: Apache-2.0
#include "model/motif.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/rotary.h"

namespace naite::model {

namespace {

using tape::Role;

// A bound far above any model, low enough that no count of parameters or bytes passes 63 bits.
constexpr int64_t kWidth = int64_t{1} << 17;
constexpr double kPolyNormEpsilon = 1e-6;
constexpr double kLambdaStd = 0.1;

struct Config {
  int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers;
  int64_t num_attention_heads, num_noise_heads, num_key_value_heads, head_dim;
  int64_t max_position_embeddings;
  double rms_norm_eps, attn_rms_norm_eps, initializer_range;
  bool tie_word_embeddings;
  std::string hidden_act;
  Rotary rotary;

  int64_t num_signal_heads() const { return num_attention_heads - num_noise_heads; }
  int64_t signal_per_noise() const { return num_signal_heads() / num_noise_heads; }
  // Keys come in pairs, one for signal and one for noise; so many values, twice as wide, are shared
  // by both.
  int64_t num_pairs() const { return num_key_value_heads / 2; }
};

class Motif final : public Model {
 public:
  explicit Motif(Config config) : c_(std::move(config)) {}

  Outputs forward(Tape& tape, const Inputs& in) const override;
  nlohmann::json config() const override;

  int64_t vocab_size() const override { return c_.vocab_size; }
  int64_t hidden_size() const override { return c_.hidden_size; }
  int64_t num_hidden_layers() const override { return c_.num_hidden_layers; }
  int64_t max_position_embeddings() const override { return c_.max_position_embeddings; }
  int64_t attention_width() const override {
    return c_.num_hidden_layers * c_.num_attention_heads * 3 * c_.head_dim;
  }

 private:
  Tensor self_attention(Tape& tape, const Inputs& in, Tensor rotary, Tensor n, int64_t index,
                        const std::string& layer, std::vector<HeadPeaks>& peaks) const;
  Tensor mlp(Tape& tape, Tensor n, const std::string& layer) const;
  Tensor matrix(Tape& tape, const std::string& name, int64_t rows, int64_t cols,
                bool to_residual = false) const;
  Tensor vector(Tape& tape, const std::string& name, int64_t cols, double initial_std,
                double initial_value) const;

  Config c_;
};

Outputs Motif::forward(Tape& tape, const Inputs& in) const {
  const Tensor table = tape.parameter({"model.embed_tokens.weight", c_.vocab_size, c_.hidden_size,
                                       Role::kEmbedding, c_.initializer_range});
  const Tensor rotary =
      tape.constant("rotary", in.num_positions, c_.head_dim, c_.rotary.table(in.num_positions));

  Tensor x = tape::embedding(in.ids, table);  // [T, D], the residual stream
  Tensor delta = {};                          // [T, D], what the last block adds to it
  std::vector<HeadPeaks> peaks;
  auto add_and_norm = [&](const std::string& name) {
    const Tensor weight = vector(tape, name, c_.hidden_size, 0, 1);
    if (delta.tape == nullptr) return tape::rms_norm(x, weight, c_.rms_norm_eps);
    const tape::Normed normed = tape::add_rms_norm(x, delta, weight, c_.rms_norm_eps);
    x = normed.sum;
    return normed.y;
  };
  for (int64_t i = 0; i < c_.num_hidden_layers; ++i) {
    tape.begin_segment();
    const std::string layer = fmt::format("model.layers.{}", i);
    Tensor n = add_and_norm(layer + ".input_layernorm.weight");
    delta = self_attention(tape, in, rotary, n, i, layer + ".self_attn", peaks);
    n = add_and_norm(layer + ".post_attention_layernorm.weight");
    delta = mlp(tape, n, layer + ".mlp");
  }
  tape.begin_segment();
  const Tensor hidden = add_and_norm("model.norm.weight");
  if (c_.tie_word_embeddings) return {hidden, table, peaks};
  return {hidden,
          tape.parameter({"lm_head.weight", c_.vocab_size, c_.hidden_size, Role::kHead,
                          c_.initializer_range}),
          peaks};
}

// Query heads stand in groups of g signal heads and the noise head that they share, key heads in
// pairs of a signal and a noise head, value heads in pairs that make one value of twice the width:
//   S_i = softmax(q_i k_signal' / sqrt d) v,   N_j = softmax(q_j k_noise' / sqrt d) v
//   o_i = RMSNorm(S_i - lambda N_{i / g}) (1 - lambda_init)
// Attention is linear in its weights, so (A1 - lambda A2) v is two attentions and a subtraction.
Tensor Motif::self_attention(Tape& tape, const Inputs& in, Tensor rotary, Tensor n, int64_t index,
                             const std::string& layer, std::vector<HeadPeaks>& peaks) const {
  const int64_t D = c_.hidden_size, d = c_.head_dim, wide = 2 * d;
  const int64_t H = c_.num_attention_heads, K = c_.num_key_value_heads;
  const int64_t signals = c_.num_signal_heads(), noises = c_.num_noise_heads;
  const std::vector<Tensor> qkv =
      tape::linear(n, {{matrix(tape, layer + ".q_proj.weight", H * d, D)},
                       {matrix(tape, layer + ".k_proj.weight", K * d, D)},
                       {matrix(tape, layer + ".v_proj.weight", K * d, D)}});
  const tape::Parted q =
      tape::rope_parted(qkv[0], in.positions, rotary, H, c_.signal_per_noise());
  const tape::Parted k = tape::rope_parted(qkv[1], in.positions, rotary, K, 1);
  const Tensor k_signal = in.remember(tape, layer + ".k_signal", k.signal);
  const Tensor k_noise = in.remember(tape, layer + ".k_noise", k.noise);
  const Tensor v = in.remember(tape, layer + ".v", qkv[2]);
  const double scale = 1.0 / std::sqrt(static_cast<double>(d));
  // `side` 0 is signal, 1 noise: which heads of the projections take part.
  const auto attend = [&](Tensor queries, Tensor keys, int64_t heads, int64_t side) {
    const kernels::AttentionArguments arguments{heads, c_.num_pairs(), d, wide, scale, 0};
    if (!in.wants_peaks) return tape::attention(queries, keys, v, in.spans, arguments);
    const tape::Attended out =
        tape::attention_with_peaks(queries, keys, v, in.spans, arguments);
    HeadPeaks of{out.peaks, layer + ".q_proj.weight", layer + ".k_proj.weight", {}, {}, d};
    const int64_t g = c_.signal_per_noise();
    for (int64_t i = 0; i < heads; ++i) {
      of.query_heads.push_back(side == 0 ? i / g * (g + 1) + i % g : i * (g + 1) + g);
      of.key_heads.push_back(2 * (i / (heads / c_.num_pairs())) + side);
    }
    peaks.push_back(std::move(of));
    return out.y;
  };
  const Tensor signal = attend(q.signal, k_signal, signals, 0);  // [T, signals wide]
  const Tensor noise = attend(q.noise, k_noise, noises, 1);      // [T, noises wide]
  const auto lambda_vector = [&](const char* name) {
    return vector(tape, layer + name, d, kLambdaStd, 0);
  };
  const Tensor q1 = lambda_vector(".lambda_q1"), k1 = lambda_vector(".lambda_k1");
  const Tensor q2 = lambda_vector(".lambda_q2"), k2 = lambda_vector(".lambda_k2");
  const double lambda_initial = motif_lambda_initial(index);
  const Tensor lambda = tape::differential_lambda(q1, k1, q2, k2, lambda_initial);
  const Tensor difference = tape::subtract_shared(signal, noise, lambda, wide);
  const Tensor o = tape::rms_norm(difference, vector(tape, layer + ".subln.weight", wide, 0, 1),
                                  c_.attn_rms_norm_eps, signals, 1 - lambda_initial);
  return tape::linear(o, {{matrix(tape, layer + ".o_proj.weight", D, signals * wide, true)}})[0];
}

Tensor Motif::mlp(Tape& tape, Tensor n, const std::string& layer) const {
  const int64_t D = c_.hidden_size, F = c_.intermediate_size;
  const std::vector<Tensor> gate_up =
      tape::linear(n, {{matrix(tape, layer + ".gate_proj.weight", F, D)},
                       {matrix(tape, layer + ".up_proj.weight", F, D)}});
  Tensor h = {};  // [T, F]
  if (c_.hidden_act == "poly_norm") {
    const Tensor weight = vector(tape, layer + ".act_fn.weight", 3, 0, 1.0 / 3);
    const Tensor bias = vector(tape, layer + ".act_fn.bias", 1, 0, 0);
    h = tape::poly_norm_mul(gate_up[0], gate_up[1], weight, bias, kPolyNormEpsilon);
  } else {
    h = tape::silu_mul(gate_up[0], gate_up[1]);
  }
  return tape::linear(h, {{matrix(tape, layer + ".down_proj.weight", D, F, true)}})[0];
}

// Projections back into the residual stream start smaller, as in llama.cc.
Tensor Motif::matrix(Tape& tape, const std::string& name, int64_t rows, int64_t cols,
                     bool to_residual) const {
  const double depth = std::sqrt(2.0 * static_cast<double>(c_.num_hidden_layers));
  const double std = to_residual ? c_.initializer_range / depth : c_.initializer_range;
  return tape.parameter({name, rows, cols, Role::kMatrix, std});
}

Tensor Motif::vector(Tape& tape, const std::string& name, int64_t cols, double initial_std,
                     double initial_value) const {
  return tape.parameter({name, 1, cols, Role::kVector, initial_std, initial_value});
}

nlohmann::json Motif::config() const {
  nlohmann::json out = {{"architectures", {"MotifForCausalLM"}},
                        {"model_type", "Motif"},
                        {"vocab_size", c_.vocab_size},
                        {"hidden_size", c_.hidden_size},
                        {"intermediate_size", c_.intermediate_size},
                        {"num_hidden_layers", c_.num_hidden_layers},
                        {"num_attention_heads", c_.num_attention_heads},
                        {"num_noise_heads", c_.num_noise_heads},
                        {"num_key_value_heads", c_.num_key_value_heads},
                        {"k_ratio", 1},
                        {"head_dim", c_.head_dim},
                        {"hidden_act", c_.hidden_act},
                        {"max_position_embeddings", c_.max_position_embeddings},
                        {"initializer_range", c_.initializer_range},
                        {"rms_norm_eps", c_.rms_norm_eps},
                        {"attn_rms_norm_eps", c_.attn_rms_norm_eps},
                        {"absolute_position_embedding", false},
                        {"attention_dropout", 0.0},
                        {"sliding_window", nullptr},
                        {"use_sliding_window", false},
                        {"tie_word_embeddings", c_.tie_word_embeddings},
                        {"use_bias", false},
                        {"use_cache", true}};
  c_.rotary.put(out);
  return out;
}

// Configs write null for what follows from other keys.
int64_t optional_integer(Table& table, const char* key, int64_t fallback, int64_t maximum) {
  const nlohmann::json* value = table.raw(key);
  return value == nullptr || value->is_null() ? fallback : table.integer(key, fallback, 1, maximum);
}

void read_heads(Table& table, Config& c) {
  const int64_t heads = table.integer("num_attention_heads", std::nullopt, 2, kWidth);
  const bool is_plain = !table.has("num_noise_heads") || table.raw("num_noise_heads")->is_null();
  const int64_t noises = optional_integer(table, "num_noise_heads", heads / 2, kWidth);
  const int64_t keys = optional_integer(table, "num_key_value_heads", heads, kWidth);
  c.num_attention_heads = heads;
  c.num_noise_heads = noises;
  c.num_key_value_heads = keys;
  // Without num_noise_heads, half the heads are noise.
  if (is_plain && heads % 2 != 0)
    table.reject("num_attention_heads", "even, or num_noise_heads must say how many are noise");
  if (noises >= heads || heads % noises != 0)
    table.reject("num_noise_heads",
                 fmt::format("a divisor of num_attention_heads = {} below it, so that every noise "
                             "head serves as many signal heads",
                             heads));
  if (keys % 2 != 0)
    table.reject("num_key_value_heads", "even: a key for signal and one for noise each");
  if (keys % 2 == 0 && noises % (keys / 2) != 0)
    table.reject("num_key_value_heads",
                 fmt::format("twice a divisor of num_noise_heads = {}", noises));
  table.integer("k_ratio", 1, 1, 1);
  c.head_dim = optional_integer(table, "head_dim", 0, 65536);
  if (c.head_dim == 0) {
    if (c.hidden_size % heads != 0)
      table.reject("hidden_size",
                   fmt::format("a multiple of num_attention_heads = {} (or give head_dim)", heads));
    c.head_dim = std::max<int64_t>(1, c.hidden_size / heads);
  }
  if (c.head_dim > kWidth / heads)
    table.reject("head_dim", fmt::format("at most {} / num_attention_heads", kWidth));
  if (c.head_dim % 2 != 0) table.reject("head_dim", "even, for rotary pairs");
}

}  // namespace

double motif_lambda_initial(int64_t layer) {
  constexpr double kLog2E = 1.44269504088896340736;
  return 0.8 - 0.6 * exact_exp2(-0.3 * static_cast<double>(layer - 1) * kLog2E);
}

Result<std::unique_ptr<Model>> make_motif(Table& table) {
  Config c{};
  c.vocab_size = table.integer("vocab_size", std::nullopt, 2, INT32_MAX);
  c.hidden_size = table.integer("hidden_size", std::nullopt, 1, kWidth);
  c.intermediate_size = table.integer("intermediate_size", std::nullopt, 1, 4 * kWidth);
  c.num_hidden_layers = table.integer("num_hidden_layers", std::nullopt, 1, 4096);
  read_heads(table, c);
  c.max_position_embeddings = table.integer("max_position_embeddings", 32768, 1, INT32_MAX);
  c.rms_norm_eps = table.number("rms_norm_eps", 1e-6, 0, 1);
  c.attn_rms_norm_eps = table.number("attn_rms_norm_eps", 1e-5, 0, 1);
  c.initializer_range = table.number("initializer_range", 0.02, 0, 10);
  c.tie_word_embeddings = table.boolean("tie_word_embeddings", false);
  c.hidden_act = table.choice("hidden_act", "poly_norm", {"poly_norm", "silu"});
  for (const char* key : {"use_bias", "absolute_position_embedding", "use_sliding_window"})
    if (table.boolean(key, false)) table.reject(key, "false");
  c.rotary = read_rotary(table, c.head_dim, c.max_position_embeddings);
  NAITE_TRY(table.finish(true));
  return std::unique_ptr<Model>(std::make_unique<Motif>(std::move(c)));
}

}  // namespace naite::model
