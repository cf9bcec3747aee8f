// SPDX-License-Identifier: Apache-2.0
#pragma once
// What stands in a checkpoint's directory beside the state: the model's configs, which whoever
// verifies makes again, and the model card (README.md) for people.
#include <string>

#include "data/manifest.h"
#include "data/tokenizer.h"
#include "formats/checkpoint.h"
#include "train/recipe.h"

namespace naite::train {

// All but the state, the record and the model card.
formats::CheckpointContent content_of(const Recipe& recipe, const model::Model& model,
                                      const data::Tokenizer& tokenizer,
                                      const std::filesystem::path& run_directory);

// What it is, how far it has come, what it was fed.
std::string model_card(const Recipe& recipe, const model::Model& model,
                       const data::Manifest& manifest, const formats::Record& record);

}  // namespace naite::train
