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
#include "formats/record.h"
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
  Cursor cursor;
};

struct CheckpointContent {
  const TrainingState* state = nullptr;
  nlohmann::json config;  // config.json without the dtype
  StoredType dtype = StoredType::kF32;
  nlohmann::json generation_config;
  std::string model_card;
  Record record;  // metrics and provenance; digests and file hashes are added
  std::filesystem::path tokenizer_directory;
  // Called when all files are written, before the directory gets its name: may add more.
  std::function<Status(const std::filesystem::path& directory, const Record& record)> finish;
};

// Returns the record as it was written, digests and files included.
Result<Record> write_checkpoint(const std::filesystem::path& directory,
                                const CheckpointContent& content);

// These believe the files: whoever reads goes by record/stored_checkpoint.h, which checks them.
// `state.specs` and the moments' names must be filled in and match; values are filled in here.
Status read_tensors(const std::filesystem::path& directory, TrainingState& state);
Status read_masters(const std::filesystem::path& directory,
                    const std::vector<tape::ParameterSpec>& specs, std::vector<float>& masters);
Result<Cursor> read_cursor(const std::filesystem::path& directory);

// Writes record.json: `record` with the SHA-256 of every file that the directory holds.
Status write_record(const std::filesystem::path& directory, Record& record);

struct CheckpointDigests {
  // SHA-256 over a line for each of the model's tensors, ascending by name: name, type, shape and
  // the SHA-256 of its bytes.
  std::string weights;
  std::string state;  // over the lines of weights and optimizer, and the cursor as canonical JSON
};
// Every byte is hashed once, tensors side by side. Weights: of any Hugging Face directory.
Result<std::string> weights_digest(const std::filesystem::path& directory, ThreadPool& pool);
Result<CheckpointDigests> directory_digests(const std::filesystem::path& directory,
                                            ThreadPool& pool);
// What a checkpoint of this state would have, with the model's tensors in `dtype`.
Result<CheckpointDigests> state_digests(const TrainingState& state, StoredType dtype,
                                        ThreadPool& pool);
// That the directory's configs and tokenizer are those that write_checkpoint() makes of `content`.
Status check_model_files(const std::filesystem::path& directory, const CheckpointContent& content);

}  // namespace naite::formats
