// SPDX-License-Identifier: Apache-2.0
#pragma once
// One training step: the gradient of a batch by replaying the tape over its micro-batches, its
// norm, and the update. Order of every sum (docs/NUMERICS.md, "A step"): contiguous micro-batches
// chain within a gradient group, groups join by a binary tree, so any number of ranks that divides
// the groups gives the same bits.
#include <memory>
#include <vector>

#include "data/loader.h"
#include "formats/checkpoint.h"
#include "infer/scorer.h"
#include "model/model.h"
#include "tape/tape.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/recipe.h"
#include "train/validation.h"

namespace naite::train {

struct EngineOptions {
  int virtual_ranks = 1;  // compute as so many ranks would; divides the gradient groups
  bool recompute = false;
};

// Bytes, part by part.
struct Memory {
  int64_t parameters = 0;  // fp32 masters and prepared copies
  int64_t gradients = 0;   // the slabs of the gradient tree
  int64_t optimizer = 0;
  int64_t activations = 0;  // training arena, workspace and inputs
  int64_t validation = 0;   // the same for the scorer
  int64_t batches = 0;      // the step's rows on the host
  int64_t backend = 0;      // thread buffers
};

// A step's rows, micro-batch by micro-batch. The loader's rows and the columns of the objective
// follow when they are filled; a machine of several fills only its own.
std::vector<Batch> make_batches(const Recipe& recipe);
// The rows of the run's step `step`, which belongs to the recipe's stage.
void fill_batches(const Recipe& recipe, const data::Loader& loader, int64_t step,
                  std::span<Batch> batches);

// One line for the user if these kernels compute in another arithmetic than the recipe's.
Status computed_by(const kernels::Kernels& kernels, const Recipe& recipe);

struct StepResult {
  double loss = 0;       // mean over the tokens that have a target, natural logarithm
  double grad_norm = 0;  // before clipping
  int64_t num_targets = 0;
  Digest batch{};  // what the step read: digest_of() its batches
};

// A model's tape over one micro-batch with the objective's loss.
struct TrainingTape {
  TrainingTape(const model::Model& model, const kernels::Kernels& kernels, const Recipe& recipe,
               const Objective& objective);
  tape::Tape tape;
  tape::Tensor loss;
};

// What a step reports, in fp32, on the device until the step is done: its sum of squares, what the
// tape watches, and the loss of every token; behind them, for the device alone, the squares of
// every parameter.
struct ReportLayout {
  ReportLayout(const tape::Program& program, const Recipe& recipe);
  const int64_t watched = 1;
  const int64_t losses;   // where they begin
  const int64_t squares;  // where what is downloaded ends
  const int64_t size;
};

// What training changes, on the device: the engine of one stage gives it on to that of the next.
struct DeviceState {
  tape::Block masters;
  std::vector<tape::Block> moments;
};

class Engine {
 public:
  // The kernels compute in the recipe's arithmetic: whoever builds an engine asks computed_by().
  // `state`: of an engine over the same parameters; empty: all zero until initialise() or load().
  Engine(const model::Model& model, kernels::Kernels& kernels, const Recipe& recipe,
         EngineOptions options, DeviceState state = {});
  DeviceState release();  // nothing else may be asked for afterwards

  Status initialise(uint64_t seed, ThreadPool& pool);

  // Gradient of the run's step `step`, which belongs to the recipe's stage, and its norm; nothing
  // is changed yet. What it says comes to the host at the end, in one download.
  Result<StepResult> gradient(const data::Loader& loader, int64_t step);
  // The run's update number `step` (from 0) with the gradient that was just computed.
  Status update(int64_t step, double grad_norm);

  using Validation = train::Validation;
  Result<Validation> validate(const data::Loader& loader, int source) {
    return train::validate(scorer_, loader, source, recipe_.train.validation_tokens);
  }

  // Fills in what `state` holds, but no values: nothing is downloaded.
  void shapes(formats::TrainingState& state) const;
  // Copies parameters and moments to the host and back. The cursor is the caller's.
  Status save(formats::TrainingState& state) const;
  Status load(const formats::TrainingState& state);

  tape::Parameters& parameters() { return parameters_; }
  // That is allocated now; the whole of it is from construction on.
  Memory memory() const;
  // Of the values that save() copies.
  int64_t state_bytes() const { return 4 * (num_values_ + optimizer_.num_values()); }

 private:
  using Slab = tape::Block;
  double fill(const data::Loader& loader, int64_t step);
  Slab take_slab();
  Result<Slab> sum_groups(int64_t first, int64_t count);
  Result<Slab> sum_ranks();
  Status join(const Slab& left, Slab right);
  Status run_micro_batch(int64_t index, const Slab& slab, bool accumulate);
  Status sum_squares(const Slab& slab);
  kernels::View reported(int64_t at, const kernels::View& like) const;

  kernels::Kernels& kernels_;
  const Recipe recipe_;
  const EngineOptions options_;
  const Objective& objective_;
  TrainingTape tape_;
  tape::Parameters parameters_;
  tape::Program train_;
  infer::Scorer scorer_;
  std::vector<Slab> free_slabs_;
  Slab gradient_;
  Optimizer optimizer_;
  const std::vector<model::ScoredHeads> scored_heads_;  // that are clipped
  std::vector<Batch> batches_;
  const ReportLayout report_layout_;
  tape::Block report_;  // on the device
  std::vector<float> downloaded_;
  int64_t num_values_ = 0;  // of all parameters
  bool rehearses_ = true;   // walks the gradient tree for its slabs alone
};

}  // namespace naite::train
