// SPDX-License-Identifier: Apache-2.0
#include "model/motif.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/decoder.h"

namespace naite::model {

namespace {

constexpr double kPolyNormEpsilon = 1e-6;
constexpr double kLambdaStd = 0.1;
constexpr const char* kSides[2] = {".signal", ".noise"};  // the two attentions of a layer

struct Config : DecoderConfig {
  int64_t num_noise_heads;
  double attn_rms_norm_eps;
  std::string hidden_act;

  int64_t num_signal_heads() const { return num_attention_heads - num_noise_heads; }
  int64_t signal_per_noise() const { return num_signal_heads() / num_noise_heads; }
  // Keys come in pairs, one for signal and one for noise; so many values, twice as wide, are shared
  // by both.
  int64_t num_pairs() const { return num_key_value_heads / 2; }
};

class Motif final : public Decoder {
 public:
  explicit Motif(Config config) : Decoder(config), c_(std::move(config)) {}

  nlohmann::json config() const override;
  int64_t attention_width() const override {
    return c_.num_hidden_layers * c_.num_attention_heads * 3 * c_.head_dim;
  }
  std::vector<ScoredHeads> scored_heads() const override;

 private:
  Tensor self_attention(Tape& tape, const Attending& with, Tensor n, int64_t index,
                        const std::string& layer) const override;
  Tensor lambda(Tape& tape, int64_t index, const std::string& layer) const;
  Tensor activate(Tape& tape, Tensor gate, Tensor up, const std::string& name) const override;

  Config c_;
};

// Query heads stand in groups of g signal heads and the noise head that they share, key heads in
// pairs of a signal and a noise head, value heads in pairs that make one value of twice the width:
//   S_i = softmax(q_i k_signal' / sqrt d) v,   N_j = softmax(q_j k_noise' / sqrt d) v
//   o_i = RMSNorm(S_i - lambda N_{i / g}) (1 - lambda_init)
// Attention is linear in its weights, so (A1 - lambda A2) v is two attentions and a subtraction.
Tensor Motif::self_attention(Tape& tape, const Attending& with, Tensor n, int64_t index,
                             const std::string& layer) const {
  const int64_t d = c_.head_dim, wide = 2 * d;
  const int64_t H = c_.num_attention_heads, K = c_.num_key_value_heads;
  const int64_t signals = c_.num_signal_heads(), noises = c_.num_noise_heads;
  const Inputs& in = with.in;
  const Tensor rotary = with.tables[0];
  const std::vector<Tensor> qkv = queries_keys_values(tape, n, layer);
  const tape::Parted q = tape::rope_parted(qkv[0], in.positions, rotary, H, c_.signal_per_noise());
  const tape::Parted k = tape::rope_parted(qkv[1], in.positions, rotary, K, 1);
  const Tensor k_signal = in.remember(tape, layer + ".k_signal", k.signal);
  const Tensor k_noise = in.remember(tape, layer + ".k_noise", k.noise);
  const Tensor v = in.remember(tape, layer + ".v", qkv[2]);
  const auto attended = [&](Tensor queries, Tensor keys, int64_t heads, const char* side) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(d));
    return attend(tape, in, queries, keys, v, {heads, c_.num_pairs(), d, wide, scale, 0},
                  layer + side);
  };
  const Tensor signal = attended(q.signal, k_signal, signals, kSides[0]);  // [T, signals wide]
  const Tensor noise = attended(q.noise, k_noise, noises, kSides[1]);      // [T, noises wide]
  const Tensor difference = tape::subtract_shared(signal, noise, lambda(tape, index, layer), wide);
  const Tensor o = tape::rms_norm(difference, norm_weight(tape, layer + ".subln.weight", wide),
                                  c_.attn_rms_norm_eps, signals, 1 - motif_lambda_initial(index));
  return output(tape, o, layer);
}

std::vector<ScoredHeads> Motif::scored_heads() const {
  std::vector<ScoredHeads> out;
  const int64_t g = c_.signal_per_noise();
  for (int64_t layer = 0; layer < c_.num_hidden_layers; ++layer)
    for (const int64_t side : {0, 1}) {
      ScoredHeads& of = out.emplace_back(scored_layer(layer, kSides[side]));
      const int64_t heads = side == 0 ? c_.num_signal_heads() : c_.num_noise_heads;
      for (int64_t i = 0; i < heads; ++i) {
        of.query_heads.push_back(side == 0 ? i / g * (g + 1) + i % g : i * (g + 1) + g);
        of.key_heads.push_back(2 * (i / (heads / c_.num_pairs())) + side);
      }
    }
  return out;
}

Tensor Motif::lambda(Tape& tape, int64_t index, const std::string& layer) const {
  const auto of = [&](const char* name) {
    return vector(tape, layer + name, c_.head_dim, kLambdaStd, 0);
  };
  const Tensor q1 = of(".lambda_q1"), k1 = of(".lambda_k1");
  const Tensor q2 = of(".lambda_q2"), k2 = of(".lambda_k2");
  return tape::differential_lambda(q1, k1, q2, k2, motif_lambda_initial(index));
}

Tensor Motif::activate(Tape& tape, Tensor gate, Tensor up, const std::string& name) const {
  if (c_.hidden_act == "silu") return Decoder::activate(tape, gate, up, name);
  if (c_.hidden_act == "gelu_pytorch_tanh") return tape::gelu_mul(gate, up);
  const Tensor weight = vector(tape, name + ".act_fn.weight", 3, 0, 1.0 / 3);
  const Tensor bias = vector(tape, name + ".act_fn.bias", 1, 0, 0);
  return tape::poly_norm_mul(gate, up, weight, bias, kPolyNormEpsilon);
}

nlohmann::json Motif::config() const {
  nlohmann::json out = base_config("Motif", "MotifForCausalLM");
  out["num_noise_heads"] = c_.num_noise_heads;
  out["k_ratio"] = 1;
  out["hidden_act"] = c_.hidden_act;
  out["attn_rms_norm_eps"] = c_.attn_rms_norm_eps;
  out["absolute_position_embedding"] = false;
  out["sliding_window"] = nullptr;
  out["use_sliding_window"] = false;
  out["use_bias"] = false;
  return out;
}

void read_motif_heads(Table& table, Config& c) {
  const int64_t heads = table.integer("num_attention_heads", std::nullopt, 2, kWidthMax);
  const bool is_plain = !table.has("num_noise_heads") || table.raw("num_noise_heads")->is_null();
  const int64_t noises = optional_integer(table, "num_noise_heads", heads / 2, kWidthMax);
  const int64_t keys = optional_integer(table, "num_key_value_heads", heads, kWidthMax);
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
}

}  // namespace

double motif_lambda_initial(int64_t layer) {
  return 0.8 - 0.6 * exact_exp2(-0.3 * static_cast<double>(layer - 1) * kLog2E);
}

Result<std::unique_ptr<Model>> make_motif(Table& table) {
  Config c{};
  read_motif_heads(table, c);
  read_decoder(table, {32768}, c);
  c.attn_rms_norm_eps = table.number("attn_rms_norm_eps", 1e-5, 0, 1);
  c.hidden_act =
      table.choice("hidden_act", "poly_norm", {"poly_norm", "silu", "gelu_pytorch_tanh"});
  for (const char* key : {"use_bias", "absolute_position_embedding", "use_sliding_window"})
    if (table.boolean(key, false)) table.reject(key, "false");
  table.ignore({"sliding_window"});  // not used
  NAITE_TRY(table.finish(true));
  return std::unique_ptr<Model>(std::make_unique<Motif>(std::move(c)));
}

}  // namespace naite::model
