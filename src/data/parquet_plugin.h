// SPDX-License-Identifier: Apache-2.0
#pragma once
// What naite_parquet.so gives the program: the rows of one text column of a Parquet file. Arrow's
// libraries stand behind it; nothing of theirs, no type, exception or allocation, crosses it, so
// the program neither links them nor needs their compiler flags. A plugin that another build made
// does not have the symbol below: its number rises with every change of this file.
#include <cstddef>
#include <cstdint>

namespace naite::data {

struct ParquetPluginFile;

struct ParquetPluginRow {
  const char* text;  // `bytes` of it, valid until the next call; any bytes, not yet seen as UTF-8
  size_t bytes;
  int64_t number;  // from 1
  bool null;       // the row holds no text: not even an empty one
};

struct ParquetPluginError {
  char text[2048];  // what is wrong, without the file's name; ends with a NUL
};

enum class ParquetPluginResult : int32_t { kRow, kEnd, kError };

struct ParquetPlugin {
  // Reads `column`, a name or a dotted path; the descriptor stays the caller's. Null on errors.
  ParquetPluginFile* (*open)(int descriptor, const char* column, ParquetPluginError* error);
  ParquetPluginResult (*next)(ParquetPluginFile* file, ParquetPluginRow* row,
                              ParquetPluginError* error);
  void (*close)(ParquetPluginFile* file);
};

inline constexpr char kParquetPluginSymbol[] = "naite_parquet_plugin_1";
inline constexpr char kParquetPluginName[] = "naite_parquet.so";

}  // namespace naite::data

extern "C" const naite::data::ParquetPlugin* naite_parquet_plugin_1();
