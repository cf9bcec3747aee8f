// SPDX-License-Identifier: Apache-2.0
#pragma once
// What stands in a stored state's directory beside the values of its tensors, as a function of the
// recipe, the packed text and the log. Whoever trains writes what this gives; whoever publishes,
// follows, verifies or co-signs makes it again (verify/rebuild.h) and accepts nothing else.
#include <filesystem>
#include <optional>
#include <string>

#include "data/loader.h"
#include "data/manifest.h"
#include "data/tokenizer.h"
#include "formats/checkpoint.h"
#include "train/recipe.h"

namespace naite::train {

// What all states of a stage have in common. All of it outlives this.
struct StateSetting {
  const Curriculum& curriculum;
  const Recipe& stage;  // whose steps led to the state
  const model::Model& model;
  const data::Loader& loader;
  const data::Manifest& manifest;
  const data::Tokenizer& tokenizer;
  std::filesystem::path run_directory;  // of the tokenizer's files
};

// What the log says of a state.
struct StateFacts {
  int64_t step = 0;
  std::string name;                               // of the run, at that time
  std::optional<double> loss;                     // of the last step; none before the first
  std::optional<formats::Validation> validation;  // measured there; of a checkpoint alone
  std::optional<formats::Branch> branch;          // where the run comes from, if not from a seed
};

// The content but for the state and the bill of materials. An error if the manifest has other
// sources than the recipe.
Result<formats::CheckpointContent> content_of(const StateSetting& setting, const StateFacts& facts);

// The state's cursor, and the names and shapes of what it holds, without a value.
formats::TrainingState shape_of(const StateSetting& setting, int64_t step);

// Whether a run that goes on from this state of another one takes over every tensor of it, in
// whatever precision: a digest of that state can then be made from what the run begins with.
Result<bool> takes_all_of(const std::filesystem::path& state, const Recipe& stage,
                          int64_t vocab_size);

}  // namespace naite::train
