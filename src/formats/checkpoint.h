// SPDX-License-Identifier: Apache-2.0
#pragma once
// Checkpoint directories: a Hugging Face model directory plus what training needs to go on.
//
//   config.json generation_config.json model.safetensors   the model, in the run's precision
//   tokenizer.json tokenizer_config.json                    copied from the run
//   README.md                                               the model card
//   bom.cdx.json                                            what it is made of, for programs
//   state/optimizer.safetensors   fp32: "master.NAME" (absent when model.safetensors is fp32, which
//                                 then is the master), and one group per optimizer state, "m.NAME"
//                                 ...
//   state/cursor.json             step, tokens and whatever else the next step depends on
//   record.json                   digests, metrics, and the SHA-256 of every file above
//
// A directory with its final name is complete: it is filled under a temporary name, fsynced,
// renamed. What lies in it follows from what it is made of (layout_of()): whoever verifies makes
// all of it again, and whatever is different, more or less is no checkpoint of that run.
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/base.h"
#include "formats/record.h"
#include "formats/safetensors.h"
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

struct CheckpointDigests {
  // SHA-256 over a line for each of the model's tensors, ascending by name: name, type, shape and
  // the SHA-256 of its bytes.
  std::string weights;
  std::string state;  // over the lines of weights and optimizer, and the cursor as canonical JSON
};

struct CheckpointContent {
  const TrainingState* state = nullptr;
  nlohmann::json config;  // config.json without the dtype
  StoredType dtype = StoredType::kF32;
  nlohmann::json generation_config;
  std::string model_card;
  std::string bill_of_materials;  // empty: none
  Record record;                  // metrics and provenance; digests and file hashes are added
  std::filesystem::path tokenizer_directory;
  // Called when all files are written, before the directory gets its name: may add more.
  std::function<Status(const std::filesystem::path& directory, const Record& record)> finish;
};

// A checkpoint's files, as a function of its content but for the values of tensors: `content.state`
// needs its specs, the names and members of its moments, and its cursor.
struct CheckpointLayout {
  std::map<std::string, std::string> texts;          // by path: the whole file; not record.json
  std::map<std::string, SafetensorsLayout> tensors;  // by path
  Record record;                                     // but for digests and the SHA-256 of the files

  // The record, once the SHA-256 of the files of tensors are known.
  Record record_of(const CheckpointDigests& digests,
                   const std::map<std::string, std::string>& tensor_files) const;
};
Result<CheckpointLayout> layout_of(const CheckpointContent& content);
std::string record_text(const Record& record);  // record.json

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

// Every byte is hashed once, tensors side by side. Weights: of any Hugging Face directory.
Result<std::string> weights_digest(const std::filesystem::path& directory, ThreadPool& pool);
Result<CheckpointDigests> directory_digests(const std::filesystem::path& directory,
                                            ThreadPool& pool);

// The lines that digests are over, of a directory: its tensors are hashed, its cursor is not read.
struct TensorLines {
  std::map<std::string, std::string> weights, optimizer;  // by tensor
  CheckpointDigests digests(const Cursor& cursor) const;
};
Result<TensorLines> directory_lines(const std::filesystem::path& directory, ThreadPool& pool);
// What a checkpoint of this state would have, with the model's tensors in `dtype`.
Result<CheckpointDigests> state_digests(const TrainingState& state, StoredType dtype,
                                        ThreadPool& pool);

}  // namespace naite::formats
