// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a run commits to before its first step: whoever trains enters it into the ledger, whoever
// verifies makes it again and compares.
#include "record/history.h"
#include "train/recipe.h"

namespace naite::train {

// The commitment but for what the ledger itself adds (origin, keys, nonce, time). `branch` is null
// or formats::Branch. Reads data/manifest.json of the run
// for its digest.
Result<record::Commitment> commitment_of(const Curriculum& curriculum,
                                         const data::Manifest& manifest,
                                         const nlohmann::json& branch,
                                         const std::filesystem::path& run_directory);

}  // namespace naite::train
