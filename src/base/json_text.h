// SPDX-License-Identifier: Apache-2.0
#pragma once
// How much of somebody's file is read whole, and how much JSON is made of it. A parsed value takes
// tens of bytes for the two characters "[]", so text alone bounds nothing: its size, depth and
// number of values are counted before anything is built. parse_json() and read_json() of
// base/config.h and base/files.h go by kJson; what may be larger says so by its kind.
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace naite {

struct JsonBounds {
  int64_t bytes, values;  // at most
};

inline constexpr int kJsonDepthMax = 100;
// Configs, records, indices, entries of logs, lines of data.
inline constexpr JsonBounds kJson = {int64_t{256} << 20, int64_t{1} << 20};
// Lists of source files: four values for each.
inline constexpr JsonBounds kManifestJson = {int64_t{256} << 20, int64_t{1} << 22};
// Vocabularies and merges: up to four values for a token.
inline constexpr JsonBounds kTokenizerJson = {int64_t{512} << 20, int64_t{1} << 23};
// Recipes, policies, settings: as TOML, each value of which takes more.
inline constexpr JsonBounds kToml = {int64_t{4} << 20, int64_t{1} << 18};

// `name` is the file's name for messages.
Result<nlohmann::json> parse_json(std::string_view text, std::string_view name,
                                  const JsonBounds& bounds);
Result<nlohmann::json> read_json(const std::filesystem::path& path, const JsonBounds& bounds);

// A file of at most so many bytes; a larger one, even an endless one, is refused unread.
Result<std::string> read_file(const std::filesystem::path& path, int64_t bytes_max);

// That the text keeps to the bounds. What may separate or open values is counted outside of
// strings, so never fewer values than a parser would make.
Status check_bounds(std::string_view text, std::string_view name, const JsonBounds& bounds);

}  // namespace naite
