// SPDX-License-Identifier: Apache-2.0
#pragma once
// The face of model/: architectures as forward-only programs over the operations of tape/ops.h.
// An architecture is one file that reads its Hugging Face config keys, checks them, and records the
// forward pass; it contains no derivatives, no memory and no devices. Adding one:
// docs/ARCHITECTURE.md.
#include <cstdint>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tape/tape.h"

namespace naite::model {

using tape::Tape;
using tape::Tensor;

// What a forward pass reads: T tokens, and leaves of these names on the tape, int32 with T rows.
// Two of them have room to widen. `positions` is [T, 1]: a place in several dimensions (rows and
// columns of an image) would be more columns, read by a rope of its own. `spans` are causal in
// training (kernels.h, attention): tokens that see what comes after them (inside one image) would
// be spans that end later, which attention's backward refuses today.
struct Inputs {
  Tensor ids;             // [T, 1]
  Tensor positions;       // [T, 1], below num_positions
  Tensor spans;           // [T, 2], see operations.h, attention
  int64_t num_positions;  // rows of position tables
  // With a key/value cache: where each token's keys and values go, and the rows of every state.
  Tensor slots = {};
  int64_t cache_rows = 0;
  bool watches_scores = false;  // see ScoredHeads

  // Records the leaves; with cache_rows > 0 also `slots`.
  static Inputs declare(Tape& tape, int64_t tokens, int64_t num_positions, int64_t cache_rows = 0);
  // x itself, or with a cache the state `name` after x has been written to it.
  Tensor remember(Tape& tape, const std::string& name, Tensor x) const;
};

// One attention whose scores are those of two projections alone, so that shrinking rows of their
// weights shrinks the scores. If asked for, the largest score of every head, times scale log2 e, is
// watched under `name`: [1, heads].
struct ScoredHeads {
  std::string name;
  std::string queries, keys;                    // the weights of the projections
  std::vector<int64_t> query_heads, key_heads;  // by head of the attention, in those weights
  int64_t head_dim = 0;                         // rows of a head there
};

// The last hidden states [T, D], normed, and the parameter that projects them to the vocabulary.
struct Outputs {
  Tensor hidden, head;
};

// What a model takes, per token where that is said. A parameter of which a token reads a part (the
// experts that it is sent to) counts whole in `parameters` and with that part in
// `active_parameters`.
struct Cost {
  int64_t parameters = 0, active_parameters = 0;
  // Of forward and backward, per token: 6 for each active parameter that takes part in a product (a
  // table that is only looked up does not), plus causal attention, half the keys on average.
  double training_flops = 0;
};

class Model {
 public:
  virtual ~Model() = default;

  // The residual stream [T, D] fp32 that the layers read: the embeddings of the ids. What is no
  // text enters here, as rows in the places of some tokens.
  virtual Tensor embed(Tape& tape, const Inputs& inputs) const = 0;
  // Everything from that stream on; embed() was recorded before.
  virtual Outputs forward(Tape& tape, const Inputs& inputs, Tensor x) const = 0;
  Outputs forward(Tape& tape, const Inputs& inputs) const;
  // config.json as Hugging Face transformers reads it, all defaults written out.
  virtual nlohmann::json config() const = 0;

  virtual int64_t vocab_size() const = 0;
  virtual int64_t hidden_size() const = 0;
  virtual int64_t num_hidden_layers() const = 0;
  virtual int64_t max_position_embeddings() const = 0;
  // Multiply-adds of attention per token and visible key, over all layers: sum of H (head_dim +
  // value_dim). A window is not taken off.
  virtual int64_t attention_width() const = 0;
  // The attentions whose scores can be clipped, all of them or none.
  virtual std::vector<ScoredHeads> scored_heads() const { return {}; }

  // In recording order; stacks are one parameter. Recorded once, allocates no tensor memory.
  const std::vector<tape::ParameterSpec>& parameters() const { return recorded().parameters; }
  // The same as files have them: every stack taken apart.
  const std::vector<tape::ParameterSpec>& tensors() const { return recorded().tensors; }
  Cost cost(int64_t sequence_length) const;
  int64_t num_parameters() const { return cost(1).parameters; }

 private:
  struct Recorded {
    std::vector<tape::ParameterSpec> parameters, tensors;
    std::vector<bool> multiplies;  // by parameter: not a table that is only looked up
  };
  const Recorded& recorded() const;
  mutable std::once_flag once_;
  mutable Recorded recorded_;
};

// Reads a [model] table or a config.json. `strict`: an unknown key is an error; otherwise only one
// that may change what is computed (model/config_keys.h). `where` names the source in messages
// ("recipe.toml: [model]", "DIR/config.json").
Result<std::unique_ptr<Model>> make_model(const nlohmann::json& config, std::string where,
                                          bool strict);
const std::vector<std::string>& model_types();

// Cosines and sines for rope(): [positions, 2 half], angle(p, i) = p * inverse_frequency[i].
std::vector<float> rotary_table(int64_t positions, const std::vector<double>& inverse_frequencies);
std::vector<double> inverse_frequencies(double theta, int64_t rotary_dim);

}  // namespace naite::model
