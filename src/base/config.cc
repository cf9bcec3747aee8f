// SPDX-License-Identifier: Apache-2.0
#include "base/config.h"

#include <toml++/toml.h>
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/foreign_files.h"
#include "base/json_text.h"
#include "base/utf8.h"

namespace naite {

namespace {

using nlohmann::json;

constexpr int kKeyPartsMax = 32;

json to_json(const toml::node& node) {
  if (const auto* table = node.as_table()) {
    json out = json::object();
    for (const auto& [key, value] : *table) out[std::string(key.str())] = to_json(value);
    return out;
  }
  if (const auto* array = node.as_array()) {
    json out = json::array();
    for (const toml::node& value : *array) out.push_back(to_json(value));
    return out;
  }
  if (const auto* value = node.as_integer()) return value->get();
  if (const auto* value = node.as_floating_point()) return value->get();
  if (const auto* value = node.as_boolean()) return value->get();
  if (const auto* value = node.as_string()) return value->get();
  std::ostringstream text;  // dates and times: kept as text
  text << toml::node_view<const toml::node>(node);
  return text.str();
}

// The end of the TOML string that begins at `at`: behind its closing quotes, or where its line ends
// if it has none.
size_t end_of_toml_string(std::string_view text, size_t at) {
  const char quote = text[at];
  const size_t quotes = text.substr(at, 3) == std::string(3, quote) ? 3 : 1;
  for (size_t i = at + quotes; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (quotes == 1 && (text[i] == quote || text[i] == '\n')) {
      return i + 1;
    } else if (quotes == 3 && text.substr(i, 3) == std::string(3, quote)) {
      return std::min(text.find_first_not_of(quote, i), i + 5);  // two may belong to the string
    }
  }
  return text.size();
}

// There are at least as many of these as values; in strings they count, too.
bool opens_value(char c) { return c == '=' || c == ',' || c == '[' || c == '{'; }

// toml++ bounds how deep values nest, but not the tables that the parts of a key open, and recurses
// to free them. Parts are counted by their dots, outside strings and comments.
bool has_long_key(std::string_view text) {
  int dots = 0;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '"' || c == '\'') {
      i = end_of_toml_string(text, i);
      continue;
    }
    if (c == '#') i = std::min(text.find('\n', i), text.size() - 1);
    if (c == '.' && ++dots >= kKeyPartsMax) return true;
    if (std::string_view(",=[]{}#\n").find(c) != std::string_view::npos) dots = 0;
    ++i;
  }
  return false;
}

std::string shown(const json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, floor_to_char(text, 57)) + "...";
  return text;
}

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int next = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = row[j];
      row[j] = next;
    }
  }
  return row.back();
}

}  // namespace

Result<json> parse_toml(std::string_view text, std::string_view name) {
  if (static_cast<int64_t>(text.size()) > kToml.bytes ||
      std::count_if(text.begin(), text.end(), opens_value) > kToml.values)
    return fail("{}: more than {} bytes or {} values; no TOML file that is read has so many", name,
                kToml.bytes, kToml.values);
  if (has_long_key(text)) return fail("{}: TOML key of more than {} parts", name, kKeyPartsMax);
  try {
    return to_json(toml::parse(text));
  } catch (const toml::parse_error& error) {
    if (const std::optional<ForeignFile> foreign = what_is(text))
      return fail("{} is {}: {}", name, foreign->what, foreign->advice);
    return fail("{}:{}:{}: not valid TOML: {}", name, error.source().begin.line,
                error.source().begin.column, error.description());
  }
}

namespace {

// Appends the value to a toml++ array: the one container that takes every kind of node.
void append_toml(toml::array& out, const json& value) {
  if (value.is_object()) {
    toml::table table;
    for (const auto& [key, item] : value.items()) {
      toml::array holder;
      append_toml(holder, item);
      if (!holder.empty()) table.insert(key, holder[0]);
    }
    out.push_back(std::move(table));
  } else if (value.is_array()) {
    toml::array array;
    for (const json& item : value) append_toml(array, item);
    out.push_back(std::move(array));
  } else if (value.is_boolean()) {
    out.push_back(value.get<bool>());
  } else if (value.is_number_integer()) {
    out.push_back(value.get<int64_t>());
  } else if (value.is_number()) {
    out.push_back(value.get<double>());
  } else if (value.is_string()) {
    out.push_back(value.get<std::string>());
  }
}

}  // namespace

std::string to_toml(const json& value) {
  toml::array holder;
  append_toml(holder, value);
  std::ostringstream text;
  if (!holder.empty() && holder[0].is_table()) text << *holder[0].as_table();
  return text.str() + "\n";
}

Status set_by_path(json& root, std::string_view path, std::string_view value) {
  json* at = &root;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string key(path.substr(begin, end - begin));
    if (key.empty()) return fail("--set {}: empty key in the path", path);
    if (at->is_array()) {
      const size_t index =
          key.find_first_not_of("0123456789") == std::string::npos && key.size() < 7
              ? std::stoul(key)
              : at->size();
      if (index >= at->size())
        return fail("--set {}: `{}` must be an index below {}", path, key, at->size());
      at = &(*at)[index];
    } else if (at->is_object() || at->is_null()) {
      at = &(*at)[key];
    } else {
      return fail("--set {}: `{}` is below a value that is not a table", path, key);
    }
    begin = end + 1;
  }
  const Result<json> parsed = parse_toml(fmt::format("value = {}", value), "--set");
  *at = parsed.ok() ? (*parsed)["value"] : json(std::string(value));
  return {};
}

std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  int best_distance = static_cast<int>(word.size()) / 2 + 1;
  for (const std::string& candidate : candidates) {
    const int distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

Table::Table(const json& value, std::string where) : value_(&value), where_(std::move(where)) {
  if (!value.is_object()) error_ = fail("{} must be a table, is {}", where_, shown(value));
}

const json* Table::find(std::string_view key) {
  known_.emplace(key);
  if (!value_->is_object()) return nullptr;
  const auto it = value_->find(std::string(key));
  return it == value_->end() ? nullptr : &*it;
}

const json* Table::require(std::string_view key, bool required) {
  const json* value = find(key);
  if (value == nullptr && required && !error_) error_ = fail("{} needs the key `{}`", where_, key);
  return value;
}

bool Table::has(std::string_view key) const {
  return value_->is_object() && value_->contains(std::string(key));
}

const json* Table::raw(std::string_view key) { return find(key); }

void Table::reject(std::string_view key, std::string_view expected) {
  if (error_) return;
  const json* value = find(key);
  error_ = fail("{} `{}` must be {}, is {}", where_, key, expected,
                value == nullptr ? "missing" : shown(*value));
}

void Table::adopt(Status status) {
  if (!status.ok() && !error_) error_ = status.error();
}

void Table::ignore(const std::vector<std::string>& keys) {
  known_.insert(keys.begin(), keys.end());
}

std::vector<std::string> Table::unread() const {
  std::vector<std::string> out;
  if (!value_->is_object()) return out;
  for (const auto& [key, value] : value_->items())
    if (!known_.contains(key)) out.push_back(key);
  return out;
}

std::string Table::string(std::string_view key, std::optional<std::string> fallback) {
  const json* value = require(key, !fallback);
  if (value == nullptr) return fallback.value_or("");
  if (!value->is_string()) {
    reject(key, "a string");
    return fallback.value_or("");
  }
  return value->get<std::string>();
}

int64_t Table::integer(std::string_view key, std::optional<int64_t> fallback, int64_t minimum,
                       int64_t maximum) {
  const json* value = require(key, !fallback);
  if (value == nullptr) return fallback.value_or(minimum);
  const bool fits = value->is_number_integer() &&
                    !(value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX) &&
                    value->get<int64_t>() >= minimum && value->get<int64_t>() <= maximum;
  if (!fits) {
    reject(key, fmt::format("an integer from {} to {}", minimum, maximum));
    return fallback.value_or(minimum);
  }
  return value->get<int64_t>();
}

double Table::number(std::string_view key, std::optional<double> fallback, double minimum,
                     double maximum) {
  const json* value = require(key, !fallback);
  if (value == nullptr) return fallback.value_or(minimum);
  const bool fits =
      value->is_number() && value->get<double>() >= minimum && value->get<double>() <= maximum;
  if (!fits) {
    reject(key, fmt::format("a number from {} to {}", minimum, maximum));
    return fallback.value_or(minimum);
  }
  return value->get<double>();
}

bool Table::boolean(std::string_view key, std::optional<bool> fallback) {
  const json* value = require(key, !fallback);
  if (value == nullptr) return fallback.value_or(false);
  if (!value->is_boolean()) {
    reject(key, "true or false");
    return fallback.value_or(false);
  }
  return value->get<bool>();
}

std::string Table::choice(std::string_view key, std::optional<std::string> fallback,
                          const std::vector<std::string>& choices) {
  const std::string value = string(key, std::move(fallback));
  if (!error_ && std::find(choices.begin(), choices.end(), value) == choices.end())
    reject(key, fmt::format("one of {}", fmt::join(choices, ", ")));
  return value;
}

std::vector<std::string> Table::strings(std::string_view key) {
  const json* value = find(key);
  std::vector<std::string> out;
  if (value == nullptr) return out;
  if (!value->is_array()) reject(key, "a list of strings");
  for (const json& item : *value) {
    if (!item.is_string()) {
      reject(key, "a list of strings");
      break;
    }
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::vector<double> Table::numbers(std::string_view key, std::vector<double> fallback) {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  std::vector<double> out;
  if (!value->is_array()) reject(key, "a list of numbers");
  for (const json& item : *value) {
    if (!item.is_number()) {
      reject(key, "a list of numbers");
      return fallback;
    }
    out.push_back(item.get<double>());
  }
  return out;
}

Table Table::table(std::string_view key) {
  static const json kEmpty = json::object();
  const json* value = find(key);
  return Table(value == nullptr ? kEmpty : *value, fmt::format("{} [{}]", where_, key));
}

Status Table::finish(bool allow_unknown) {
  if (error_) return *error_;
  if (allow_unknown) return {};
  for (const auto& [key, value] : value_->items()) {
    if (known_.contains(key)) continue;
    const std::string near =
        nearest_name(key, std::vector<std::string>(known_.begin(), known_.end()));
    if (near.empty())
      return fail("{} does not know the key `{}`; it knows {}", where_, key,
                  fmt::join(known_, ", "));
    return fail("{} does not know the key `{}`; did you mean `{}`?", where_, key, near);
  }
  return {};
}

}  // namespace naite
