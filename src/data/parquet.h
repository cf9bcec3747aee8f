// SPDX-License-Identifier: Apache-2.0
#pragma once
// The rows of a Parquet file, one text after another, in bounded memory. The format is read by
// Arrow's libraries, in a plugin that is loaded when the first such file is opened: the program
// runs without them, and then refuses such files with the commands that bring the plugin.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/base.h"

namespace naite::data {

struct ParquetRow {
  int64_t number = 0;     // from 1
  std::string_view text;  // UTF-8, valid until the next row is read
  bool null = false;      // nothing is there
  std::string problem;    // if not empty: why this row has no text
};

class ParquetFile {
 public:
  // `text_key`: the column, with dots into structs. The plugin is the file that the environment
  // variable NAITE_PARQUET_PLUGIN names, else naite_parquet.so beside the program.
  static Result<ParquetFile> open(const std::filesystem::path& path, const std::string& text_key);
  ParquetFile(ParquetFile&&) noexcept;
  ~ParquetFile();

  Result<std::optional<ParquetRow>> next();  // nothing: the end
  int64_t file_bytes() const;

 private:
  struct State;
  explicit ParquetFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace naite::data
