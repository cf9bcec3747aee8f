// SPDX-License-Identifier: Apache-2.0
#pragma once
// The documents of source files, one after another, in bounded memory. Text is checked to be UTF-8
// and given on byte for byte, without the byte-order mark that a file may begin with; only .html
// changes, into its main text. A document longer than kPartMax comes in parts, cut where splitting
// into tokens is not disturbed. What is not taken is counted, with its reason.
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "data/inputs.h"
#include "data/manifest.h"
#include "data/options.h"

namespace naite::data {

struct Document {
  std::string_view text;  // valid during the call only
  bool begins = true, ends = true;
};

// What was read and what was not, over the files of a source.
struct ReadCounts {
  static constexpr size_t kShownMax = 3;

  int64_t records = 0;        // what can be broken: lines of JSON, blank ones aside, rows, pages
  int64_t rows = 0;           // of Parquet; they are records too
  int64_t lines_skipped = 0;  // broken lines of JSON; rows without text
  int64_t empty_pages = 0;    // HTML without main text
  int64_t empty_documents = 0;
  std::map<std::string, int64_t> reasons;  // "without the key `text`" -> lines; few of them
  std::vector<std::string> first;          // FILE:LINE: why, kShownMax at most
  std::vector<std::string> notes;          // taken, but perhaps not meant so; kShownMax at most
  int64_t notes_left_out = 0;

  // Counts a line of JSON or a row of a table that gives no text.
  void skip(const std::string& kind, std::string where_and_why);
  void first_reason(std::string where_and_why);
  void note(std::string line);
};

inline constexpr size_t kPartMax = size_t{16} << 20;
inline constexpr size_t kLineMax = size_t{64} << 20;  // a .jsonl line, an .html file

// Visits every document of one file; documents without any text are counted, not visited. `visit`
// returns false to stop early. `hashed`, if given, receives path, size and SHA-256 of the file (it
// is not filled when stopped early). `stop`, if given, ends the reading with an error once it is
// set, whatever the file holds.
Status read_documents(const InputFile& file, const SourceOptions& source, bool strict,
                      const std::function<Result<bool>(const Document&)>& visit, ReadCounts& counts,
                      ManifestFile* hashed, const std::atomic<bool>* stop = nullptr);

}  // namespace naite::data
