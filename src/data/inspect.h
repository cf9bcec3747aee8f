// SPDX-License-Identifier: Apache-2.0
#pragma once
// Looking into the packed text of a run: any document decoded again, a random row, where a phrase
// occurs.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "data/manifest.h"
#include "data/tokenizer.h"

namespace naite::data {

struct PackedRow {
  std::string source;
  int64_t first_token = 0, first_document = 0;
  std::string text;
};

struct PhraseHit {
  std::string source;
  bool validation = false;
  int64_t document = 0;
  int64_t byte = 0;     // in the document's text
  std::string context;  // the phrase and what stands around it
};

struct PhraseHits {
  int64_t count = 0;            // all of them
  std::vector<PhraseHit> hits;  // the first few
};

class PackedText {
 public:
  static Result<PackedText> open(const std::filesystem::path& run_directory);
  PackedText(PackedText&&) noexcept;
  ~PackedText();

  const Manifest& manifest() const;
  std::string document(int source, bool validation, int64_t index) const;
  // `length` tokens from a place that `seed` chooses, in training text.
  PackedRow random_row(int64_t length, uint64_t seed) const;
  PhraseHits find(std::string_view phrase, int64_t hits_max, ThreadPool& pool) const;

 private:
  struct State;
  explicit PackedText(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace naite::data
