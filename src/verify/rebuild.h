// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the directory of a stored state must hold, made again with the code that stored it
// (train/content.h) from the log and from what the log answers for: recipe, tokenizer, manifest,
// shards. Nothing in the directory is inspected for being harmless: it is equal, or it is named.
// Verification, following and co-signing all go through here.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "record/history.h"
#include "record/run_directory.h"
#include "record/stored_checkpoint.h"
#include "train/content.h"

namespace naite::verify {

// A state's directory, but for the values of its tensors.
struct ExpectedState {
  const record::StoredState* state = nullptr;
  const record::StoredState* parent = nullptr;  // the checkpoint before it
  record::Commitment claims;                    // in force when it was stored
  formats::CheckpointLayout layout;

  // By path, every other file than those of tensors, whose SHA-256 are given.
  std::map<std::string, std::string> texts(
      const std::map<std::string, std::string>& tensor_files) const;
  // The digest that the log has, of these texts and those files.
  std::string manifest(const std::map<std::string, std::string>& tensor_files) const;
};

// A state that was stored under one program or name and entered under the next is both programs';
// so there may be a few, the likeliest first. Never empty.
using ExpectedStates = std::vector<ExpectedState>;

// `claimed` is what the directory's record.json says. Of it counts only what the log leaves open:
// whether there is a bill of materials, which older states do not have, and where older logs go on
// from.
Result<ExpectedStates> expected_states(const record::RunHistory& history,
                                       const record::StoredState& state,
                                       const train::StateSetting& setting,
                                       const formats::Record& claimed);
using Expect = std::function<Result<ExpectedStates>(const formats::Record& claimed)>;

// That the directory has these files and folders, no other, and byte for byte so. The first
// difference is named.
Status check_state_files(record::StoredCheckpoint& stored, const ExpectedStates& expected);
// model.sig: by the key of the log, over the files that the log has, in the one spelling; none in a
// run without keys.
Status check_model_signature(const std::filesystem::path& directory,
                             const record::RunHistory& history, const record::StoredState& state);

// Whether the state of another run that this one goes on from is the one that it begins with, which
// the check of its first state then shows; else its origin is declared and nothing more. What was
// grown has no tensor of its parent.
bool goes_on_from_known_state(const record::Commitment& claims);

// The stage whose last steps led to the state; for the first state of a run, the one it begins.
const train::Recipe& stage_that_stored(const train::Curriculum& curriculum,
                                       const record::RunHistory& history,
                                       const record::StoredState& state);

// The same for whoever has a run's log and small files, and no verification under way.
class RunContents {
 public:
  // Reads recipe, manifest and tokenizer, which the log answers for.
  static Result<RunContents> open(const record::RunHistory& history,
                                  const record::RunDirectory& run);
  Result<ExpectedStates> expected(const record::RunHistory& history,
                                  const record::StoredState& state, const formats::Record& claimed);

 private:
  explicit RunContents(record::RunDirectory run) : run_(std::move(run)) {}
  Status enter(const train::Recipe& stage);

  record::RunDirectory run_;
  train::Curriculum curriculum_;
  data::Manifest manifest_;
  std::optional<data::Tokenizer> tokenizer_;
  int stage_ = 0;  // whose model and loader these are
  std::unique_ptr<model::Model> model_;
  std::optional<data::Loader> loader_;
};

// Before somebody puts their name to it: that a checkpoint is, file by file, what the log of the
// run that it lies in makes of it.
Status check_logged_checkpoint(const std::filesystem::path& directory, ThreadPool& pool);

}  // namespace naite::verify
