// SPDX-License-Identifier: Apache-2.0
// JSON lines: whatever gives a text is JSON to another parser too, and whatever gives none says why
// in one short line. The input is a line; it is also the beginning of a file.
#include "data/json_lines.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "base/fuzz.h"
#include "data/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace naite;
  const std::string line(reinterpret_cast<const char*>(data), size);
  data::JsonLines lines;
  const auto found = lines.text_of(line, "text");
  if (const auto* text = std::get_if<std::string_view>(&found)) {
    require(data::find_invalid_utf8(*text) == text->size());
    require(nlohmann::json::accept(line));
  } else {
    const auto& refusal = std::get<data::JsonLines::Refusal>(found);
    require(!refusal.kind.empty() && refusal.kind.size() < 100);
    expect_short_line(fail("{}", refusal.why));
  }
  const bool sure = data::surely_json_lines(line, true);
  require(!sure || data::json_shape(line, true) == data::JsonShape::kLines);
  data::json_shape(line, false);
  return 0;
}
