// SPDX-License-Identifier: Apache-2.0
// Any tokenizer beside any model: refused with one line, or every id that it can give is a row of
// the model. The input is a table {"vocab_size": N, "tokenizer": ..., "tokenizer_config": ...,
// "special_tokens": ..., "added_tokens": ..., "generation": ..., "config": ...}.
#include "formats/token_ids.h"

#include "base/fuzz.h"

using nlohmann::json;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = naite::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!input || !input->is_object()) return 0;
  const auto part = [&](const char* key) {
    return naite::formats::NamedJson{key, input->value(key, json())};
  };
  const json asked = input->value("vocab_size", json());
  const int64_t vocab_size = asked.is_number_unsigned() ? asked.get<int64_t>() % (1 << 20) : 64;
  naite::formats::TokenFiles files{part("tokenizer"),      part("tokenizer_config"),
                                   part("special_tokens"), part("added_tokens"),
                                   part("generation"),     part("config")};
  const auto use = naite::formats::use_tokens(files, vocab_size);
  if (!use) {
    naite::expect_short_line(use.error());
    return 0;
  }
  for (const auto* ids : {&use->begin, &use->stop})
    for (const int32_t id : *ids) naite::require(id >= 0 && id < vocab_size);
  for (const json& id : files.tokenizer.value["model"]["vocab"])
    naite::require(id >= 0 && id < vocab_size);
  const json added = files.tokenizer.value.value("added_tokens", json());
  if (added.is_array())
    for (const json& token : added) naite::require(token["id"] >= 0 && token["id"] < vocab_size);
  return 0;
}
