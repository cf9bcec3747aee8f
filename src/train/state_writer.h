// SPDX-License-Identifier: Apache-2.0
#pragma once
// Stores states while training goes on: a snapshot on the host, written by one thread in the
// background, in step with the ledger. What happens between two states on the disk stands here and
// in Run::loop() (train/trainer.cc).
#include <functional>
#include <string>
#include <thread>

#include "train/content.h"
#include "train/ledger_keeping.h"
#include "train/stepper.h"

namespace naite::train {

// One piece of work at a time on a thread of its own.
class BackgroundWriter {
 public:
  ~BackgroundWriter() {
    if (thread_.joinable()) thread_.join();
  }
  // Waits for the work under way and returns its error.
  Status wait();
  void start(std::function<Status()> work);

 private:
  std::thread thread_;
  Status status_;
};

class StateWriter {
 public:
  enum class Kind { kAutosave, kAudit, kCheckpoint };

  // All of it outlives the writer.
  StateWriter(const Curriculum& curriculum, const record::RunDirectory& run,
              const data::Manifest& manifest, const data::Tokenizer& tokenizer,
              LedgerKeeping& ledger)
      : curriculum_(curriculum),
        run_(run),
        manifest_(manifest),
        tokenizer_(tokenizer),
        ledger_(ledger) {}

  // Working memory for states on the host, once nothing is written from it any more.
  Result<formats::TrainingState*> host();
  // Copies the state that `stepper` has and writes it in the background. What of `measured` is not
  // derived here is the caller's: loss, validation, branch.
  Status store(Kind kind, const Stepper& stepper, const formats::Record& measured);
  // Until everything is on the disk.
  Status wait() { return writer_.wait(); }

  int64_t stored_step() const { return stored_step_; }  // the last one; -1: none yet
  double stored_at() const { return stored_at_; }       // now_seconds()
  void begin(int64_t stored_step);

 private:
  StateFacts facts_of(Kind kind, const Stepper& stepper, const formats::Record& measured) const;
  std::filesystem::path path_of(Kind kind, const Stepper& stepper) const;

  const Curriculum& curriculum_;
  const record::RunDirectory& run_;
  const data::Manifest& manifest_;
  const data::Tokenizer& tokenizer_;
  LedgerKeeping& ledger_;
  formats::TrainingState host_;  // untouched while writer_ works
  BackgroundWriter writer_;
  int64_t stored_step_ = -1;
  double stored_at_ = 0;
};

}  // namespace naite::train
