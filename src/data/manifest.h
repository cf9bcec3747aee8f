// SPDX-License-Identifier: Apache-2.0
#pragma once
// data/manifest.json: what the packed text of a run is made of. It names every source file and
// every shard with its SHA-256, the license and origin of every source, and counts of documents,
// bytes and tokens for each source and split. It is written last: where it stands, the shards are
// complete.
//
// A shard is a plain array of token ids, little-endian, uint16 if the vocabulary fits, else uint32.
// Every document is its end-of-document token (which opens it) followed by its text. Beside each
// shard, `.starts` holds one uint64 per document: the index of its first token in the split. Where
// tokens do not all count the same, `.weights` holds one float32 per token: what the loss at it
// counts, 0 for a token that nothing is learned from.
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/base.h"

namespace naite::data {

struct ManifestFile {
  std::string path;
  int64_t bytes = 0;
  std::string sha256;
};

struct ManifestShard {
  std::string file;  // relative to the manifest's directory
  int64_t tokens = 0;
  int64_t documents = 0;
  std::string sha256;          // of the token file
  std::string starts_sha256;   // of the `.starts` file
  std::string weights_sha256;  // of the `.weights` file; empty: there is none
  bool has_weights() const { return !weights_sha256.empty(); }
};

std::string shard_name(const std::string& stem, size_t number);
// The names of the files of document starts and of weights beside a shard.
std::string starts_name(const std::string& shard_file);
std::string weights_name(const std::string& shard_file);

struct ManifestSplit {
  int64_t documents = 0;
  int64_t bytes = 0;   // raw text
  int64_t tokens = 0;  // end-of-document tokens included
  std::vector<ManifestShard> shards;
};

struct ManifestSource {
  std::string name, language, license, origin;
  std::vector<ManifestFile> files;
  int64_t files_skipped = 0;  // in a folder: files of a kind that is not text
  int64_t lines_skipped = 0;  // broken lines of JSON, rows without text
  int64_t empty_documents = 0;
  int64_t duplicates = 0;       // documents dropped because the same bytes came before
  int64_t near_duplicates = 0;  // documents that resemble an earlier one
  int64_t not_remembered = 0;   // documents that later ones were not compared with (duplicates.h)
  ManifestSplit train, validation;
};

struct Manifest {
  nlohmann::json options;  // what the shards depend on: sources, tokenizer, validation share ...
  std::string tokenizer_sha256;
  int64_t vocab_size = 0;
  int token_bytes = 2;  // 2 or 4
  int32_t end_of_document = -1;
  std::vector<ManifestSource> sources;

  static Result<Manifest> load(const std::filesystem::path& run_directory);
  static Result<Manifest> from_json(const nlohmann::json& value, std::string_view name);
  nlohmann::json to_json() const;
};

}  // namespace naite::data
