// SPDX-License-Identifier: Apache-2.0
#pragma once
// What follows from a recipe, its data and a step alone: whoever trains writes it, whoever verifies
// makes it again and compares.
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "data/manifest.h"
#include "data/tokenizer.h"
#include "formats/checkpoint.h"
#include "record/history.h"
#include "record/run_directory.h"
#include "train/engine.h"
#include "train/recipe.h"

namespace naite::train {

// The commitment but for what the log itself adds (origin, keys, nonce, time). `branch` is null or
// branch.json's value. Reads data/manifest.json of the run for its digest.
Result<record::Commitment> commitment_of(const Curriculum& curriculum,
                                         const data::Manifest& manifest,
                                         const nlohmann::json& branch,
                                         const std::filesystem::path& run_directory);

// state/cursor.json after `step` steps.
nlohmann::json cursor_of(const Curriculum& curriculum, int64_t step);

// A checkpoint's directory but for the state, the record and the model card.
formats::CheckpointContent content_of(const Recipe& recipe, const model::Model& model,
                                      const data::Tokenizer& tokenizer,
                                      const std::filesystem::path& run_directory);

// Checkpoint averaging (AveragingOptions): whether the parameters after `step` are a mean, and
// their replacement in `state` by it. Reads the checkpoints of the averaging steps before.
bool is_averaged(const Recipe& recipe, int64_t step);
Status average_checkpoints(const Recipe& recipe, int64_t step, const record::RunDirectory& run,
                           formats::TrainingState& state);

// What the log keeps of a step.
record::StepDigest digest_of(const StepResult& result);

// SHA-256 of each parameter's fp32 values.
Result<std::map<std::string, std::string>> tensor_digests(Engine& engine,
                                                          kernels::Kernels& kernels);

}  // namespace naite::train
