// SPDX-License-Identifier: Apache-2.0
// Any config.json: refused with one short line, or a model whose own config reads back as the same
// model and whose size can be counted.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/fuzz.h"
#include "model/model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto value = naite::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!value) return 0;
  const auto model = naite::model::make_model(*value, "fuzz", false);
  if (!model) {
    naite::expect_short_line(model.error(), 600);
    return 0;
  }
  const nlohmann::json config = (*model)->config();
  const auto again = naite::model::make_model(config, "again", false);
  if (!again || (*again)->config() != config) std::abort();
  if ((*model)->num_hidden_layers() <= 64 && naite::model::count_parameters(**model) <= 0)
    std::abort();
  return 0;
}
