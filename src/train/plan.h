// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a stage of a run takes, before anything of its size is allocated: everything that a run
// builds is built on a backend that only counts.
#include "train/engine.h"

namespace naite::train {

struct MemoryPlan : Memory {
  int64_t checkpoint = 0;  // the snapshot that is written in the background
  int64_t samples = 0;     // the generator with its cache, while samples are made
  int64_t averaging = 0;   // sums on the host, at averaging steps
  // Samples are made and checkpoints averaged one after the other.
  int64_t total() const;
};

// An error if the kernels do not compute in the recipe's arithmetic.
Result<MemoryPlan> plan_memory(const model::Model& model, const kernels::Kernels& kernels,
                               const Recipe& recipe, const EngineOptions& options);

}  // namespace naite::train
