// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which files a published run has: whoever publishes puts them there, whoever fetches asks for
// them. A static server lists nothing, so everything follows from the log and from files that it
// answers for. docs/LEDGER.md, "A published run", has the layout.
//
//   ledger/vkey checkpoint tile/... publisher/...   by the head's size (ledger/tiles.h)
//   recipe.toml tokenizer*.json data/manifest.json  by the commitment and its amendments
//   data/SHARD.tokens .starts .weights               by the manifest
//   checkpoints/NAME/ audit/NAME/                   by the log, file by file (verify/rebuild.h)
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/manifest.h"
#include "formats/record.h"
#include "record/history.h"

namespace naite::record {

// `path` is below the run (or the state) and has plain names only, whoever wrote it.
struct PublishedFile {
  std::string path, sha256;
  int64_t bytes_max = 0;
};

inline constexpr int64_t kRecordBytesMax = int64_t{4} << 20;      // record.json and its like
inline constexpr int64_t kSignatureBytesMax = int64_t{16} << 20;  // model.sig

std::vector<PublishedFile> published_claims(const RunHistory& history);
Result<std::vector<PublishedFile>> published_shards(const data::Manifest& manifest);
// What record.json lists. `parameters` bounds the sizes of tensors.
Result<std::vector<PublishedFile>> published_state(const formats::Record& record, bool checkpoint,
                                                   int64_t parameters, const std::string& where);

// The files that the directory of a state may have, signatures apart; audit states have no
// provenance and no bill of materials.
bool is_file_of_state(std::string_view path, bool checkpoint);
// That a state's directory has no file, folder or link beside them and the signatures, and none
// that is larger than a state of so many parameters can make it; before anything is read.
Status check_state_names(const std::filesystem::path& directory, bool checkpoint,
                         int64_t parameters);

// model.sig, `text`: by the key of the log, over the files that the log has, in the one spelling.
Status check_model_signature(const RunHistory& history, const StoredState& state,
                             std::string_view text, const std::string& where);

// Letters, digits, dot, hyphen, underscore; no dot in front; at most 128 bytes.
bool is_plain_name(std::string_view name);

}  // namespace naite::record
