// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which files a published run has: whoever publishes puts them there, whoever fetches asks for
// them. A static server lists nothing, so everything follows from the log and from files that it
// answers for. docs/LEDGER.md, "A published run", has the layout.
//
//   ledger/vkey checkpoint tile/... publisher/...   by the head's size (ledger/tiles.h)
//   recipe.toml tokenizer*.json data/manifest.json  by the commitment and its amendments
//   data/SHARD.tokens SHARD.starts                  by the manifest
//   checkpoints/NAME/ audit/NAME/                   by the log; the files in it by its record.json
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/manifest.h"
#include "record/history.h"

namespace naite::record {

// `path` is below the run (or the state) and has plain names only, whoever wrote it.
struct PublishedFile {
  std::string path, sha256;
  int64_t bytes_max = 0;
};

inline constexpr int64_t kRecordBytesMax = int64_t{16} << 20;     // record.json, provenance.json
inline constexpr int64_t kSignatureBytesMax = int64_t{16} << 20;  // model.sig

std::vector<PublishedFile> published_claims(const RunHistory& history);
Result<std::vector<PublishedFile>> published_shards(const data::Manifest& manifest);
// What record.json lists. `parameters` bounds the sizes of tensors.
Result<std::vector<PublishedFile>> published_state(const nlohmann::json& record, int64_t parameters,
                                                   const std::string& where);

// The newest entry about each directory, by step.
std::vector<const StoredState*> newest_states(const RunHistory& history);

// What people look at first.
double percent_done(const RunHistory& history, int64_t step);
std::optional<double> bits_per_byte(const StoredState& state);  // mean over sources of text
bool is_unsigned(const Commitment& commitment);                 // signed by a key of the run alone

// Letters, digits, dot, hyphen, underscore; no dot in front; at most 128 bytes.
bool is_plain_name(std::string_view name);

}  // namespace naite::record
