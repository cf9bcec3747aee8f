// SPDX-License-Identifier: Apache-2.0
#pragma once
// Checkpoint directories: a Hugging Face model directory plus what training needs to go on.
//
//   config.json generation_config.json model.safetensors   the model, in the run's precision
//   tokenizer.json tokenizer_config.json                    copied from the run
//   README.md                                               the model card
//   state/optimizer.safetensors   fp32: "master.NAME" (absent when model.safetensors is fp32, which
//                                 then is the master), and one group per optimizer state, "m.NAME"
//                                 ...
//   state/cursor.json             step, tokens and whatever else the next step depends on
//   record.json                   digests, metrics, and the SHA-256 of every file above
//
// A directory with its final name is complete: it is filled under a temporary name, fsynced,
// renamed.
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/base.h"
#include "formats/stored.h"
#include "tape/record.h"

namespace naite::formats {

// Training state on the host. Values lie one parameter after another, in the order of `specs`.
struct TrainingState {
  std::vector<tape::ParameterSpec> specs;
  std::vector<float> masters;
  struct Moments {
    std::string name;  // "m", "v"
    std::vector<float> values;
    // The parameters that have some, as indices into `specs`, ascending; empty: all have.
    std::vector<int> members = {};
  };
  std::vector<Moments> moments;
  nlohmann::json cursor;
};

struct CheckpointContent {
  const TrainingState* state = nullptr;
  nlohmann::json config;  // config.json without the dtype
  StoredType dtype = StoredType::kF32;
  nlohmann::json generation_config;
  std::string model_card;
  nlohmann::json record;  // metrics and provenance; digests and file hashes are added
  std::filesystem::path tokenizer_directory;
  // Called when all files are written, before the directory gets its name: may add more.
  std::function<Status(const std::filesystem::path& directory)> finish;
};

Status write_checkpoint(const std::filesystem::path& directory, const CheckpointContent& content);

// Reads the state back after checking every file against record.json. The first damaged file is
// named. `state.specs` must be filled in and match; the rest is filled here.
Status read_checkpoint(const std::filesystem::path& directory, TrainingState& state);

// The masters alone, one parameter after another, after checking every file.
Status read_masters(const std::filesystem::path& directory,
                    const std::vector<tape::ParameterSpec>& specs, std::vector<float>& masters);

// The files that a record.json lists, with their SHA-256. A path out of the directory is refused.
Result<std::map<std::string, std::string>> record_files(const nlohmann::json& record,
                                                        const std::string& name);

// Writes record.json: `record` with the SHA-256 of every file that the directory holds.
Status write_record(const std::filesystem::path& directory, nlohmann::json record);

// SHA-256 over the model's tensors: name, type, shape and bytes, ascending by name. Any Hugging
// Face directory.
Result<std::string> weights_digest(const std::filesystem::path& directory);
// SHA-256 over the lines of weights and optimizer, and the cursor as canonical JSON.
Result<std::string> state_digest(const std::filesystem::path& directory);
// The digest that a checkpoint of this state would have, with the model's tensors in `dtype`.
Result<std::string> state_digest(const TrainingState& state, StoredType dtype);

// Compares every file with record.json; the first damaged one is named.
Status check_files(const std::filesystem::path& directory);
// That the directory's configs and tokenizer are those that write_checkpoint() makes of `content`.
Status check_model_files(const std::filesystem::path& directory, const CheckpointContent& content);

}  // namespace naite::formats
