// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a stage trains for: the leaves and the loss that it adds to a model's tape, and what it
// makes of a step's rows. The recipe's `objective` selects one of the table in objective.cc:
//   pretrain   the next token: the mean of the cross entropies of all targets of the step, each
//              counted with its weight
#include <memory>
#include <string>
#include <vector>

#include "base/batch.h"
#include "model/model.h"

namespace naite::train {

class Objective {
 public:
  virtual ~Objective() = default;

  // Records the loss of every token of a micro-batch, [T, 1], and the leaves that it reads beside
  // the model's.
  virtual tape::Tensor loss(tape::Tape& tape, const model::Outputs& outputs) const = 0;
  // Adds to a micro-batch's batch the columns of those leaves that no loader fills.
  virtual void declare(Batch& batch) const = 0;
  // A step's loss is the sum of sum() over its micro-batches, divided by `total`, the sum of
  // weight() over them; fill() writes the declared columns when the total is known. In double,
  // ascending.
  virtual double weight(const Batch& batch) const = 0;
  virtual void fill(Batch& batch, double total) const = 0;
  virtual double sum(const Batch& batch, std::span<const float> losses) const = 0;
};

const std::vector<std::string>& objective_names();
// One of those names.
const Objective& objective_of(const std::string& name);

}  // namespace naite::train
