// SPDX-License-Identifier: Apache-2.0
#pragma once
// Finding added tokens (special ones and others) in a text: leftmost first, the longest among those
// that start at one place, with the stripping and whole-word rules of tokenizer.json.
#include <cstdint>
#include <functional>
#include <string_view>

#include "data/tokenizer_model.h"

namespace naite::data {

// Fills the model's tables of added tokens by their first byte.
void index_added_tokens(Tokenizer::Model& model);

// Calls visit(section, id) over the text in order: id >= 0 for an added token, -1 for text between.
void for_each_section(const Tokenizer::Model& model, std::string_view text, Specials specials,
                      const std::function<void(std::string_view section, int32_t id)>& visit);

}  // namespace naite::data
