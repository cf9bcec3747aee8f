// SPDX-License-Identifier: Apache-2.0
#include "data/json_lines.h"

#include <simdjson.h>

#include <string>

#include "data/unicode.h"

namespace naite::data {

struct JsonLines::State {
  simdjson::dom::parser parser;
  std::string padded;  // simdjson reads a little beyond the end
};

JsonLines::JsonLines() : state_(std::make_unique<State>()) {}
JsonLines::~JsonLines() = default;

Result<std::string_view> JsonLines::text_of(std::string_view line, std::string_view text_key) {
  if (const size_t bad = find_invalid_utf8(line); bad < line.size())
    return fail("not UTF-8 at byte {} of the line", bad);
  state_->padded.reserve(line.size() + simdjson::SIMDJSON_PADDING);
  state_->padded.assign(line);
  simdjson::dom::element root;
  const simdjson::error_code code =
      state_->parser.parse(state_->padded.data(), line.size(), /*realloc_if_needed=*/false)
          .get(root);
  if (code != simdjson::SUCCESS) return fail("not valid JSON: {}", simdjson::error_message(code));
  simdjson::dom::object object;
  if (root.get(object) != simdjson::SUCCESS) return fail("not a JSON object");
  std::string_view text;
  const simdjson::error_code found = object.at_key(text_key).get(text);
  if (found == simdjson::NO_SUCH_FIELD) return fail("no key `{}`: set `text_key`", text_key);
  if (found != simdjson::SUCCESS) return fail("the value of `{}` is not a string", text_key);
  return text;
}

}  // namespace naite::data
