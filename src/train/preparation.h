// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a run needs before its first step: a directory that is of this recipe and no other, its
// tokenizer, and its text as packed shards.
#include <functional>

#include "data/prepare.h"
#include "data/tokenizer.h"
#include "record/run_directory.h"
#include "train/recipe.h"

namespace naite::train {

struct Prepared {
  data::Manifest manifest;
  data::Tokenizer tokenizer;
};

// What is there already is kept; what killed processes left half written is removed. `note` gets a
// line about each source that was read.
Result<Prepared> prepare_run(const Curriculum& curriculum, const record::RunDirectory& run,
                             int num_threads, const std::atomic<bool>* stop,
                             std::function<void(const data::PrepareProgress&)> progress,
                             std::function<void(const std::string&)> note);

}  // namespace naite::train
