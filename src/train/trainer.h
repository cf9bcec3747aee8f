// SPDX-License-Identifier: Apache-2.0
#pragma once
// A run: a directory that a recipe fills. train() starts it or takes it up where its newest
// complete state stands, whatever ended it; the bits are those of a run that was never interrupted.
#include <atomic>
#include <filesystem>
#include <string>
#include <vector>

#include "data/prepare.h"
#include "ledger/witness.h"
#include "train/engine.h"
#include "train/grow.h"
#include "train/metrics.h"
#include "train/recipe.h"

namespace naite::train {

// Where a run tells what it does; called from the training thread.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void note(const std::string& line) = 0;  // "resuming at step 120", one line
  virtual void preparing(const data::PrepareProgress& progress) = 0;
  virtual void step(const StepReport& report) = 0;
  virtual void validated(const ValidationReport& report) = 0;
};

struct TrainRequest {
  std::filesystem::path run_directory;
  std::filesystem::path from;  // a checkpoint to branch off in a new run directory; empty: none
  EngineOptions engine;
  int64_t stop_after_step = -1;  // stop cleanly after so many steps in all; -1: run to the end
  std::filesystem::path keys;    // the publisher's directory of keys; empty: none
  std::string beacon_value;      // hexadecimal; for recipes with seed = "beacon"
  std::vector<ledger::Witness> witnesses;   // cosign the log's heads; they decide no bit
  const std::atomic<bool>* stop = nullptr;  // set by a signal handler: save and return
  const StartWeights* start = nullptr;      // what a new run begins with instead of random weights
};

enum class Outcome { kFinished, kStopped };

Result<Outcome> train(const Curriculum& curriculum, const TrainRequest& request,
                      kernels::Kernels& kernels, ThreadPool& pool, Observer& observer);

}  // namespace naite::train
