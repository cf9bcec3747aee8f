// SPDX-License-Identifier: Apache-2.0
#pragma once
// The optimizer of a run: the update that each parameter receives, by its role, and what is kept
// between updates.
//   adamw   every parameter by AdamW: moments "m" and "v"
//   muon    matrices by Muon: momentum "m" alone; embedding, head and vectors by AdamW
// Updates read whole parameters and gradients, so ranks and threads do not enter.
#include <vector>

#include "formats/checkpoint.h"
#include "tape/tape.h"
#include "train/recipe.h"

namespace naite::train {

class Optimizer {
 public:
  // `kernels` and `parameters` must outlive the optimizer.
  Optimizer(const OptimizerOptions& options, kernels::Kernels& kernels,
            tape::Parameters& parameters);

  // Update number `step` (from 0). The rate of embedding, head and vectors is `other_rate`.
  void update(int64_t step, double rate, double other_rate, float gradient_scale,
              const tape::Block& gradient);

  // Copies what is kept between updates to the host and back.
  void save(formats::TrainingState& state) const;
  void load(const formats::TrainingState& state);

  // What is kept, and working memory.
  struct Bytes {
    int64_t state = 0, workspace = 0;
    int64_t total() const { return state + workspace; }
  };
  static Bytes bytes(const OptimizerOptions& options, const kernels::Kernels& kernels,
                     const std::vector<tape::ParameterSpec>& specs);

 private:
  // One number for every element of some of the parameters.
  struct Group {
    Group(std::string name, std::vector<int> members, kernels::Kernels& kernels,
          const std::vector<tape::ParameterSpec>& specs);
    kernels::View view(int parameter) const;  // the parameter must be a member

    std::string name;
    std::vector<int> members;  // parameters, ascending
    tape::SlabLayout layout;
    tape::Block slab;
  };

  const OptimizerOptions options_;
  kernels::Kernels& kernels_;
  tape::Parameters& parameters_;
  Group m_, v_;
  tape::Block workspace_;
};

}  // namespace naite::train
