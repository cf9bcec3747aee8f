// SPDX-License-Identifier: Apache-2.0
// SmolLM3 (Hugging Face, 2025): Llama whose every fourth layer does not turn its queries and keys
// (Yang et al., "RoPE to NoPE and back again", 2025). Config keys and tensor names as in Hugging
// Face transformers (SmolLM3ForCausalLM).
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/decoder.h"

namespace naite::model {

namespace {

struct Config : DecoderConfig {
  std::vector<bool> turns;  // by layer
  int64_t window;           // of the layers that do not turn; 0: none
  bool attention_bias;      // on all four projections
};

class SmolLm3 final : public Decoder {
 public:
  explicit SmolLm3(Config config) : Decoder(config), c_(std::move(config)) {}

  nlohmann::json config() const override;
  int64_t attention_width() const override {
    return c_.num_hidden_layers * c_.num_attention_heads * 2 * c_.head_dim;
  }
  std::vector<ScoredHeads> scored_heads() const override {
    return c_.attention_bias ? std::vector<ScoredHeads>() : plain_scored_heads();
  }

 private:
  Tensor self_attention(Tape& tape, const Attending& with, Tensor n, int64_t index,
                        const std::string& layer) const override;

  Config c_;
};

Tensor SmolLm3::self_attention(Tape& tape, const Attending& with, Tensor n, int64_t index,
                               const std::string& layer) const {
  const int64_t H = c_.num_attention_heads, K = c_.num_key_value_heads, width = c_.head_dim;
  const Inputs& in = with.in;
  const bool turns = c_.turns[static_cast<size_t>(index)];
  const std::vector<Tensor> qkv = queries_keys_values(tape, n, layer, c_.attention_bias);
  const auto placed = [&](Tensor x, int64_t heads) {
    return turns ? tape::rope(x, in.positions, with.tables[0], heads) : x;
  };
  const Tensor q = placed(qkv[0], H);
  const Tensor k = in.remember(tape, layer + ".k", placed(qkv[1], K));
  const Tensor v = in.remember(tape, layer + ".v", qkv[2]);
  const double scale = 1.0 / std::sqrt(static_cast<double>(width));
  const int64_t window = turns ? 0 : c_.window;
  const Tensor y = attend(tape, in, q, k, v, {H, K, width, width, scale, window}, layer);
  return output(tape, y, layer, c_.attention_bias);
}

nlohmann::json SmolLm3::config() const {
  nlohmann::json out = base_config("smollm3", "SmolLM3ForCausalLM");
  out["attention_bias"] = c_.attention_bias;
  out["mlp_bias"] = false;
  out["use_sliding_window"] = c_.window != 0;
  out["sliding_window"] = c_.window == 0 ? nlohmann::json() : nlohmann::json(c_.window);
  for (const bool turns : c_.turns) {
    out["no_rope_layers"].push_back(turns ? 1 : 0);
    out["layer_types"].push_back(turns || c_.window == 0 ? "full_attention" : "sliding_attention");
  }
  return out;
}

// no_rope_layers says 1 where a layer does turn; without it, every so many layers one does not.
void read_turns(Table& table, Config& c) {
  const int64_t interval = table.integer("no_rope_layer_interval", 4, 1, 100'000);
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) c.turns.push_back((i + 1) % interval != 0);
  const nlohmann::json* const given = table.raw("no_rope_layers");
  if (given == nullptr || given->is_null()) return;
  const auto is_flag = [](const nlohmann::json& flag) { return flag == 0 || flag == 1; };
  if (!given->is_array() || given->size() < c.turns.size() ||
      !std::all_of(given->begin(), given->end(), is_flag)) {
    table.reject("no_rope_layers", fmt::format("a list of {} zeros and ones", c.turns.size()));
    return;
  }
  for (size_t i = 0; i < c.turns.size(); ++i) c.turns[i] = (*given)[i] == 1;
}

// Windows are off unless asked for; layer_types may only say what follows from the other keys.
void read_window(Table& table, Config& c) {
  c.window = optional_integer(table, "sliding_window", 0, INT32_MAX);
  if (!table.boolean("use_sliding_window", false)) c.window = 0;
  const std::vector<std::string> kinds = table.strings("layer_types");
  bool fits = kinds.empty() || kinds.size() == c.turns.size();
  for (size_t i = 0; fits && i < kinds.size(); ++i)
    fits = (kinds[i] == "sliding_attention") == (c.window > 0 && !c.turns[i]);
  if (!fits)
    table.reject("layer_types",
                 "sliding_attention where no_rope_layers says 0, if windows are used");
}

}  // namespace

Result<std::unique_ptr<Model>> make_smollm3(Table& table) {
  Config c{};
  read_heads(table, c);
  read_decoder(table, {.max_positions = 32768, .theta = 2e6, .tied = true}, c);
  c.attention_bias = table.boolean("attention_bias", false);
  table.choice("hidden_act", "silu", {"silu"});
  if (table.boolean("mlp_bias", false)) table.reject("mlp_bias", "false");
  read_turns(table, c);
  read_window(table, c);
  NAITE_TRY(table.finish(true));
  return std::unique_ptr<Model>(std::make_unique<SmolLm3>(std::move(c)));
}

}  // namespace naite::model
