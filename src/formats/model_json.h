// SPDX-License-Identifier: Apache-2.0
#pragma once
// The JSON files of a model. A key that stands twice in one table is refused, because readers
// differ in which of the two they believe; and a file that is no JSON is called what it is.
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/base.h"
#include "base/json_text.h"

namespace naite::formats {

Result<nlohmann::json> parse_model_json(std::string_view text, std::string_view name,
                                        const JsonBounds& bounds = kJson);
Result<nlohmann::json> read_model_json(const std::filesystem::path& path);

// `otherwise`, or what the file is if its first bytes say that it is of another kind or empty.
Error unreadable(std::string_view bytes, std::string_view name, Error otherwise);

}  // namespace naite::formats
