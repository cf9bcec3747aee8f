// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where a tokenizer meets a model. Every id that the tokenizer can give, or that a file beside it
// names, must be a row of the model's table: one that is not would read memory of something else.
// And whatever names a token must mean the same one, as other programs ask other files.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/base.h"

namespace naite::formats {

// A file's content, and its name for messages; null where there is no such file.
struct NamedJson {
  std::string name;
  nlohmann::json value;
};

struct TokenFiles {
  NamedJson tokenizer;         // tokenizer.json
  NamedJson tokenizer_config;  // tokenizer_config.json
  NamedJson special_tokens;    // special_tokens_map.json
  NamedJson added_tokens;      // added_tokens.json: text: id
  NamedJson generation;        // generation_config.json
  NamedJson config;            // config.json
};

struct TokenUse {
  std::vector<int32_t> begin;  // what every text starts with
  std::vector<int32_t> stop;   // what ends a text: all that any of the files calls its end
};

// An error names the file, the token, its id and the vocabulary's size.
Result<TokenUse> use_tokens(const TokenFiles& files, int64_t vocab_size);

}  // namespace naite::formats
