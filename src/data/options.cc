// SPDX-License-Identifier: Apache-2.0
#include "data/options.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/names.h"
#include "data/tokenizer.h"

namespace naite::data {

using nlohmann::json;

namespace {

// A recipe means the same for everybody, so nobody's home is filled in.
constexpr const char* kNoTilde = "a path without `~`, which only shells expand: write it out";

constexpr double kWeightMax = 1e9;
constexpr std::string_view kWeightForm =
    "a number from 0 to 1e9, or points [[progress, weight], ...] with progress rising within 0..1";

// A point list is what it says only if every entry is in range and the progress rises.
bool read_points(const json& value, std::vector<WeightPoint>& points) {
  if (!value.is_array() || value.empty()) return false;
  points.clear();
  for (const json& item : value) {
    if (!item.is_array() || item.size() != 2 || !item[0].is_number() || !item[1].is_number())
      return false;
    const WeightPoint point{item[0].get<double>(), item[1].get<double>()};
    if (!(point.progress >= 0.0 && point.progress <= 1.0)) return false;
    if (!(point.weight >= 0.0 && point.weight <= kWeightMax)) return false;
    if (!points.empty() && !(point.progress > points.back().progress)) return false;
    points.push_back(point);
  }
  return true;
}

std::vector<WeightPoint> read_weight(Table& table) {
  std::vector<WeightPoint> points = {{0.0, 1.0}};
  const json* value = table.raw("weight");
  if (value == nullptr) return points;
  if (value->is_number()) {
    points[0].weight = value->get<double>();
    if (!(points[0].weight >= 0.0 && points[0].weight <= kWeightMax))
      table.reject("weight", kWeightForm);
  } else if (!read_points(*value, points)) {
    table.reject("weight", kWeightForm);
  }
  return points;
}

}  // namespace

Result<TokenizerOptions> TokenizerOptions::from_table(Table& table) {
  TokenizerOptions options;
  const bool has_size = table.has("vocab_size");
  options.vocab_size = table.integer("vocab_size", options.vocab_size, 256, 1 << 20);
  options.file = table.string("file", "");
  if (options.vocab_size > 256 && options.vocab_size < 256 + kNumSpecialTokens)
    table.reject("vocab_size", fmt::format("256 (plain bytes) or at least {} (256 bytes and {} "
                                           "special tokens)",
                                           256 + kNumSpecialTokens, kNumSpecialTokens));
  if (options.file.starts_with('~')) table.reject("file", kNoTilde);
  if (has_size && !options.file.empty())
    table.reject("vocab_size", "absent when `file` names a finished tokenizer");
  NAITE_TRY(table.finish());
  return options;
}

json TokenizerOptions::to_json() const {
  if (!file.empty()) return {{"file", file}};
  return {{"vocab_size", vocab_size}};
}

double SourceOptions::weight_at(double progress) const {
  if (progress <= weight.front().progress) return weight.front().weight;
  for (size_t i = 1; i < weight.size(); ++i) {
    const WeightPoint &a = weight[i - 1], &b = weight[i];
    if (progress > b.progress) continue;
    const double share = (progress - a.progress) / (b.progress - a.progress);
    return a.weight + share * (b.weight - a.weight);
  }
  return weight.back().weight;
}

Result<SourceOptions> SourceOptions::from_table(Table& table) {
  SourceOptions options;
  options.name = table.string("name");
  options.path = table.string("path");
  options.document = table.choice("document", options.document, {"file", "line", "blank_line"});
  options.text_key = table.string("text_key", options.text_key);
  options.language = table.string("language", options.name);
  options.weight = read_weight(table);
  options.license = table.string("license", "");
  options.origin = table.string("origin", "");
  for (const char* key : {"language", "license", "origin"})
    if (!is_plain_line(table.string(key, ""))) table.reject(key, kPlainLine);
  if (!is_file_name(options.name))
    table.reject("name", "a name without slashes and control characters, of at most 128 bytes");
  if (options.path.empty()) table.reject("path", "a file, a folder or a glob");
  if (options.path.starts_with('~')) table.reject("path", kNoTilde);
  NAITE_TRY(table.finish());
  return options;
}

json SourceOptions::to_json() const {
  json points = json::array();
  for (const WeightPoint& point : weight) points.push_back({point.progress, point.weight});
  if (weight.size() == 1) points = weight[0].weight;
  return {{"name", name},         {"path", path},         {"document", document},
          {"text_key", text_key}, {"language", language}, {"weight", points},
          {"license", license},   {"origin", origin}};
}

Result<DataOptions> DataOptions::from_table(Table& table) {
  DataOptions options;
  options.sequence_length = table.integer("sequence_length", options.sequence_length, 1, 1 << 24);
  options.validation = table.number("validation", options.validation, 0.0, 0.5);
  options.attention = table.choice("attention", options.attention, {"document", "full"});
  options.packing = table.choice("packing", options.packing, {"concatenate", "xlda"});
  options.language_switch = table.number("language_switch", options.language_switch, 0.0, 1.0);
  options.deduplicate = table.boolean("deduplicate", options.deduplicate);
  options.near_duplicates =
      table.choice("near_duplicates", options.near_duplicates, {"off", "report", "drop"});
  options.strict = table.boolean("strict", options.strict);
  const json* list = table.raw("source");
  if (list == nullptr || !list->is_array() || list->empty()) {
    table.reject("source", "at least one [[data.source]] table");
    return table.finish().error();
  }
  std::set<std::string> names;
  bool positive = false;
  for (const json& item : *list) {
    Table source_table(item, fmt::format("{} [[source]] {}", table.where(), names.size() + 1));
    Result<SourceOptions> source = SourceOptions::from_table(source_table);
    if (!source) {
      table.adopt(source.error());
      break;
    }
    if (!names.insert(source->name).second) {
      table.adopt(
          fail("{} names two sources `{}`; give each its own name", table.where(), source->name));
      break;
    }
    for (const WeightPoint& point : source->weight) positive = positive || point.weight > 0.0;
    options.sources.push_back(*std::move(source));
  }
  if (!positive) table.adopt(fail("{} gives every source the weight 0", table.where()));
  NAITE_TRY(table.finish());
  return options;
}

json DataOptions::to_json() const {
  json list = json::array();
  for (const SourceOptions& source : sources) list.push_back(source.to_json());
  return {{"sequence_length", sequence_length},
          {"validation", validation},
          {"attention", attention},
          {"packing", packing},
          {"language_switch", language_switch},
          {"deduplicate", deduplicate},
          {"near_duplicates", near_duplicates},
          {"strict", strict},
          {"source", list}};
}

}  // namespace naite::data
