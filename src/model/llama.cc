// SPDX-License-Identifier: Apache-2.0
#include "model/llama.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/rotary.h"

namespace naite::model {

namespace {

using tape::ParameterSpec;
using tape::Role;

// What the family's members add to Llama.
struct Variant {
  const char* model_type;
  const char* class_name;
  bool query_key_value_bias = false;
  bool query_key_norm = false;
};

struct Config {
  Variant variant;
  int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers;
  int64_t num_attention_heads, num_key_value_heads, head_dim;
  int64_t max_position_embeddings;
  double rms_norm_eps, initializer_range;
  bool tie_word_embeddings;
  bool attention_bias;                 // on all four projections
  int64_t window, first_window_layer;  // window 0: none
  Rotary rotary;
  // Tri: every so many layers one without rotation and window; 0: none.
  int64_t global_attention_freq;
  double attn_scale, floor_scale;
};

class Llama final : public Model {
 public:
  explicit Llama(Config config) : c_(std::move(config)) {}

  Outputs forward(Tape& tape, const Inputs& in) const override;
  nlohmann::json config() const override;

  int64_t vocab_size() const override { return c_.vocab_size; }
  int64_t hidden_size() const override { return c_.hidden_size; }
  int64_t num_hidden_layers() const override { return c_.num_hidden_layers; }
  int64_t max_position_embeddings() const override { return c_.max_position_embeddings; }
  int64_t attention_width() const override {
    return c_.num_hidden_layers * c_.num_attention_heads * 2 * c_.head_dim;
  }

 private:
  // What a layer does with positions: tables for rope() and the window of its keys.
  struct Positions {
    Tensor queries, keys;  // keys absent: they do not turn
    int64_t window;        // 0: all
  };
  Positions positions_of(int64_t layer, Tensor rotary, Tensor growing) const;
  bool is_global(int64_t layer) const {
    return c_.global_attention_freq > 0 && (layer + 1) % c_.global_attention_freq == 0;
  }
  std::vector<float> growing_queries(int64_t num_positions) const;
  Tensor self_attention(Tape& tape, const Inputs& in, const Positions& positions, Tensor n,
                        const std::string& layer, std::vector<HeadPeaks>& peaks) const;
  Tensor mlp(Tape& tape, Tensor n, const std::string& layer) const;
  Tensor matrix(Tape& tape, const std::string& name, int64_t rows, int64_t cols,
                bool to_residual = false) const;
  Tensor norm_weight(Tape& tape, const std::string& name, int64_t cols) const;
  Tensor bias(Tape& tape, const std::string& name, int64_t cols, bool wanted) const;

  Config c_;
};

Outputs Llama::forward(Tape& tape, const Inputs& in) const {
  const Tensor table = tape.parameter({"model.embed_tokens.weight", c_.vocab_size, c_.hidden_size,
                                       Role::kEmbedding, c_.initializer_range});
  const Tensor rotary =
      tape.constant("rotary", in.num_positions, c_.head_dim, c_.rotary.table(in.num_positions));
  Tensor growing = {};
  if (c_.global_attention_freq > 0)
    growing = tape.constant("growing queries", in.num_positions, c_.head_dim,
                            growing_queries(in.num_positions));

  Tensor x = tape::embedding(in.ids, table);  // [T, D], the residual stream
  Tensor delta = {};                          // [T, D], what the last block adds to it
  std::vector<HeadPeaks> peaks;
  auto add_and_norm = [&](const std::string& name) {
    const Tensor weight = norm_weight(tape, name, c_.hidden_size);
    if (delta.tape == nullptr) return tape::rms_norm(x, weight, c_.rms_norm_eps);
    const tape::Normed normed = tape::add_rms_norm(x, delta, weight, c_.rms_norm_eps);
    x = normed.sum;
    return normed.y;
  };
  for (int64_t i = 0; i < c_.num_hidden_layers; ++i) {
    tape.begin_segment();
    const std::string layer = fmt::format("model.layers.{}", i);
    Tensor n = add_and_norm(layer + ".input_layernorm.weight");
    delta =
        self_attention(tape, in, positions_of(i, rotary, growing), n, layer + ".self_attn", peaks);
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

Llama::Positions Llama::positions_of(int64_t layer, Tensor rotary, Tensor growing) const {
  if (is_global(layer)) return {growing, {}, 0};
  return {rotary, rotary, layer < c_.first_window_layer ? 0 : c_.window};
}

// A table for rope() that turns nothing and multiplies a query at position p by
// 1 + attn_scale ln(floor((p + 1) / floor_scale) + 1): cosines that are no cosines, sines of zero.
std::vector<float> Llama::growing_queries(int64_t num_positions) const {
  const int64_t half = c_.head_dim / 2;
  std::vector<float> table(static_cast<size_t>(num_positions * c_.head_dim), 0.0f);
  for (int64_t p = 0; p < num_positions; ++p) {
    const double steps = std::floor(static_cast<double>(p + 1) / c_.floor_scale);
    const auto factor = static_cast<float>(1 + c_.attn_scale * exact_ln(steps + 1));
    std::fill_n(table.begin() + p * c_.head_dim, half, factor);
  }
  return table;
}

Tensor Llama::self_attention(Tape& tape, const Inputs& in, const Positions& positions, Tensor n,
                             const std::string& layer, std::vector<HeadPeaks>& peaks) const {
  const int64_t H = c_.num_attention_heads, K = c_.num_key_value_heads, width = c_.head_dim;
  const bool biased = c_.variant.query_key_value_bias || c_.attention_bias;
  const auto projection = [&](const std::string& name, int64_t rows) -> tape::Weight {
    return {matrix(tape, layer + name + ".weight", rows, c_.hidden_size),
            bias(tape, layer + name + ".bias", rows, biased)};
  };
  const std::vector<Tensor> qkv =
      tape::linear(n, {projection(".q_proj", H * width), projection(".k_proj", K * width),
                       projection(".v_proj", K * width)});
  const auto turned = [&](Tensor x, const std::string& norm, Tensor table, int64_t heads) {
    if (c_.variant.query_key_norm)
      x = tape::rms_norm(x, norm_weight(tape, layer + norm, width), c_.rms_norm_eps, heads);
    return table.tape == nullptr ? x : tape::rope(x, in.positions, table, heads);
  };
  const Tensor q = turned(qkv[0], ".q_norm.weight", positions.queries, H);  // [T, H width]
  const Tensor k =
      in.remember(tape, layer + ".k", turned(qkv[1], ".k_norm.weight", positions.keys, K));
  const Tensor v = in.remember(tape, layer + ".v", qkv[2]);
  const double scale = 1.0 / std::sqrt(static_cast<double>(width));
  const kernels::AttentionArguments arguments{H, K, width, width, scale, positions.window};
  Tensor y;  // [T, H width]
  if (in.wants_peaks && !biased && !c_.variant.query_key_norm) {
    const tape::Attended out = tape::attention_with_peaks(q, k, v, in.spans, arguments);
    HeadPeaks of{out.peaks, layer + ".q_proj.weight", layer + ".k_proj.weight", {}, {}, width};
    for (int64_t h = 0; h < H; ++h) {
      of.query_heads.push_back(h);
      of.key_heads.push_back(h / (H / K));
    }
    peaks.push_back(std::move(of));
    y = out.y;
  } else {
    y = tape::attention(q, k, v, in.spans, arguments);
  }
  return tape::linear(y,
                      {{matrix(tape, layer + ".o_proj.weight", c_.hidden_size, H * width, true),
                        bias(tape, layer + ".o_proj.bias", c_.hidden_size, c_.attention_bias)}})[0];
}

Tensor Llama::mlp(Tape& tape, Tensor n, const std::string& layer) const {
  const int64_t D = c_.hidden_size, F = c_.intermediate_size;
  const std::vector<Tensor> gate_up =
      tape::linear(n, {{matrix(tape, layer + ".gate_proj.weight", F, D)},
                       {matrix(tape, layer + ".up_proj.weight", F, D)}});
  const Tensor h = tape::silu_mul(gate_up[0], gate_up[1]);  // [T, F]
  return tape::linear(h, {{matrix(tape, layer + ".down_proj.weight", D, F, true)}})[0];
}

// Projections back into the residual stream start smaller by sqrt(2 layers), so that its size does
// not grow with depth (Radford et al., "Language models are unsupervised multitask learners",
// 2019).
Tensor Llama::matrix(Tape& tape, const std::string& name, int64_t rows, int64_t cols,
                     bool to_residual) const {
  const double depth = std::sqrt(2.0 * static_cast<double>(c_.num_hidden_layers));
  const double std = to_residual ? c_.initializer_range / depth : c_.initializer_range;
  return tape.parameter({name, rows, cols, Role::kMatrix, std});
}

Tensor Llama::norm_weight(Tape& tape, const std::string& name, int64_t cols) const {
  return tape.parameter({name, 1, cols, Role::kVector, 0, 1.0});
}

Tensor Llama::bias(Tape& tape, const std::string& name, int64_t cols, bool wanted) const {
  if (!wanted) return {};
  return tape.parameter({name, 1, cols, Role::kVector, 0, 0});
}

nlohmann::json Llama::config() const {
  const bool is_qwen = c_.variant.query_key_value_bias || c_.variant.query_key_norm;
  nlohmann::json out = {{"architectures", {c_.variant.class_name}},
                        {"model_type", c_.variant.model_type},
                        {"vocab_size", c_.vocab_size},
                        {"hidden_size", c_.hidden_size},
                        {"intermediate_size", c_.intermediate_size},
                        {"num_hidden_layers", c_.num_hidden_layers},
                        {"num_attention_heads", c_.num_attention_heads},
                        {"num_key_value_heads", c_.num_key_value_heads},
                        {"head_dim", c_.head_dim},
                        {"hidden_act", "silu"},
                        {"max_position_embeddings", c_.max_position_embeddings},
                        {"initializer_range", c_.initializer_range},
                        {"rms_norm_eps", c_.rms_norm_eps},
                        {"attention_dropout", 0.0},
                        {"tie_word_embeddings", c_.tie_word_embeddings},
                        {"use_cache", true}};
  c_.rotary.put(out);
  const std::string type = c_.variant.model_type;
  if (type == "llama") {
    out["mlp_bias"] = false;
    out["pretraining_tp"] = 1;
  }
  if (type == "llama" || type == "qwen3") out["attention_bias"] = c_.attention_bias;
  if (type == "mistral" || is_qwen)
    out["sliding_window"] = c_.window == 0 ? nlohmann::json() : nlohmann::json(c_.window);
  if (type == "tri") {
    out["sliding_window"] = c_.window;
    out["global_attention_freq"] = c_.global_attention_freq;
    out["attn_scale"] = c_.attn_scale;
    out["floor_scale"] = c_.floor_scale;
  }
  if (is_qwen) {
    out["use_sliding_window"] = c_.window != 0;
    out["max_window_layers"] = c_.first_window_layer;
  }
  return out;
}

// Configs write null for what follows from other keys.
int64_t optional_integer(Table& table, const char* key, int64_t fallback, int64_t maximum,
                         int64_t minimum = 1) {
  const nlohmann::json* value = table.raw(key);
  return value == nullptr || value->is_null() ? fallback
                                              : table.integer(key, fallback, minimum, maximum);
}

Config read_config(Table& table, const Variant& variant, int64_t max_positions) {
  // Bounds far above any model, low enough that no count of parameters or bytes passes 63 bits.
  constexpr int64_t kWidth = int64_t{1} << 17;
  Config c{};
  c.variant = variant;
  c.vocab_size = table.integer("vocab_size", std::nullopt, 2, INT32_MAX);
  c.hidden_size = table.integer("hidden_size", std::nullopt, 1, kWidth);
  c.intermediate_size = table.integer("intermediate_size", std::nullopt, 1, 4 * kWidth);
  c.num_hidden_layers = table.integer("num_hidden_layers", std::nullopt, 1, 4096);
  c.num_attention_heads = table.integer("num_attention_heads", std::nullopt, 1, kWidth);
  c.num_key_value_heads =
      optional_integer(table, "num_key_value_heads", c.num_attention_heads, kWidth);
  c.head_dim = optional_integer(table, "head_dim", 0, 65536);
  if (c.head_dim == 0) {
    if (c.hidden_size % c.num_attention_heads != 0)
      table.reject("hidden_size", fmt::format("a multiple of num_attention_heads = {} (or give "
                                              "head_dim)",
                                              c.num_attention_heads));
    c.head_dim = std::max<int64_t>(1, c.hidden_size / c.num_attention_heads);
  }
  if (c.head_dim > kWidth / c.num_attention_heads)
    table.reject("head_dim", fmt::format("at most {} / num_attention_heads", kWidth));
  if (c.head_dim % 2 != 0) table.reject("head_dim", "even, for rotary pairs");
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    table.reject("num_key_value_heads",
                 fmt::format("a divisor of num_attention_heads = {}", c.num_attention_heads));
  c.max_position_embeddings = table.integer("max_position_embeddings", max_positions, 1, INT32_MAX);
  c.rms_norm_eps = table.number("rms_norm_eps", 1e-6, 0, 1);
  c.initializer_range = table.number("initializer_range", 0.02, 0, 10);
  c.tie_word_embeddings = table.boolean("tie_word_embeddings", false);
  table.choice("hidden_act", "silu", {"silu"});
  c.rotary = read_rotary(table, c.head_dim, c.max_position_embeddings);
  return c;
}

void read_attention_bias(Table& table, Config& c) {
  c.attention_bias = table.boolean("attention_bias", false);
}

// Qwen: windows are off unless asked for, and then begin at a layer; newer configs spell out the
// kind of every layer.
void read_qwen_window(Table& table, Config& c) {
  c.window = optional_integer(table, "sliding_window", 4096, INT32_MAX);
  c.first_window_layer = optional_integer(table, "max_window_layers", 28, 100'000, 0);
  const std::vector<std::string> kinds = table.strings("layer_types");
  if (!table.boolean("use_sliding_window", false)) c.window = 0;
  if (c.window == 0 || kinds.empty()) return;
  if (static_cast<int64_t>(kinds.size()) != c.num_hidden_layers)
    table.reject("layer_types", fmt::format("a list of {} kinds", c.num_hidden_layers));
  c.first_window_layer = 0;
  for (const std::string& kind : kinds) c.first_window_layer += kind == "full_attention" ? 1 : 0;
  for (size_t i = 0; i < kinds.size(); ++i)
    if (kinds[i] !=
        (static_cast<int64_t>(i) < c.first_window_layer ? "full_attention" : "sliding_attention"))
      table.reject("layer_types", "full_attention first, then sliding_attention");
}

// trillion-labs/trillion-deployment-utils, the constructor's defaults.
void read_global_layers(Table& table, Config& c) {
  c.window = table.integer("sliding_window", 4096, 1, INT32_MAX);
  c.global_attention_freq = table.integer("global_attention_freq", 4, 1, 100'000);
  c.attn_scale = table.number("attn_scale", 1.0, 0, 1e3);
  c.floor_scale = table.number("floor_scale", 1.0, 1, 1e9);
}

Result<std::unique_ptr<Model>> finish(Table& table, Config config) {
  NAITE_TRY(table.finish(true));
  return std::unique_ptr<Model>(std::make_unique<Llama>(std::move(config)));
}

}  // namespace

Result<std::unique_ptr<Model>> make_llama(Table& table) {
  Config c = read_config(table, {"llama", "LlamaForCausalLM"}, 2048);
  read_attention_bias(table, c);
  if (table.boolean("mlp_bias", false)) table.reject("mlp_bias", "false");
  return finish(table, std::move(c));
}

Result<std::unique_ptr<Model>> make_mistral(Table& table) {
  Config c = read_config(table, {"mistral", "MistralForCausalLM"}, 131072);
  const nlohmann::json* window = table.raw("sliding_window");
  c.first_window_layer = 0;
  if (window == nullptr || !window->is_null())
    c.window = table.integer("sliding_window", 4096, 1, INT32_MAX);
  return finish(table, std::move(c));
}

Result<std::unique_ptr<Model>> make_qwen2(Table& table) {
  Config c = read_config(
      table,
      {.model_type = "qwen2", .class_name = "Qwen2ForCausalLM", .query_key_value_bias = true},
      32768);
  read_qwen_window(table, c);
  return finish(table, std::move(c));
}

Result<std::unique_ptr<Model>> make_qwen3(Table& table) {
  Config c = read_config(
      table, {.model_type = "qwen3", .class_name = "Qwen3ForCausalLM", .query_key_norm = true},
      32768);
  read_attention_bias(table, c);
  read_qwen_window(table, c);
  return finish(table, std::move(c));
}

Result<std::unique_ptr<Model>> make_tri(Table& table) {
  Config c = read_config(table, {"tri", "TriForCausalLM"}, 32768);
  read_global_layers(table, c);
  return finish(table, std::move(c));
}

}  // namespace naite::model
