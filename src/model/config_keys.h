// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a config.json of other programs says beyond the keys that an architecture reads. Most of it
// changes nothing that a trained model computes: where it was made, how it was trained, how text is
// drawn from it. Those keys are listed by name. Of any other key only values pass by which nothing
// is asked (null, false, empty, or a factor of one); everything else is refused by its name,
// because a model that was read without it would be another model.
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/base.h"

namespace naite::model {

// Whether the key, with any value, leaves the logits alone.
bool is_irrelevant_key(std::string_view key);
// Whether the value asks for nothing that a reader who does not know the key would miss.
bool is_neutral_value(std::string_view key, const nlohmann::json& value);

// `table` has read what the architecture knows of `config`; `written` is the model's own config.
Status check_config_keys(const nlohmann::json& config, const Table& table,
                         const nlohmann::json& written);

}  // namespace naite::model
