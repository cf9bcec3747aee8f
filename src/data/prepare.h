// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a recipe's sources to what a run trains on: RUN/tokenizer.json, RUN/tokenizer_config.json,
// RUN/data/*.tokens and, last, RUN/data/manifest.json. The result depends on the options and the
// source files alone, never on the number of threads. Complete and valid data that fits the options
// is used as it stands; what an interrupted run left is removed and done again.
#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "data/manifest.h"
#include "data/options.h"
#include "data/tokenizer.h"

namespace naite::data {

struct PrepareProgress {
  std::string_view phase;       // "reading", "training tokenizer", "packing", "checking"
  int64_t done = 0, total = 0;  // bytes, or merges for the tokenizer; total 0: not known
};

struct PrepareRequest {
  TokenizerOptions tokenizer;
  DataOptions data;
  std::filesystem::path run_directory;  // must exist
  // Relative paths of the recipe are tried against the working directory, then against these.
  std::vector<std::filesystem::path> base_directories;
  int num_threads = 1;
  std::function<void(const PrepareProgress&)> progress;  // may be empty; called from one thread
  // A line for people after the text was read: what came of each source, and what was not as asked
  // for. May be empty; called from one thread.
  std::function<void(const std::string&)> note;
  const std::atomic<bool>* stop = nullptr;  // set elsewhere: ends soon with an error
};

Result<Manifest> prepare(const PrepareRequest& request);

// That a manifest and a tokenizer are what prepare() makes of these options, as far as that can be
// said without the text: sources, names and sums of shards, and the form of a tokenizer that the
// options ask to be trained.
Status check_prepared(const Manifest& manifest, const Tokenizer& tokenizer,
                      const TokenizerOptions& tokenizer_options, const DataOptions& data_options);

// The first part alone: a tokenizer trained on the training text of the sources. The run directory
// is not used.
Result<Tokenizer> train_tokenizer(const PrepareRequest& request);

}  // namespace naite::data
