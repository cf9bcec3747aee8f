// SPDX-License-Identifier: Apache-2.0
#pragma once
// The face of infer/: tokens out of a model, one sequence with a key/value cache. Decoding gives
// the bits that the uncached forward pass over the same tokens gives (docs/NUMERICS.md,
// "Attention").
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/batch.h"
#include "model/model.h"
#include "tape/tape.h"

namespace naite::infer {

struct SamplingOptions {
  int64_t max_tokens = 64;
  double temperature = 0.8;  // 0: always the most likely token
  double top_p = 1.0;        // sample from the smallest set of tokens with this probability
  uint64_t seed = 0;
  std::vector<int32_t> stop_tokens;
};

// The next token for a row of logits; an error if one of them is no number. A pure function of
// (logits, options, position).
Result<int32_t> sample(std::span<const float> logits, const SamplingOptions& options,
                       int64_t position);

class Generator {
 public:
  // Sequences hold at most `capacity` tokens. The parameters must outlive the generator. It reads
  // the prepared copies that are there, whoever trains them, and adds those that are missing.
  Generator(const model::Model& model, tape::Parameters& parameters, int64_t capacity);

  int64_t capacity() const { return capacity_; }
  // Forgets the sequence.
  void reset() { length_ = 0; }
  // Appends tokens (at least one, at most up to the capacity) and returns the logits after the
  // last.
  Result<std::span<const float>> append(std::span<const int32_t> tokens);

  // Continues a prompt; `emit` gets every new token and says whether to go on. A stop token ends
  // the sequence and is not emitted. Returns the number of tokens emitted. An error: an id of the
  // prompt is none of the model's, or the logits are no numbers.
  Result<int64_t> generate(std::span<const int32_t> prompt, const SamplingOptions& options,
                           const std::function<bool(int32_t)>& emit);
  int64_t bytes() const;  // that it has allocated, the cache included

 private:
  // One tape over `tokens` tokens; with logits only when it decodes.
  struct Part {
    Part(const model::Model& model, tape::Parameters& parameters, int64_t tokens,
         int64_t cache_rows, int64_t positions, bool with_logits, tape::States* states);
    tape::Tape tape;
    model::Inputs inputs;
    tape::Tensor logits;
    Batch batch;
    std::unique_ptr<tape::Program> program;
  };
  Status run(Part& part, std::span<const int32_t> tokens);

  const int64_t capacity_;
  int64_t length_ = 0;
  tape::States states_;
  Part prefill_, decode_;
  Status prepared_;  // the parameters' copies; run() fails where they could not be made
  std::vector<float> logits_;
};

}  // namespace naite::infer
