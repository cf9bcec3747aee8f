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
#include "model/model.h"
#include "tape/tape.h"
#include "train/optimizer.h"
#include "train/recipe.h"

namespace naite::train {

struct EngineOptions {
  int virtual_ranks = 1;  // compute as so many ranks would; divides the gradient groups
  bool recompute = false;
};

// Exact bytes, part by part.
struct MemoryPlan {
  int64_t parameters = 0;  // fp32 masters and prepared copies
  int64_t gradients = 0;   // the slabs of the gradient tree
  int64_t optimizer = 0;
  int64_t activations = 0;  // training arena, workspace and inputs
  int64_t validation = 0;   // the same for the forward-only tape
  int64_t checkpoint = 0;   // the snapshot that is written in the background
  int64_t backend = 0;      // thread buffers
  int64_t total() const {
    return parameters + gradients + optimizer + activations + validation + checkpoint + backend;
  }
};

// The whole batch of a step on the host, micro-batch after micro-batch.
struct HostBatch {
  std::vector<int32_t> tokens, targets, positions, spans;

  explicit HostBatch(const Recipe& recipe);
  // The run's step `step`, which belongs to the recipe's stage.
  void fill(const Recipe& recipe, const data::Loader& loader, int64_t step);
  // What the step reads, in one digest: SHA-256 over tokens, targets and positions, each as
  // little-endian int32, in that order.
  Digest digest() const;
};

struct StepResult {
  double loss = 0;       // mean over the tokens that have a target, natural logarithm
  double grad_norm = 0;  // before clipping
  int64_t num_targets = 0;
  Digest batch{};  // HostBatch::digest()
};

// A model's tape over one micro-batch, with its inputs.
struct MicroBatchTape {
  MicroBatchTape(const model::Model& model, const kernels::Kernels& kernels, kernels::DType compute,
                 int64_t tokens, int64_t positions, bool gradients, bool peaks = false);
  tape::Tape tape;
  model::Inputs inputs;
  tape::Tensor targets, scale, loss;
  std::vector<model::HeadPeaks> peaks;  // kept, if asked for
};

// What a step reports, in fp32, on the device until the step is done: its sum of squares, the
// largest score of every head of every attention, and the loss of every token; behind them, for the
// device alone, the squares of every parameter.
struct ReportLayout {
  ReportLayout(const MicroBatchTape& tape, const Recipe& recipe);
  int64_t losses = 1;   // where they begin; peaks are at 1
  int64_t squares = 0;  // where what is downloaded ends
  int64_t size = 0;
};

MemoryPlan plan_memory(const model::Model& model, const kernels::Kernels& kernels,
                       const Recipe& recipe, const EngineOptions& options);

// What training changes, on the device: the engine of one stage gives it on to that of the next.
struct DeviceState {
  tape::Block masters;
  std::vector<tape::Block> moments;
};

class Engine {
 public:
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

  // Mean loss and bits per byte of one source's held-out text.
  struct Validation {
    double loss = 0, bits_per_byte = 0;
    int64_t targets = 0;
  };
  Result<Validation> validate(const data::Loader& loader, int source);

  // Fills in what `state` holds, but no values: nothing is downloaded.
  void shapes(formats::TrainingState& state) const;
  // Copies parameters and moments to the host and back. The cursor is the caller's.
  Status save(formats::TrainingState& state) const;
  Status load(const formats::TrainingState& state);

  tape::Parameters& parameters() { return parameters_; }
  int64_t bytes() const;

 private:
  using Slab = tape::Block;
  Result<double> fill_and_scale(const data::Loader& loader, int64_t step);
  Slab take_slab();
  Result<Slab> sum_groups(int64_t first, int64_t count);
  Result<Slab> sum_ranks();
  Status join(const Slab& left, Slab right);
  Status run_micro_batch(int64_t index, const Slab& slab, bool accumulate);
  Status feed(tape::Program& program, const MicroBatchTape& tape, int64_t index);
  Status sum_squares(const Slab& slab);
  kernels::View reported(int64_t at, const kernels::View& like) const;

  kernels::Kernels& kernels_;
  const Recipe recipe_;
  const EngineOptions options_;
  MicroBatchTape train_tape_, eval_tape_;
  tape::Parameters parameters_;
  tape::Program train_, eval_;
  std::vector<Slab> free_slabs_;
  Slab gradient_;
  Optimizer optimizer_;
  HostBatch batch_;
  const ReportLayout report_layout_;
  tape::Block report_;  // on the device
  std::vector<float> downloaded_;
};

}  // namespace naite::train
