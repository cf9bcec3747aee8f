// SPDX-License-Identifier: Apache-2.0
#pragma once
// What is at a path where a model was expected: what it is instead, and what makes a model of it.
#include <filesystem>
#include <string_view>

#include "base/base.h"

namespace naite::formats {

// A directory with config.json and safetensors, or a file that begins as GGUF does. Adapters, which
// would change the model beside them, are refused like everything else.
Status expect_model(const std::filesystem::path& path);
// That the directory has a tokenizer.json.
Status expect_tokenizer(const std::filesystem::path& directory);
// Whether the bytes begin as a GGUF file of this or the other byte order; an error says what else
// they are.
Status expect_gguf(std::string_view bytes, std::string_view name);

}  // namespace naite::formats
