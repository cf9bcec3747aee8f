// SPDX-License-Identifier: Apache-2.0
// A plugin for tests, which knows no Parquet: what stands behind the first mark of the file, up to
// "=", are its rows, a line each. "-" is a null, "!" an error, "*" rows of nothing without end.
#include <unistd.h>

#include <cstdio>
#include <string>

#include "data/parquet_plugin.h"

namespace naite::data {

struct ParquetPluginFile {
  std::string bytes, row;
  size_t at = 4;
  int64_t number = 0;
};

namespace {

ParquetPluginFile* open(int descriptor, const char* column, ParquetPluginError* error) {
  if (std::string(column) != "text") {
    std::snprintf(error->text, sizeof error->text, "no column `%s`", column);
    return nullptr;
  }
  auto* file = new ParquetPluginFile{std::string(1 << 16, '\0'), {}};
  file->bytes.resize(
      static_cast<size_t>(::pread(descriptor, file->bytes.data(), file->bytes.size(), 0)));
  return file;
}

ParquetPluginResult next(ParquetPluginFile* file, ParquetPluginRow* row,
                         ParquetPluginError* error) {
  const size_t end = file->bytes.find('\n', file->at);
  file->row = file->bytes.substr(file->at, end - file->at);
  if (file->row == "=") return ParquetPluginResult::kEnd;
  if (file->row == "!") {
    std::snprintf(error->text, sizeof error->text, "two\nlines");
    return ParquetPluginResult::kError;
  }
  *row = {file->row.data(), file->row.size(), ++file->number, file->row == "-"};
  if (file->row == "*" || file->row == "-") row->bytes = 0;
  if (file->row != "*") file->at = end + 1;
  return ParquetPluginResult::kRow;
}

void close(ParquetPluginFile* file) { delete file; }

constexpr ParquetPlugin kPlugin = {open, next, close};

}  // namespace
}  // namespace naite::data

extern "C" __attribute__((visibility("default"))) const naite::data::ParquetPlugin*
naite_parquet_plugin_1() {
  return &naite::data::kPlugin;
}
