// SPDX-License-Identifier: Apache-2.0
#pragma once
// The loss of every token of rows that are given: what validation, evaluation and rewards stand on.
// A forward tape over the parameters of whoever has them, and nothing else: no gradients, no
// optimizer. Bits are those of the losses in training.
#include <span>
#include <vector>

#include "base/batch.h"
#include "model/model.h"
#include "tape/tape.h"

namespace naite::infer {

class Scorer {
 public:
  // Scores `tokens` tokens at a time, at positions below `positions`. The parameters must outlive
  // the scorer; prepared copies that are there are read, those that are missing are added.
  Scorer(const model::Model& model, tape::Parameters& parameters, int64_t tokens,
         int64_t positions);

  int64_t tokens() const { return static_cast<int64_t>(losses_.size()); }
  // A batch to fill: all padding.
  Batch batch() const;
  // -ln of the probability of every token's target, +0 where there is none. Valid until the next
  // call.
  Result<std::span<const float>> score(const Batch& batch);
  int64_t bytes() const { return program_.bytes(); }

 private:
  tape::Tape tape_;
  tape::Tensor loss_;
  tape::Program program_;
  std::vector<float> losses_;
  Status prepared_;  // the parameters' copies; score() fails where they could not be made
};

}  // namespace naite::infer
