// SPDX-License-Identifier: Apache-2.0
#include "formats/record.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/shown.h"
#include "formats/stored.h"

namespace naite::formats {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr double kLargest = std::numeric_limits<double>::max();

// 64 hexadecimal digits, or nothing.
std::string digest_at(Table& table, std::string_view key) {
  std::string text = table.string(key, "");
  if (!text.empty() &&
      (text.size() != 64 || text.find_first_not_of("0123456789abcdef") != std::string::npos))
    table.reject(key, "a SHA-256 in hexadecimal");
  return text;
}

// An integer of 64 bits as text: JSON's numbers are doubles to most readers.
int64_t long_at(Table& table, std::string_view key) {
  const std::string text = table.string(key);
  int64_t out = 0;
  std::from_chars(text.data(), text.data() + text.size(), out);
  if (fmt::format("{}", out) != text) table.reject(key, "a number in decimal digits");
  return out;
}

const json& list_at(Table& table, std::string_view key, bool of_names) {
  static const json kNothing = json::array();
  const json* value = table.raw(key);
  if (value == nullptr || value->is_null()) return kNothing;
  if (of_names ? value->is_object() : value->is_array()) return *value;
  table.reject(key, of_names ? "a table" : "a list");
  return kNothing;
}

Cursor cursor_from(Table& table) {
  Cursor out;
  table.integer("format", std::nullopt, 1, 1);
  out.step = table.integer("step", std::nullopt, 0, kMax);
  out.tokens = table.integer("tokens", std::nullopt, 0, kMax);
  out.seed = table.integer("seed", std::nullopt, std::numeric_limits<int64_t>::min(), kMax);
  out.arithmetic = table.string("arithmetic");
  out.recipe_digest = table.string("recipe_digest");
  return out;
}

std::optional<Branch> branch_from(Table& table, std::string_view key) {
  const json* value = table.raw(key);
  if (value == nullptr) return std::nullopt;
  Result<Branch> parsed = Branch::parse(*value, fmt::format("{} [{}]", table.where(), key));
  if (parsed.ok()) return *std::move(parsed);
  table.adopt(parsed.error());
  return std::nullopt;
}

std::vector<SourceRead> sources_from(Table& table) {
  std::vector<SourceRead> out;
  for (const json& source : list_at(table, "data", false)) {
    Table one(source, table.where() + " [[data]]");
    SourceRead& to = out.emplace_back();
    to.name = one.string("name");
    to.license = one.string("license");
    to.origin = one.string("origin");
    to.stage_tokens = one.integer("stage_tokens", std::nullopt, 0, kMax);
    to.stage_epochs = one.number("stage_epochs", std::nullopt, 0, kLargest);
    table.adopt(one.finish());
  }
  return out;
}

std::map<std::string, std::string> files_from(Table& table) {
  std::map<std::string, std::string> out;
  const json* files = table.raw("files");
  if (files == nullptr || !files->is_object()) {
    table.adopt(
        fail("{} lists no files: the checkpoint is damaged; remove it to go on from an "
             "earlier one",
             table.where()));
    return out;
  }
  for (const auto& [file, digest] : files->items()) {
    const fs::path path(file);
    const bool leaves = path.is_absolute() || file.empty() ||
                        file.find('\0') != std::string::npos ||
                        std::find(path.begin(), path.end(), "..") != path.end();
    if (leaves || !digest.is_string())
      table.adopt(fail("{} `files` must give the SHA-256 of files in its directory, has {}",
                       table.where(), shown_name(file)));
    else
      out[file] = digest.get<std::string>();
  }
  return out;
}

}  // namespace

json Cursor::to_json() const {
  return {{"format", 1},
          {"step", step},
          {"tokens", tokens},
          {"seed", seed},
          {"arithmetic", arithmetic},
          {"recipe_digest", recipe_digest}};
}

Result<Cursor> Cursor::parse(const json& value, const std::string& where) {
  Table table(value, where);
  Cursor out = cursor_from(table);
  NAITE_TRY(table.finish());
  return out;
}

std::optional<Cursor> Branch::cursor() const {
  if (!whole || !step) return std::nullopt;
  return Cursor{*step, whole->tokens, whole->seed, whole->arithmetic, recipe_digest};
}

json Branch::to_json() const {
  json out = {{"from", from}, {"state_digest", state_digest}, {"recipe_digest", recipe_digest}};
  if (step) out["step"] = *step;
  if (whole) {
    out["tokens"] = whole->tokens;
    out["seed"] = fmt::format("{}", whole->seed);
    out["arithmetic"] = whole->arithmetic;
  }
  if (!weights_digest.empty()) out["weights_digest"] = weights_digest;
  if (grown) out["grown"] = true;
  if (!origin.is_null()) out["origin"] = origin;
  return out;
}

Result<Branch> Branch::parse(const json& value, const std::string& where) {
  Table table(value, where);
  Branch out;
  out.from = table.string("from");
  if (table.has("step")) out.step = table.integer("step", std::nullopt, 0, kMax);
  out.state_digest = digest_at(table, "state_digest");
  out.recipe_digest = digest_at(table, "recipe_digest");
  if (table.has("tokens")) {
    Branch::Whole& whole = out.whole.emplace(Branch::Whole{});
    whole.tokens = table.integer("tokens", std::nullopt, 0, kMax);
    whole.seed = long_at(table, "seed");
    whole.arithmetic = table.string("arithmetic");
  }
  out.weights_digest = digest_at(table, "weights_digest");
  out.grown = table.boolean("grown", false);
  if (const json* origin = table.raw("origin")) out.origin = *origin;
  if (!is_plain_line(out.from)) table.reject("from", "a line of plain text");
  // A state that a run goes on from has all in its digest.
  if (out.whole && !out.grown && (!out.weights_digest.empty() || !out.origin.is_null()))
    table.reject("weights_digest", "left out, as `origin`, where nothing was grown");
  NAITE_TRY(table.finish());
  return out;
}

json to_json(const Validation& validation) {
  json out = json::object();
  for (const auto& [source, measured] : validation)
    out[source] = {{"loss", measured.loss}, {"bits_per_byte", measured.bits_per_byte}};
  return out;
}

std::optional<Validation> validation_at(Table& table, std::string_view key) {
  const json* value = table.raw(key);
  if (value == nullptr || value->is_null()) return std::nullopt;
  Validation out;
  for (const auto& [source, measured] : list_at(table, key, true).items()) {
    Table one(measured, fmt::format("{} [{}.{}]", table.where(), key, shown_name(source)));
    Measured& to = out[source];
    to.loss = one.number("loss", std::nullopt, -kLargest, kLargest);
    to.bits_per_byte = one.number("bits_per_byte", std::nullopt, -kLargest, kLargest);
    table.adopt(one.finish());
  }
  return out;
}

json Record::to_json() const {
  json out = json::object();
  if (cursor) {
    out = cursor->to_json();
    out["stage"] = stage;
    out["total_steps"] = total_steps;
    out["planned_tokens"] = planned_tokens;
    out["name"] = name;
    out["precision"] = precision;
    out["validation"] = validation ? formats::to_json(*validation) : json();
  }
  if (loss) out["loss"] = *loss;
  if (branch) out["branch"] = branch->to_json();
  for (const SourceRead& source : data)
    out["data"].push_back({{"name", source.name},
                           {"license", source.license},
                           {"origin", source.origin},
                           {"stage_tokens", source.stage_tokens},
                           {"stage_epochs", source.stage_epochs}});
  if (origin) out["origin"] = origin->to_json();
  if (!weights_digest.empty()) out["weights_digest"] = weights_digest;
  if (!state_digest.empty()) out["state_digest"] = state_digest;
  out["files"] = files;
  return out;
}

Result<Record> Record::parse(const json& value, const std::string& where) {
  Table table(value, where);
  Record out;
  if (table.has("step")) out.cursor = cursor_from(table);
  out.stage = table.integer("stage", 0, 0, kMax);
  out.total_steps = table.integer("total_steps", 0, 0, kMax);
  out.planned_tokens = table.integer("planned_tokens", 0, 0, kMax);
  out.name = table.string("name", "");
  out.precision = table.string("precision", "");
  if (table.has("loss")) out.loss = table.number("loss", std::nullopt, -kLargest, kLargest);
  out.validation = validation_at(table, "validation");
  out.branch = branch_from(table, "branch");
  out.data = sources_from(table);
  out.origin = branch_from(table, "origin");
  out.weights_digest = digest_at(table, "weights_digest");
  out.state_digest = digest_at(table, "state_digest");
  out.files = files_from(table);
  NAITE_TRY(table.finish());
  return out;
}

Result<Record> Record::read(const fs::path& directory) {
  const fs::path path = directory / "record.json";
  NAITE_ASSIGN(const json value, read_json(path));
  return parse(value, path.string() + ":");
}

}  // namespace naite::formats
