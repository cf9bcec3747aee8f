// SPDX-License-Identifier: Apache-2.0
#pragma once
// The documents of source files, one after another, in bounded memory. Text is checked to be UTF-8
// and given on byte for byte; only .html changes, into its main text. A document longer than
// kPartMax comes in parts, cut where splitting into tokens is not disturbed.
#include <cstdint>
#include <functional>
#include <string_view>

#include "base/base.h"
#include "data/inputs.h"
#include "data/manifest.h"
#include "data/options.h"

namespace naite::data {

struct Document {
  std::string_view text;  // valid during the call only
  bool begins = true, ends = true;
};

struct ReadCounts {
  int64_t lines_skipped = 0;
  int64_t empty_documents = 0;
};

inline constexpr size_t kPartMax = size_t{16} << 20;
inline constexpr size_t kLineMax = size_t{64} << 20;  // a .jsonl line, an .html file

// Visits every document of one file; documents without any text are counted, not visited. `visit`
// returns false to stop early. `hashed`, if given, receives path, size and SHA-256 of the file (it
// is not filled when stopped early).
Status read_documents(const InputFile& file, const SourceOptions& source, bool strict,
                      const std::function<Result<bool>(const Document&)>& visit, ReadCounts& counts,
                      ManifestFile* hashed);

}  // namespace naite::data
