// SPDX-License-Identifier: Apache-2.0
// Llama: Touvron et al., "LLaMA", 2023, and the dense models that keep its form; config keys and
// tensor names as in Hugging Face transformers.
//   llama    LlamaForCausalLM
//   mistral  MistralForCausalLM: a query may see its last `sliding_window` keys only
//   qwen2    Qwen2ForCausalLM: queries, keys and values have biases; windows from a layer on
//   qwen3    Qwen3ForCausalLM: queries and keys are normed head by head before they turn
//   tri      Trillion Labs' Tri-70B: every `global_attention_freq`-th layer sees all keys and does
//            not turn; its queries grow with the logarithm of their position. The others turn and
//            see a window.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/decoder.h"

namespace naite::model {

namespace {

using tape::Role;

// What the family's members add to Llama.
struct Variant {
  const char* model_type;
  const char* class_name;
  bool query_key_value_bias = false;
  bool query_key_norm = false;
};

struct Config : DecoderConfig {
  Variant variant;
  bool attention_bias;                 // on all four projections
  int64_t window, first_window_layer;  // window 0: none
  // Tri: every so many layers one without rotation and window; 0: none.
  int64_t global_attention_freq;
  double attn_scale, floor_scale;
};

bool is_global(const Config& c, int64_t layer) {
  return c.global_attention_freq > 0 && (layer + 1) % c.global_attention_freq == 0;
}

// A table for rope() that turns nothing and multiplies a query at position p by
// 1 + attn_scale ln(floor((p + 1) / floor_scale) + 1): cosines that are no cosines, sines of zero.
std::vector<float> growing_queries(const Config& c, int64_t num_positions) {
  const int64_t half = c.head_dim / 2;
  std::vector<float> table(static_cast<size_t>(num_positions * c.head_dim), 0.0f);
  for (int64_t p = 0; p < num_positions; ++p) {
    const double steps = std::floor(static_cast<double>(p + 1) / c.floor_scale);
    const auto factor = static_cast<float>(1 + c.attn_scale * exact_ln(steps + 1));
    std::fill_n(table.begin() + p * c.head_dim, half, factor);
  }
  return table;
}

class Llama final : public Decoder {
 public:
  explicit Llama(Config config) : Decoder(config), c_(std::move(config)) {}

  nlohmann::json config() const override;
  int64_t attention_width() const override {
    return c_.num_hidden_layers * c_.num_attention_heads * 2 * c_.head_dim;
  }
  std::vector<ScoredHeads> scored_heads() const override;

 private:
  // What a layer does with positions: tables for rope() and the window of its keys.
  struct Positions {
    Tensor queries, keys;  // keys absent: they do not turn
    int64_t window;        // 0: all
  };
  std::vector<Tensor> tables(Tape& tape, const Inputs& in) const override;
  Positions positions_of(int64_t layer, const std::vector<Tensor>& tables) const;
  Tensor self_attention(Tape& tape, const Attending& with, Tensor n, int64_t index,
                        const std::string& layer) const override;
  bool is_biased() const { return c_.variant.query_key_value_bias || c_.attention_bias; }

  Config c_;
};

std::vector<Tensor> Llama::tables(Tape& tape, const Inputs& in) const {
  std::vector<Tensor> out = Decoder::tables(tape, in);
  if (c_.global_attention_freq > 0)
    out.push_back(tape.constant("growing queries", in.num_positions, c_.head_dim,
                                [c = c_, n = in.num_positions] { return growing_queries(c, n); }));
  return out;
}

Llama::Positions Llama::positions_of(int64_t layer, const std::vector<Tensor>& tables) const {
  if (is_global(c_, layer)) return {tables[1], {}, 0};
  return {tables[0], tables[0], layer < c_.first_window_layer ? 0 : c_.window};
}

Tensor Llama::self_attention(Tape& tape, const Attending& with, Tensor n, int64_t index,
                             const std::string& layer) const {
  const int64_t H = c_.num_attention_heads, K = c_.num_key_value_heads, width = c_.head_dim;
  const Inputs& in = with.in;
  const Positions positions = positions_of(index, with.tables);
  const std::vector<Tensor> qkv = queries_keys_values(tape, n, layer, is_biased());
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
  const Tensor y = attend(tape, in, q, k, v, {H, K, width, width, scale, positions.window}, layer);
  return output(tape, y, layer, c_.attention_bias);
}

std::vector<ScoredHeads> Llama::scored_heads() const {
  if (is_biased() || c_.variant.query_key_norm) return {};
  return plain_scored_heads();
}

nlohmann::json Llama::config() const {
  const bool is_qwen = c_.variant.query_key_value_bias || c_.variant.query_key_norm;
  nlohmann::json out = base_config(c_.variant.model_type, c_.variant.class_name);
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

Config read_config(Table& table, const Variant& variant, int64_t max_positions) {
  Config c{};
  c.variant = variant;
  read_heads(table, c);
  read_decoder(table, {max_positions}, c);
  table.choice("hidden_act", "silu", {"silu"});
  return c;
}

void read_attention_bias(Table& table, Config& c) {
  c.attention_bias = table.boolean("attention_bias", false);
}

// Newer configs spell out the kind of every layer; it must be what the model does there.
void check_layer_types(Table& table, const Config& c) {
  const nlohmann::json* value = table.raw("layer_types");
  if (value == nullptr || value->is_null()) return;
  const std::vector<std::string> kinds = table.strings("layer_types");
  if (static_cast<int64_t>(kinds.size()) != c.num_hidden_layers)
    return table.reject("layer_types", fmt::format("a list of {} kinds", c.num_hidden_layers));
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const bool windowed = c.window != 0 && i >= c.first_window_layer && !is_global(c, i);
    const char* kind = windowed ? "sliding_attention" : "full_attention";
    if (kinds[static_cast<size_t>(i)] != kind)
      return table.reject("layer_types",
                          fmt::format("{} in layer {}, as the other keys have it", kind, i));
  }
}

// Qwen: windows are off unless asked for, and then begin at a layer; the kinds of the layers, where
// they are given, say which.
void read_qwen_window(Table& table, Config& c) {
  const nlohmann::json* window = table.raw("sliding_window");
  if (window == nullptr || !window->is_null())
    c.window = table.integer("sliding_window", 4096, 1, INT32_MAX);
  c.first_window_layer = optional_integer(table, "max_window_layers", 28, 100'000, 0);
  if (!table.boolean("use_sliding_window", false)) c.window = 0;
  const nlohmann::json* kinds = table.raw("layer_types");
  if (c.window != 0 && kinds != nullptr && kinds->is_array())
    c.first_window_layer = std::count(kinds->begin(), kinds->end(), "full_attention");
  check_layer_types(table, c);
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
  check_layer_types(table, c);
  return finish(table, std::move(c));
}

Result<std::unique_ptr<Model>> make_mistral(Table& table) {
  Config c = read_config(table, {"mistral", "MistralForCausalLM"}, 131072);
  const nlohmann::json* window = table.raw("sliding_window");
  c.first_window_layer = 0;
  if (window == nullptr || !window->is_null())
    c.window = table.integer("sliding_window", 4096, 1, INT32_MAX);
  check_layer_types(table, c);
  return finish(table, std::move(c));
}

Result<std::unique_ptr<Model>> make_qwen2(Table& table) {
  Config c = read_config(
      table,
      {.model_type = "qwen2", .class_name = "Qwen2ForCausalLM", .query_key_value_bias = true},
      32768);
  table.ignore({"attention_bias", "qkv_bias"});  // they are there whatever is said
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
  check_layer_types(table, c);
  return finish(table, std::move(c));
}

}  // namespace naite::model
