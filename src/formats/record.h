// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a checkpoint directory says of itself, as structs: state/cursor.json, record.json, and in it
// (and in a run's branch.json) where a run comes from that did not begin at random. Reading is
// strict: a wrong type, a number out of range or a key that is not ours is one line.
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/base.h"

namespace naite::formats {

// Where training stands: what the next step depends on beside parameters and moments.
struct Cursor {
  int64_t step = 0, tokens = 0;  // done
  int64_t seed = 0;
  std::string arithmetic, recipe_digest;

  nlohmann::json to_json() const;
  static Result<Cursor> parse(const nlohmann::json& value, const std::string& where);
  bool operator==(const Cursor&) const = default;
};

// The state or the model that a run goes on from, or that an import took over.
struct Branch {
  std::string from;                         // its public name
  std::optional<int64_t> step;              // an import has none
  std::string state_digest, recipe_digest;  // the latter empty: of no recipe
  // The rest of that state's cursor, if everything in it was taken over: state_digest then follows
  // from the first state of the run that goes on from it.
  struct Whole {
    int64_t tokens = 0, seed = 0;
    std::string arithmetic;
  };
  std::optional<Whole> whole;
  std::string weights_digest;  // of a model that was grown or imported; else empty
  bool grown = false;
  nlohmann::json origin = {};  // what an earlier import wrote of that model, as it stands

  std::optional<Cursor> cursor() const;  // of that state, if it is `whole`
  nlohmann::json to_json() const;
  static Result<Branch> parse(const nlohmann::json& value, const std::string& where);
};

// Held-out text of one source: natural logarithm per token, and bits per byte of the raw text.
struct Measured {
  double loss = 0, bits_per_byte = 0;
  bool operator==(const Measured&) const = default;
};
using Validation = std::map<std::string, Measured>;  // by source
nlohmann::json to_json(const Validation& validation);
// What to_json() wrote under `key`; null or nothing: none.
std::optional<Validation> validation_at(Table& table, std::string_view key);

// What a stage has read of one source so far.
struct SourceRead {
  std::string name, license, origin;
  int64_t stage_tokens = 0;
  double stage_epochs = 0;
};

// record.json. An imported model's has only `origin`, `weights_digest` and `files`.
struct Record {
  std::optional<Cursor> cursor;
  int64_t stage = 0, total_steps = 0, planned_tokens = 0;
  std::string name, precision;
  std::optional<double> loss;            // of the last step; none after step 0
  std::optional<Validation> validation;  // measured there; of a checkpoint alone
  std::optional<Branch> branch;
  std::vector<SourceRead> data;
  std::optional<Branch> origin;              // what an import took over
  std::string weights_digest, state_digest;  // formats/checkpoint.h
  std::map<std::string, std::string> files;  // below the directory: SHA-256

  nlohmann::json to_json() const;
  // A file out of the directory is refused.
  static Result<Record> parse(const nlohmann::json& value, const std::string& where);
  static Result<Record> read(const std::filesystem::path& directory);  // DIRECTORY/record.json
};

}  // namespace naite::formats
