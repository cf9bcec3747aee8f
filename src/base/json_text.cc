// SPDX-License-Identifier: Apache-2.0
#include "base/json_text.h"

#include <nlohmann/json.hpp>

#include "base/config.h"
#include "base/files.h"
#include "base/foreign_files.h"

namespace naite {

using nlohmann::json;

Status check_bounds(std::string_view text, std::string_view name, const JsonBounds& bounds) {
  if (static_cast<int64_t>(text.size()) > bounds.bytes)
    return fail("{}: has {} bytes; at most {} are read of such a file", name, text.size(),
                bounds.bytes);
  int64_t values = 1;
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == ',') ++values;
    if (c == '[' || c == '{') ++values, ++depth;
    if (c == ']' || c == '}') --depth;
    if (depth > kJsonDepthMax)  // parsers recurse, or free what they made level by level
      return fail("{}: JSON nested deeper than {} levels", name, kJsonDepthMax);
    if (values > bounds.values)
      return fail("{}: more than {} values; no file of this kind has so many", name, bounds.values);
  }
  return {};
}

Result<json> parse_json(std::string_view text, std::string_view name, const JsonBounds& bounds) {
  NAITE_TRY(check_bounds(text, name, bounds));
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    if (const std::optional<ForeignFile> foreign = what_is(text))
      return fail("{} is {}: {}", name, foreign->what, foreign->advice);
    std::string reason = error.what();  // "[json.exception.parse_error.101] parse error at ..."
    if (const size_t bracket = reason.find("] "); bracket != std::string::npos)
      reason = reason.substr(bracket + 2);
    if (reason.size() > 200) reason = reason.substr(0, 200) + "...";
    return fail("{}: not valid JSON: {}", name, reason);
  }
}

Result<json> parse_json(std::string_view text, std::string_view name) {
  return parse_json(text, name, kJson);
}

Result<json> read_json(const std::filesystem::path& path, const JsonBounds& bounds) {
  NAITE_ASSIGN(const std::string text, read_file(path, bounds.bytes));
  return parse_json(text, path.string(), bounds);
}

Result<json> read_json(const std::filesystem::path& path) { return read_json(path, kJson); }

}  // namespace naite
