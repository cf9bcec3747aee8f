// SPDX-License-Identifier: Apache-2.0
#pragma once
// The optimizer of a run: the update that each parameter receives, by its role, and what is kept
// between updates.
//   adamw   every parameter by AdamW: moments "m" and "v"
//   muon    matrices by Muon: momentum "m" alone; embedding, head and vectors by AdamW
// Updates read whole parameters and gradients, so ranks and threads do not enter.
#include <span>
#include <vector>

#include "formats/checkpoint.h"
#include "tape/tape.h"
#include "train/recipe.h"

namespace naite::train {

class Optimizer {
 public:
  // `kernels` and `parameters` must outlive the optimizer.
  // `moments`, if there are any, are those of an optimizer of the same name over the same
  // parameters, from release().
  Optimizer(const Recipe& recipe, kernels::Kernels& kernels, tape::Parameters& parameters,
            std::vector<tape::Block> moments = {});
  std::vector<tape::Block> release();  // nothing else may be asked for afterwards

  // The run's update number `step` (from 0).
  Status update(int64_t step, float gradient_scale, const tape::Block& gradient);

  // QK-clip (Kimi Team, "Kimi K2", 2025, with the split that keeps a shared key from vanishing):
  // shrinks the rows of queries and keys where the largest score of an attention, `peaks` as
  // watched, is beyond the recipe's.
  Status clip(const model::ScoredHeads& heads, std::span<const float> peaks);

  bool trains(int parameter) const { return trained_[parameter]; }

  // What is kept between updates: its names and members alone, for parameters `specs`.
  static void shapes(const OptimizerOptions& options, const std::vector<tape::ParameterSpec>& specs,
                     formats::TrainingState& state);
  // Copied to the host, and back.
  Status save(formats::TrainingState& state) const;
  Status load(const formats::TrainingState& state);

  // That is allocated: what is kept, and working memory.
  int64_t bytes() const { return m_.slab.bytes() + v_.slab.bytes() + workspace_.bytes(); }
  // Numbers that save() copies.
  int64_t num_values() const { return m_.num_values(parameters_) + v_.num_values(parameters_); }
  // Floating-point operations of the products in one update: Muon's; AdamW has none.
  static double flops(const OptimizerOptions& options,
                      const std::vector<tape::ParameterSpec>& specs);

 private:
  Status scale_head(const std::string& weight, int64_t head, int64_t head_dim, double factor);

  // One number for every element of some of the parameters.
  struct Group {
    Group(std::string name, std::vector<int> members, kernels::Kernels& kernels,
          const std::vector<tape::ParameterSpec>& specs, std::vector<tape::Block>& moments);
    kernels::View view(int parameter) const;  // the parameter must be a member
    int64_t num_values(const tape::Parameters& parameters) const;

    std::string name;
    std::vector<int> members;  // parameters, ascending
    tape::SlabLayout layout;
    tape::Block slab;
  };

  const Recipe recipe_;
  kernels::Kernels& kernels_;
  tape::Parameters& parameters_;
  std::vector<bool> trained_;  // by parameter: what the recipe does not train stays as it is
  Group m_, v_;
  tape::Block workspace_;
};

}  // namespace naite::train
