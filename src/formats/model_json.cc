// SPDX-License-Identifier: Apache-2.0
#include "formats/model_json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "formats/stored.h"

namespace naite::formats {

using nlohmann::json;

namespace {

// Follows the text token by token and stops at the first key that its table has already.
class KeyReader : public nlohmann::json_sax<json> {
 public:
  std::string twice;

  bool start_object(size_t) override {
    keys_.emplace_back();
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    return true;
  }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    twice = name;
    return false;
  }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool parse_error(size_t, const std::string&, const json::exception&) override { return false; }

 private:
  std::vector<std::set<std::string>> keys_;
};

}  // namespace

Error unreadable(std::string_view bytes, std::string_view name, Error otherwise) {
  if (bytes.empty()) return fail("{}: is empty (truncated): fetch or copy it again", name);
  const std::optional<ForeignFile> foreign = what_is(bytes.substr(0, kForeignBytes));
  if (!foreign) return otherwise;
  return fail("{}: is {}: {}", name, foreign->what, foreign->advice);
}

Result<json> parse_model_json(std::string_view text, std::string_view name,
                              const JsonBounds& bounds) {
  Result<json> parsed = parse_json(text, name, bounds);
  if (!parsed) return unreadable(text, name, parsed.error());
  KeyReader reader;
  if (!json::sax_parse(text.begin(), text.end(), &reader))
    return fail("{}: the key `{}` stands twice in one table", name, shown_name(reader.twice));
  return parsed;
}

Result<json> read_model_json(const std::filesystem::path& path) {
  NAITE_ASSIGN(const std::string text, read_file(path, kJson.bytes));
  return parse_model_json(text, path.string());
}

}  // namespace naite::formats
