// SPDX-License-Identifier: Apache-2.0
// Any config.json: refused with one short line, or a model whose own config reads back as the same
// model, whose size can be counted, and which has taken over or may leave whatever was said.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/fuzz.h"
#include "model/config_keys.h"
#include "model/model.h"

namespace {

// Keys that the readers check against others and do not write back under the same name or value.
bool is_rewritten(std::string_view key) {
  return key == "rope_parameters" || key == "rope_scaling" || key == "layer_types" ||
         key == "sliding_window" || key == "use_sliding_window" || key == "rope_theta" ||
         key == "attention_bias" || key == "qkv_bias" || key == "model_type" ||
         key == "partial_rotary_factor";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto value = naite::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!value) return 0;
  const auto model = naite::model::make_model(*value, "fuzz", false);
  if (!model) {
    naite::expect_short_line(model.error(), 600);
    return 0;
  }
  const nlohmann::json config = (*model)->config();
  for (const auto& [key, said] : value->items())
    naite::require(is_rewritten(key) || naite::model::is_irrelevant_key(key) ||
                   naite::model::is_neutral_value(key, said) ||
                   (config.contains(key) && config[key] == said));
  const auto again = naite::model::make_model(config, "again", false);
  if (!again || (*again)->config() != config) std::abort();
  if ((*model)->num_hidden_layers() <= 64 && (*model)->num_parameters() <= 0) std::abort();
  return 0;
}
