// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the decoders have in common: the pre-norm skeleton
//
//   h = x + attention(RMSNorm(x)),   y = h + mlp(RMSNorm(h)),   mlp(n) = down(act(gate n) * up n)
//
// over all layers (Touvron et al., "LLaMA", 2023), its config keys and its tensor names. An
// architecture adds its attention, its activation where that is not SiLU, and what stands in the
// place of the MLP where that is another.
#include "model/model.h"
#include "model/rotary.h"

namespace naite::model {

// A bound far above any model, low enough that no count of parameters or bytes passes 63 bits.
inline constexpr int64_t kWidthMax = int64_t{1} << 17;

struct DecoderConfig {
  int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers;
  int64_t num_attention_heads, num_key_value_heads, head_dim;
  int64_t max_position_embeddings;
  double rms_norm_eps, initializer_range;
  bool tie_word_embeddings;
  Rotary rotary;
};

// What configs of an architecture mean when they do not say it.
struct DecoderDefaults {
  int64_t max_positions;
  double theta = 10000;
  bool tied = false;
};
// Errors are kept in `table`. The numbers of heads come first; this is for architectures without
// rules of their own: key heads that divide the query heads.
void read_heads(Table& table, DecoderConfig& config);
void read_decoder(Table& table, const DecoderDefaults& defaults, DecoderConfig& config);
// Configs write null for what follows from other keys.
int64_t optional_integer(Table& table, const char* key, int64_t fallback, int64_t maximum,
                         int64_t minimum = 1);

class Decoder : public Model {
 public:
  Tensor embed(Tape& tape, const Inputs& in) const override;
  using Model::forward;
  Outputs forward(Tape& tape, const Inputs& in, Tensor x) const final;

  int64_t vocab_size() const final { return base_.vocab_size; }
  int64_t hidden_size() const final { return base_.hidden_size; }
  int64_t num_hidden_layers() const final { return base_.num_hidden_layers; }
  int64_t max_position_embeddings() const final { return base_.max_position_embeddings; }

 protected:
  explicit Decoder(const DecoderConfig& base) : base_(base) {}

  // What a layer's attention is given beside its input: the model's tables for rope().
  struct Attending {
    const Inputs& in;
    std::vector<Tensor> tables;
  };
  // Tables for rope(), [positions, head_dim]; the first one is the config's.
  virtual std::vector<Tensor> tables(Tape& tape, const Inputs& in) const;
  // n [T, D] to [T, D]. `name` is the prefix of its tensors, without the last dot.
  virtual Tensor self_attention(Tape& tape, const Attending& with, Tensor n, int64_t index,
                                const std::string& name) const = 0;
  // The same for what follows attention: the gated MLP.
  virtual Tensor feed_forward(Tape& tape, Tensor n, int64_t index, const std::string& name) const;
  virtual Tensor activate(Tape& tape, Tensor gate, Tensor up, const std::string& name) const;

  // The projections of queries, keys and values, [T, heads head_dim] each, that share their input.
  std::vector<Tensor> queries_keys_values(Tape& tape, Tensor n, const std::string& name,
                                          bool biased = false) const;
  // Attention; if `in` asks for it, its largest scores are watched as "NAME.scores".
  static Tensor attend(Tape& tape, const Inputs& in, Tensor q, Tensor k, Tensor v,
                       const kernels::AttentionArguments& arguments, const std::string& name);
  // All heads of all layers, where query head h reads key h / (H / K) and nothing but a turn lies
  // between projections and scores.
  std::vector<ScoredHeads> plain_scored_heads() const;
  // The projections of layer `index` under the name that attend() got.
  ScoredHeads scored_layer(int64_t index, const std::string& part = "") const;
  // [T, heads value_dim] back to [T, D].
  Tensor output(Tape& tape, Tensor y, const std::string& name, bool biased = false) const;
  // Projections back into the residual stream (`to_residual`) start smaller by sqrt(2 layers).
  Tensor matrix(Tape& tape, const std::string& name, int64_t rows, int64_t cols,
                bool to_residual = false) const;
  Tensor vector(Tape& tape, const std::string& name, int64_t cols, double initial_std,
                double initial_value) const;
  Tensor bias(Tape& tape, const std::string& name, int64_t cols, bool wanted = true) const {
    return wanted ? vector(tape, name, cols, 0, 0) : Tensor();
  }
  Tensor norm_weight(Tape& tape, const std::string& name, int64_t cols) const {
    return vector(tape, name, cols, 0, 1);
  }
  nlohmann::json base_config(const char* model_type, const char* class_name) const;

 private:
  DecoderConfig base_;
};

}  // namespace naite::model
