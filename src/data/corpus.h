// SPDX-License-Identifier: Apache-2.0
#pragma once
// A source as a stream of texts, each marked as training or validation text: the same stream every
// time, so that the tokenizer learns from exactly what the shards will hold for training. Here
// duplicates are dropped and documents are held out.
//   - A document is held out if the hash of its bytes is below validation * 2^64.
//   - A source that is one single document gives up its last share of bytes instead, at a line end.
//   - Of documents with the same bytes, in any sources, the first is kept (a long document that
//   comes
//     in parts is not compared).
#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "data/documents.h"
#include "data/manifest.h"
#include "data/options.h"

namespace naite::data {

// What came of the sources, in order: for the manifest, and for people.
struct Readings {
  std::vector<ManifestSource> sources;
  std::vector<ReadCounts> counts;
  std::vector<InputFiles> inputs;
};

struct CorpusText {
  std::string_view text;  // valid during the call only
  bool begins = true;     // a document of its split
  bool validation = false;
};

class Corpus {
 public:
  using Visit = std::function<Status(int source, const CorpusText& text)>;

  // Finds the files of every source and looks into each for its second document. Once `stop`, if
  // given, is set, this and read() soon end with an error.
  static Result<Corpus> open(const DataOptions& options,
                             const std::vector<std::filesystem::path>& base_directories,
                             const std::atomic<bool>* stop);
  Corpus(Corpus&&) noexcept;
  ~Corpus();

  int64_t total_file_bytes() const;

  // Visits the texts of all sources, in order. `progress` receives the bytes of files read.
  // The sources' names, files and counts of what was left out are filled in. Documents that
  // resemble others are counted only if `final`, or if they are to be dropped.
  Status read(ThreadPool& pool, bool final, const Visit& visit,
              const std::function<void(int64_t file_bytes)>& progress, Readings& readings) const;

 private:
  struct State;
  explicit Corpus(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace naite::data
