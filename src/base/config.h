// SPDX-License-Identifier: Apache-2.0
#pragma once
// Configuration at the edge: TOML and JSON text become one JSON value, and Table reads it key by
// key. Every error names the file, the key by its full path, what was expected and what was found;
// a key that nobody asked for is an error that names the nearest one that exists.
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace naite {

// `name` is the file's name for messages. JSON is limited to a depth of 100.
Result<nlohmann::json> parse_toml(std::string_view text, std::string_view name);
Result<nlohmann::json> parse_json(std::string_view text, std::string_view name);

// The value as TOML text; null values are left out. Tables keep the order of their keys.
std::string to_toml(const nlohmann::json& value);
// Sets `path` ("train.tokens", "data.source.0.weight") to `value`, which is read as TOML and, if
// that fails, as a plain string: what --set does.
Status set_by_path(nlohmann::json& root, std::string_view path, std::string_view value);

// The candidate with the smallest edit distance to `word`; empty if none is near.
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

// Reads one table. The first error is kept and everything after it returns defaults, so a reader is
// a plain list of assignments followed by one `NAITE_TRY(table.finish())`.
class Table {
 public:
  // `value` must outlive the table. `where` begins every message, such as "recipe.toml: [model]".
  Table(const nlohmann::json& value, std::string where);

  bool has(std::string_view key) const;
  std::string string(std::string_view key, std::optional<std::string> fallback = std::nullopt);
  int64_t integer(std::string_view key, std::optional<int64_t> fallback, int64_t minimum,
                  int64_t maximum);
  double number(std::string_view key, std::optional<double> fallback, double minimum,
                double maximum);
  bool boolean(std::string_view key, std::optional<bool> fallback);
  std::string choice(std::string_view key, std::optional<std::string> fallback,
                     const std::vector<std::string>& choices);
  std::vector<std::string> strings(std::string_view key);  // absent: empty
  std::vector<double> numbers(std::string_view key, std::vector<double> fallback);
  // The raw value; nullptr if absent. The key counts as read.
  const nlohmann::json* raw(std::string_view key);
  // A sub-table; absent counts as empty.
  Table table(std::string_view key);
  // Keys that may stand there and are not ours to read.
  void ignore(const std::vector<std::string>& keys);
  // The keys that nobody has asked for so far.
  std::vector<std::string> unread() const;

  void reject(std::string_view key, std::string_view expected);  // "KEY must be EXPECTED, is VALUE"
  void adopt(Status status);  // take over the error of a sub-reader
  Status finish(bool allow_unknown = false);
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json* find(std::string_view key);
  const nlohmann::json* require(std::string_view key, bool required);

  const nlohmann::json* value_;
  std::string where_;
  std::set<std::string, std::less<>> known_;
  std::optional<Error> error_;
};

}  // namespace naite
