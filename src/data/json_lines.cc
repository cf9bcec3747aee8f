// SPDX-License-Identifier: Apache-2.0
#include "data/json_lines.h"

#include <simdjson.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/unicode.h"

namespace naite::data {

namespace {

constexpr size_t kKeysShown = 5;
constexpr std::string_view kBlanks = " \t\r\n";

std::string_view name_of(simdjson::dom::element_type type) {
  switch (type) {
    case simdjson::dom::element_type::ARRAY:
      return "a list";
    case simdjson::dom::element_type::OBJECT:
      return "an object";
    case simdjson::dom::element_type::BOOL:
      return "true or false";
    case simdjson::dom::element_type::NULL_VALUE:
      return "null";
    case simdjson::dom::element_type::STRING:
      return "a string";
    default:
      return "a number";
  }
}

// The keys that are there, and the one that holds most text: it is the likely one.
JsonLines::Refusal no_key(const simdjson::dom::object& object, std::string_view text_key) {
  std::vector<std::string> names;
  std::string_view likely, longest;
  for (const auto& [key, value] : object) {
    if (names.size() < kKeysShown) names.push_back(fmt::format("`{}`", key));
    std::string_view text;
    if (value.get(text) != simdjson::SUCCESS || text.size() < longest.size()) continue;
    longest = text;
    likely = key;
  }
  std::string there = names.empty() ? "no keys at all" : fmt::format("{}", fmt::join(names, ", "));
  if (object.size() > kKeysShown) there += fmt::format(" and {} more", object.size() - kKeysShown);
  const std::string advice =
      likely.empty()
          ? "set `text_key` to the key that holds the text"
          : fmt::format("set `text_key` if the text is elsewhere, perhaps in `{}`", likely);
  return {fmt::format("without the key `{}`", text_key),
          fmt::format("no key `{}`, but {}: {}", text_key, there, advice)};
}

JsonLines::Refusal not_an_object(simdjson::dom::element_type type) {
  std::string why = fmt::format("{}, not a JSON object", name_of(type));
  if (type == simdjson::dom::element_type::ARRAY)
    why += ": if it is one array of objects, `jq -c '.[]' FILE > NEW` makes lines of them";
  return {"not a JSON object", why};
}

}  // namespace

struct JsonLines::State {
  simdjson::dom::parser parser;
  std::string padded;  // simdjson reads a little beyond the end
  std::string large;   // the text of a line with a large number
};

JsonLines::JsonLines() : state_(std::make_unique<State>()) {}
JsonLines::~JsonLines() = default;

// A number above 64 bits, which simdjson refuses, is JSON all the same.
std::variant<std::string_view, JsonLines::Refusal> JsonLines::text_beside_large_number(
    std::string_view line, std::string_view text_key) {
  const Result<nlohmann::json> parsed = parse_json(line, "");
  const nlohmann::json* value = nullptr;
  if (parsed.ok() && parsed->is_object()) {
    const auto found = parsed->find(std::string(text_key));
    if (found != parsed->end()) value = &*found;
  }
  if (value == nullptr || !value->is_string())
    return Refusal{"not valid JSON",
                   "not valid JSON, or a number that is too large and no text beside it"};
  state_->large = value->get<std::string>();
  return std::string_view(state_->large);
}

std::variant<std::string_view, JsonLines::Refusal> JsonLines::text_of(std::string_view line,
                                                                      std::string_view text_key) {
  if (const size_t bad = find_invalid_utf8(line); bad < line.size())
    return Refusal{"not UTF-8", fmt::format("not UTF-8 at byte {} of the line", bad)};
  state_->padded.reserve(line.size() + simdjson::SIMDJSON_PADDING);
  state_->padded.assign(line);
  simdjson::dom::element root;
  const simdjson::error_code code =
      state_->parser.parse(state_->padded.data(), line.size(), /*realloc_if_needed=*/false)
          .get(root);
  if (code == simdjson::NUMBER_ERROR) return text_beside_large_number(line, text_key);
  if (code != simdjson::SUCCESS)
    return Refusal{"not valid JSON",
                   fmt::format("not valid JSON: {}", simdjson::error_message(code))};
  simdjson::dom::object object;
  if (root.get(object) != simdjson::SUCCESS) return not_an_object(root.type());
  simdjson::dom::element value;
  if (object.at_key(text_key).get(value) != simdjson::SUCCESS) return no_key(object, text_key);
  std::string_view text;
  if (value.get(text) == simdjson::SUCCESS) return text;
  return Refusal{
      fmt::format("with `{}` that is no string", text_key),
      fmt::format("the value of `{}` is not a string but {}", text_key, name_of(value.type()))};
}

namespace {

// The first two lines that are not blank; a line without its end counts if the file ends there.
struct FirstLines {
  std::string_view first, second;
  bool first_ends = false;  // it is all there
};

FirstLines first_lines(std::string_view head, bool ended) {
  FirstLines lines;
  head = without_byte_order_mark(head);
  const size_t begin = head.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return lines;
  head.remove_prefix(begin);
  const size_t end = head.find('\n');
  lines.first = head.substr(0, end);
  lines.first_ends = ended || end != std::string_view::npos;
  if (end == std::string_view::npos) return lines;
  const size_t next = head.find_first_not_of(kBlanks, end);
  if (next != std::string_view::npos) lines.second = head.substr(next);
  return lines;
}

bool is_object(std::string_view line) {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  const simdjson::padded_string padded(line);
  return parser.parse(padded).get(object) == simdjson::SUCCESS;
}

}  // namespace

JsonShape json_shape(std::string_view head, bool ended) {
  const FirstLines lines = first_lines(head, ended);
  if (lines.first.empty()) return JsonShape::kLines;
  if (lines.first[0] == '[') return JsonShape::kArray;
  if (lines.first[0] != '{') return JsonShape::kOther;
  // A broken first line does not make the others a part of it.
  const bool lines_follow = lines.second.starts_with('{');
  const bool is_line =
      !lines.first_ends || lines.second.empty() || lines_follow || is_object(lines.first);
  return is_line ? JsonShape::kLines : JsonShape::kObject;
}

bool surely_json_lines(std::string_view head, bool ended) {
  const FirstLines lines = first_lines(head, ended);
  if (!lines.first.starts_with('{') || !lines.first_ends || !is_object(lines.first)) return false;
  return lines.second.empty() || lines.second.starts_with('{');
}

}  // namespace naite::data
