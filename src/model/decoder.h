// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the decoders have in common: the pre-norm skeleton
//
//   h = x + attention(RMSNorm(x)),   y = h + mlp(RMSNorm(h)),   mlp(n) = down(act(gate n) * up n)
//
// over all layers (Touvron et al., "LLaMA", 2023), its config keys and its tensor names. An
// architecture adds its attention, and its activation where that is not SiLU.
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

// Reads everything but the numbers of heads, which must be there already: for them architectures
// have rules of their own. Errors are kept in `table`.
void read_decoder(Table& table, int64_t max_positions, DecoderConfig& config);
// Configs write null for what follows from other keys.
int64_t optional_integer(Table& table, const char* key, int64_t fallback, int64_t maximum,
                         int64_t minimum = 1);

class Decoder : public Model {
 public:
  Outputs forward(Tape& tape, const Inputs& in) const final;

  int64_t vocab_size() const final { return base_.vocab_size; }
  int64_t hidden_size() const final { return base_.hidden_size; }
  int64_t num_hidden_layers() const final { return base_.num_hidden_layers; }
  int64_t max_position_embeddings() const final { return base_.max_position_embeddings; }

 protected:
  explicit Decoder(const DecoderConfig& base) : base_(base) {}

  // What a layer's attention is given beside its input: the model's tables for rope(), and where
  // the largest scores go.
  struct Attending {
    const Inputs& in;
    std::vector<Tensor> tables;
    std::vector<HeadPeaks> peaks = {};
  };
  // Tables for rope(), [positions, head_dim]; the first one is the config's.
  virtual std::vector<Tensor> tables(Tape& tape, const Inputs& in) const;
  // n [T, D] to [T, D]. `name` is the prefix of its tensors, without the last dot.
  virtual Tensor self_attention(Tape& tape, Attending& with, Tensor n, int64_t index,
                                const std::string& name) const = 0;
  virtual Tensor activate(Tape& tape, Tensor gate, Tensor up, const std::string& name) const;

  // Projections back into the residual stream (`to_residual`) start smaller by sqrt(2 layers).
  Tensor matrix(Tape& tape, const std::string& name, int64_t rows, int64_t cols,
                bool to_residual = false) const;
  Tensor vector(Tape& tape, const std::string& name, int64_t cols, double initial_std,
                double initial_value) const;
  Tensor norm_weight(Tape& tape, const std::string& name, int64_t cols) const {
    return vector(tape, name, cols, 0, 1);
  }
  nlohmann::json base_config(const char* model_type, const char* class_name) const;

 private:
  Tensor mlp(Tape& tape, Tensor n, const std::string& name) const;
  DecoderConfig base_;
};

}  // namespace naite::model
