// SPDX-License-Identifier: Apache-2.0
#pragma once
// The model card (README.md) of a checkpoint: what it is, how far it has come, what it was fed.
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "data/manifest.h"
#include "train/recipe.h"

namespace naite::train {

std::string model_card(const Recipe& recipe, const model::Model& model,
                       const data::Manifest& manifest, const nlohmann::json& record);

}  // namespace naite::train
