// SPDX-License-Identifier: Apache-2.0
#pragma once
// The training itself, whoever runs it: entering a stage, initial weights, a step, averaging, what
// is measured and stored. Training (train/trainer.cc) and auditing (verify/replays.cc) run this
// very code, so what is verified is what trained. When, and what is kept of it, is theirs.
//
//   a stage changes   the engine of the next one is built around the parameters and moments where
//                     they lie on the device
//   a step            gradient, then whoever runs it accepts it or ends the run, then the update
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "record/history.h"
#include "record/run_directory.h"
#include "record/stored_checkpoint.h"
#include "train/engine.h"

namespace naite::train {

// What the ledger keeps of a step.
record::StepDigest digest_of(const StepResult& result);

class Stepper {
 public:
  // All of it outlives the stepper. `vocab_size` is the tokenizer's; earlier checkpoints of the run
  // that an average needs are read through `states`.
  Stepper(const Curriculum& curriculum, const record::RunDirectory& run, int64_t vocab_size,
          record::StoredStates& states, kernels::Kernels& kernels, ThreadPool& pool,
          EngineOptions options = {});

  // The model of a stage and the order of its data; nothing if they are there.
  Status open(const Recipe& stage);
  // The engine too. An error if the kernels compute in another arithmetic, or if the stage before
  // left tensors of other names or shapes.
  Status enter(const Recipe& stage);

  const Recipe& stage() const { return *stage_; }
  const model::Model& model() const { return *model_; }
  const data::Loader& loader() const { return *loader_; }
  tape::Parameters& parameters() { return engine_->parameters(); }
  int64_t step() const { return step_; }  // steps done

  // The first stage from random weights, which the seed gives, and moments of zero.
  Status begin();
  // The same from given weights, one parameter after another; `host` is working memory.
  Status begin(const std::vector<float>& masters, formats::TrainingState& host);
  // Goes on in `stage` from a stored state after `step` steps, through `host`.
  Status load(const Recipe& stage, int64_t step, record::StoredCheckpoint& stored,
              formats::TrainingState& host);

  // One step. `accept` sees it before anything is changed; its error is passed on. A stop throws
  // Interrupted out of the gradient, and nothing is changed; the engine cannot go on then.
  using Accept = std::function<Status(const StepResult& result)>;
  Result<StepResult> advance(const Accept& accept, const std::atomic<bool>* stop = nullptr);
  // The steps of the earlier checkpoints that average() reads now, oldest first.
  std::vector<int64_t> averaged() const;
  // After an averaging step the mean of checkpoints goes on as the parameters (AveragingOptions).
  Status average(formats::TrainingState& host);

  // Everything that is stored, cursor included.
  Status save(formats::TrainingState& host) const;
  // SHA-256 of each parameter's fp32 values.
  Result<std::map<std::string, std::string>> tensor_digests();
  // Mean losses of the held-out text, for every source that has some, in the loader's order.
  Result<std::vector<std::pair<std::string, formats::Measured>>> validate();

 private:
  Status add_checkpoint(int64_t step, const std::vector<tape::ParameterSpec>& specs,
                        std::vector<float>& sum);

  const Curriculum& curriculum_;
  const record::RunDirectory& run_;
  const int64_t vocab_size_;
  record::StoredStates& states_;
  kernels::Kernels& kernels_;
  ThreadPool& pool_;
  const EngineOptions options_;

  const Recipe* stage_ = nullptr;
  std::unique_ptr<model::Model> model_;
  std::optional<data::Loader> loader_;
  std::unique_ptr<Engine> engine_;
  // Between the engines of two stages.
  std::vector<tape::ParameterSpec> carried_specs_;
  DeviceState carried_;
  int64_t step_ = 0;
};

}  // namespace naite::train
