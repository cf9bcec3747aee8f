// SPDX-License-Identifier: Apache-2.0
#pragma once
// How well a vocabulary fits a text: bytes per token, and the share of tokens that are single
// bytes, in all and for each script (Unicode script of the first letter that a token touches). Many
// single bytes mean that a script's characters fall apart.
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/base.h"
#include "data/options.h"
#include "data/tokenizer.h"

namespace naite::data {

struct TokenStats {
  int64_t bytes = 0, tokens = 0, single_byte_tokens = 0;

  double bytes_per_token() const;
  double single_byte_share() const;
  void add(const TokenStats& other);
};

struct SourceStats {
  std::string name;
  TokenStats all;
  std::map<std::string, TokenStats> scripts;  // "Hangul", "Latin", "Han" ...; "Common": no letter
};

// Adds up one text.
void add_stats(const Tokenizer& tokenizer, Encoder& encoder, std::string_view text,
               SourceStats& stats);

// Stats of each source, in order; files are read as for training, nothing is left out.
Result<std::vector<SourceStats>> tokenizer_stats(const Tokenizer& tokenizer,
                                                 const std::vector<SourceOptions>& sources);

}  // namespace naite::data
