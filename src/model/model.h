// SPDX-License-Identifier: Apache-2.0
#pragma once
// The face of model/: architectures as forward-only programs over the operations of tape/ops.h.
// An architecture is one file that reads its Hugging Face config keys, checks them, and records the
// forward pass; it contains no derivatives, no memory and no devices. Adding one:
// docs/ARCHITECTURE.md.
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tape/tape.h"

namespace naite::model {

using tape::Tape;
using tape::Tensor;

// What a forward pass reads. T tokens; every int32 tensor has T rows.
struct Inputs {
  Tensor ids;             // [T, 1]
  Tensor positions;       // [T, 1], below num_positions
  Tensor spans;           // [T, 2], see operations.h, attention
  int64_t num_positions;  // rows of position tables
  // With a key/value cache: where each token's keys and values go, and the rows of every state.
  Tensor slots = {};
  int64_t cache_rows = 0;
  bool wants_peaks = false;  // see Outputs

  // x itself, or with a cache the state `name` after x has been written to it.
  Tensor remember(Tape& tape, const std::string& name, Tensor x) const;
};

// What one attention's scores came to.
struct HeadPeaks {
  Tensor values;                                // [1, heads], scores times scale log2 e
  std::string queries, keys;                    // the weights of the projections
  std::vector<int64_t> query_heads, key_heads;  // by head of the attention, in those weights
  int64_t head_dim = 0;                         // rows of a head there
};

// The last hidden states [T, D], normed, and the parameter that projects them to the vocabulary.
struct Outputs {
  Tensor hidden, head;
  // If asked for: the largest score of every head, and the rows of the projections that make it,
  // for clipping. Empty if queries or keys are more than a projection that turns.
  std::vector<HeadPeaks> peaks = {};
};

class Model {
 public:
  virtual ~Model() = default;

  virtual Outputs forward(Tape& tape, const Inputs& inputs) const = 0;
  // config.json as Hugging Face transformers reads it, all defaults written out.
  virtual nlohmann::json config() const = 0;

  virtual int64_t vocab_size() const = 0;
  virtual int64_t hidden_size() const = 0;
  virtual int64_t num_hidden_layers() const = 0;
  virtual int64_t max_position_embeddings() const = 0;
  // Multiply-adds of attention per token and visible key, over all layers: sum of H (head_dim +
  // value_dim). A window is not taken off.
  virtual int64_t attention_width() const = 0;
};

// Reads a [model] table or a config.json. `strict`: an unknown key is an error; otherwise only one
// that may change what is computed (model/config_keys.h). `where` names the source in messages
// ("recipe.toml: [model]", "DIR/config.json").
Result<std::unique_ptr<Model>> make_model(const nlohmann::json& config, std::string where,
                                          bool strict);
const std::vector<std::string>& model_types();

// The parameters of a model in recording order; allocates no tensor memory.
std::vector<tape::ParameterSpec> parameters_of(const Model& model);
int64_t count_parameters(const Model& model);
bool gives_peaks(const Model& model);

// Floating-point operations of forward and backward per token at a sequence length: 6 per parameter
// that takes part in a product, plus causal attention (half the keys on average).
double training_flops_per_token(const Model& model, int64_t sequence_length);

// Cosines and sines for rope(): [positions, 2 half], angle(p, i) = p * inverse_frequency[i].
std::vector<float> rotary_table(int64_t positions, const std::vector<double>& inverse_frequencies);
std::vector<double> inverse_frequencies(double theta, int64_t rotary_dim);

}  // namespace naite::model
