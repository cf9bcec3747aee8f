// SPDX-License-Identifier: Apache-2.0
#pragma once
// The recipe's tables [tokenizer], [data] and [[data.source]]. from_table() reads and checks them
// key by key; to_json() writes them back with every default spelled out, in the recipe's own keys.
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/base.h"

namespace naite::data {

struct TokenizerOptions {
  // Size of the whole vocabulary: 256 bytes, merges, special tokens. 256 asks for plain bytes and
  // the special tokens, without merges; the vocabulary is then 256 + kNumSpecialTokens.
  int64_t vocab_size = 8192;
  std::string file;  // a tokenizer.json to use instead of training one; empty: train

  static Result<TokenizerOptions> from_table(Table& table);
  nlohmann::json to_json() const;
};

// The weight of a source when `progress` (0..1) of the steps are done; linear between points.
struct WeightPoint {
  double progress = 0.0, weight = 1.0;
};

struct SourceOptions {
  std::string name;
  std::string path;  // file, folder or glob
  std::string document =
      "file";  // "file", "line" or "blank_line"; a .jsonl line or a Parquet row is one always
  std::string text_key = "text";  // the .jsonl key or Parquet column that holds it
  std::string language;           // such as "ko"; empty: the source's name stands for it
  std::vector<WeightPoint> weight = {{0.0, 1.0}};
  std::string license, origin;

  double weight_at(double progress) const;

  static Result<SourceOptions> from_table(Table& table);
  nlohmann::json to_json() const;
};

struct DataOptions {
  std::vector<SourceOptions> sources;  // at least one, names are unique
  int64_t sequence_length = 512;
  double validation = 0.02;            // share of documents held out, 0 to 0.5
  std::string attention = "document";  // "document": a token sees its own document; "full": its row
  std::string packing = "concatenate";     // or "xlda": neighbouring documents differ in language
  double language_switch = 0.5;            // xlda: with this probability
  bool deduplicate = true;                 // drop documents that are byte for byte the same
  std::string near_duplicates = "report";  // "off", "report" or "drop"
  bool strict = false;  // a broken .jsonl line or Parquet row is fatal, not skipped and counted

  static Result<DataOptions> from_table(Table& table);
  nlohmann::json to_json() const;
};

}  // namespace naite::data
