// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a step, a scorer or a generator reads, on the host: named columns, each with a type and so
// many rows of a width. A loader fills them, a digest covers them, and a tape::Program takes from
// them, by name, what its leaves need. The columns of text, one row for each of T tokens:
//   ids        int32
//   targets    int32, the token that follows; -1: no loss there
//   positions  int32, in the document
//   spans      int32 [T, 2], see kernels.h, attention; in training they follow from positions
// and, where they are wanted,
//   weights    fp32, what the loss at a target counts; without the column, 1
//   slots      int32, places in a key/value cache
// What is no token (pixels, samples) is one more column with rows of its own.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/sha256.h"

namespace naite {

class Batch {
 public:
  struct Column {
    std::string name;
    int64_t rows = 0, width = 1;
    bool is_derived = false;  // follows from others: outside of the digest
    std::variant<std::vector<int32_t>, std::vector<float>> values;
    bool operator==(const Column&) const = default;

    bool is_float() const { return values.index() == 1; }
    int64_t bytes() const { return rows * width * 4; }
    const void* data() const;
  };

  // The columns of text, for so many tokens.
  static Batch text(int64_t tokens);

  // Takes no memory before it is first written.
  void add_ints(std::string name, int64_t rows, int64_t width = 1, bool is_derived = false);
  void add_floats(std::string name, int64_t rows, int64_t width = 1, bool is_derived = false);

  bool has(std::string_view name) const;
  const Column& column(std::string_view name) const;  // it must exist
  const std::vector<Column>& columns() const { return columns_; }
  int64_t bytes() const;
  bool operator==(const Batch&) const = default;

  // The values of a column of that type, which must exist.
  std::span<int32_t> ints(std::string_view name);
  std::span<const int32_t> ints(std::string_view name) const;
  std::span<float> floats(std::string_view name);
  std::span<const float> floats(std::string_view name) const;

  // Makes the tokens from `first` on padding: id 0, no target, and each sees itself alone.
  void pad(int64_t first);

 private:
  Column& find(std::string_view name);
  std::vector<Column> columns_;
};

// What these batches hold together, as if they were one: SHA-256 over the ids of all, then the
// targets of all, then the positions of all, little-endian; then, for every other column that is
// not derived, its name, a line end and its values.
Digest digest_of(std::span<const Batch> batches);

}  // namespace naite
