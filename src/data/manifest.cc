// SPDX-License-Identifier: Apache-2.0
#include "data/manifest.h"

#include "base/json_text.h"
#include "base/shown.h"

namespace naite::data {

using nlohmann::json;

namespace {

constexpr int kVersion = 1;
constexpr int64_t kMax = INT64_MAX;
constexpr int64_t kShardMax = int64_t{1} << 48;  // tokens: their bytes can still be counted

json split_to_json(const ManifestSplit& split) {
  json shards = json::array();
  for (const ManifestShard& shard : split.shards) {
    shards.push_back({{"file", shard.file},
                      {"tokens", shard.tokens},
                      {"documents", shard.documents},
                      {"sha256", shard.sha256},
                      {"starts_sha256", shard.starts_sha256}});
    if (shard.has_weights()) shards.back()["weights_sha256"] = shard.weights_sha256;
  }
  return {{"documents", split.documents},
          {"bytes", split.bytes},
          {"tokens", split.tokens},
          {"shards", shards}};
}

// What reports, model cards and tables quote.
std::string plain_line(Table& table, std::string_view key) {
  std::string text = table.string(key);
  if (!is_plain_line(text)) table.reject(key, kPlainLine);
  return text;
}

// Each element of the array `key` as a table of its own.
template <class Read>
Status read_list(Table& table, std::string_view key, Read read) {
  const json* list = table.raw(key);
  if (list == nullptr || !list->is_array()) {
    table.reject(key, "a list");
    return {};
  }
  for (const json& item : *list) {
    Table entry(item, fmt::format("{} [{}]", table.where(), key));
    read(entry);
    NAITE_TRY(entry.finish());
  }
  return {};
}

ManifestSplit read_split(Table& parent, std::string_view key) {
  Table table = parent.table(key);
  ManifestSplit split;
  split.documents = table.integer("documents", {}, 0, kMax);
  split.bytes = table.integer("bytes", {}, 0, kMax);
  split.tokens = table.integer("tokens", {}, 0, kMax);
  table.adopt(read_list(table, "shards", [&](Table& entry) {
    ManifestShard shard;
    shard.file = entry.string("file");
    shard.tokens = entry.integer("tokens", {}, 0, kShardMax);
    shard.documents = entry.integer("documents", {}, 0, kShardMax);
    shard.sha256 = entry.string("sha256");
    shard.starts_sha256 = entry.string("starts_sha256");
    shard.weights_sha256 = entry.string("weights_sha256", "");
    if (shard.file.empty() || shard.file.find('/') != std::string::npos || shard.file[0] == '.')
      entry.reject("file", "a plain file name");
    split.shards.push_back(std::move(shard));
  }));
  parent.adopt(table.finish());
  return split;
}

ManifestSource read_source(Table& table) {
  ManifestSource source;
  source.name = plain_line(table, "name");
  source.language = plain_line(table, "language");
  source.license = plain_line(table, "license");
  source.origin = plain_line(table, "origin");
  source.files_skipped = table.integer("files_skipped", {}, 0, kMax);
  source.lines_skipped = table.integer("lines_skipped", {}, 0, kMax);
  source.empty_documents = table.integer("empty_documents", {}, 0, kMax);
  source.duplicates = table.integer("duplicates", {}, 0, kMax);
  source.near_duplicates = table.integer("near_duplicates", {}, 0, kMax);
  source.not_remembered = table.integer("not_remembered", {}, 0, kMax);
  source.train = read_split(table, "train");
  source.validation = read_split(table, "validation");
  table.adopt(read_list(table, "files", [&](Table& entry) {
    ManifestFile file;
    file.path = entry.string("path");
    file.bytes = entry.integer("bytes", {}, 0, kMax);
    file.sha256 = entry.string("sha256");
    source.files.push_back(std::move(file));
  }));
  return source;
}

}  // namespace

std::string shard_name(const std::string& stem, size_t number) {
  return fmt::format("{}-{:05}.tokens", stem, number);
}
std::string starts_name(const std::string& shard_file) {
  return shard_file.substr(0, shard_file.rfind('.')) + ".starts";
}
std::string weights_name(const std::string& shard_file) {
  return shard_file.substr(0, shard_file.rfind('.')) + ".weights";
}

json Manifest::to_json() const {
  json list = json::array();
  for (const ManifestSource& source : sources) {
    json files = json::array();
    for (const ManifestFile& file : source.files)
      files.push_back({{"path", file.path}, {"bytes", file.bytes}, {"sha256", file.sha256}});
    list.push_back({{"name", source.name},
                    {"language", source.language},
                    {"license", source.license},
                    {"origin", source.origin},
                    {"files", files},
                    {"files_skipped", source.files_skipped},
                    {"lines_skipped", source.lines_skipped},
                    {"empty_documents", source.empty_documents},
                    {"duplicates", source.duplicates},
                    {"near_duplicates", source.near_duplicates},
                    {"not_remembered", source.not_remembered},
                    {"train", split_to_json(source.train)},
                    {"validation", split_to_json(source.validation)}});
  }
  return {{"version", kVersion},
          {"options", options},
          {"tokenizer_sha256", tokenizer_sha256},
          {"vocab_size", vocab_size},
          {"token_bytes", token_bytes},
          {"end_of_document", end_of_document},
          {"sources", list}};
}

Result<Manifest> Manifest::from_json(const json& value, std::string_view name) {
  Table table(value, std::string(name));
  Manifest manifest;
  table.integer("version", {}, kVersion, kVersion);
  if (const json* options = table.raw("options")) manifest.options = *options;
  manifest.tokenizer_sha256 = table.string("tokenizer_sha256");
  manifest.vocab_size = table.integer("vocab_size", {}, 1, INT32_MAX);
  manifest.token_bytes = static_cast<int>(table.integer("token_bytes", {}, 2, 4));
  if (manifest.token_bytes == 3) table.reject("token_bytes", "2 or 4");
  manifest.end_of_document =
      static_cast<int32_t>(table.integer("end_of_document", {}, 0, manifest.vocab_size - 1));
  table.adopt(read_list(table, "sources",
                        [&](Table& entry) { manifest.sources.push_back(read_source(entry)); }));
  NAITE_TRY(table.finish());
  return manifest;
}

Result<Manifest> Manifest::load(const std::filesystem::path& run_directory) {
  const std::filesystem::path path = run_directory / "data" / "manifest.json";
  NAITE_ASSIGN(const json value, read_json(path, kManifestJson));
  return from_json(value, path.string());
}

}  // namespace naite::data
