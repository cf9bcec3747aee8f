// SPDX-License-Identifier: Apache-2.0
#pragma once
// GGUF version 3: the one-file model format of llama.cpp (version 2 has the same layout and is
// read).
//
//   "GGUF" | u32 version | u64 tensors | u64 keys
//   key:    text name | u32 type | value          text = u64 length, bytes
//   tensor: text name | u32 rank | u64 size[rank], fastest first | u32 type | u64 offset
//   zero padding to `general.alignment` (32 if absent), then the data; each offset counts from the
//   start of the data and is a multiple of the alignment
//   value types: u8 0, i8 1, u16 2, i16 3, u32 4, i32 5, f32 6, bool 7, text 8, array 9 (u32
//   element type, u64 count, elements), u64 10, i64 11, f64 12 tensor types: F32 0, F16 1, Q8_0 8,
//   Q4_K 12, Q6_K 14, I8 24, I16 25, I32 26, I64 27, F64 28, BF16 30
//
// Shapes in memory are row-major as everywhere in Naite: the reverse of the file's order. Reading
// maps the file and copies nothing but names: every count is checked against the bytes that are
// left, so a hostile file costs a small multiple of its own size at most.
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "formats/stored.h"

namespace naite::formats {

enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kText = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// A value as its bytes in the file; for an array the elements' type, number and bytes.
struct GgufValue {
  GgufType type = GgufType::kU8;
  GgufType element = GgufType::kU8;  // of an array; else the type itself
  uint64_t count = 1;
  std::string_view bytes;
};

struct GgufHeader {
  std::map<std::string, GgufValue, std::less<>> values;
  std::vector<StoredTensor> tensors;  // ascending by name
};

// Parse the bytes of a file; `name` stands in messages. All views point into `file`.
Result<GgufHeader> parse_gguf(std::string_view file, std::string_view name);

class Gguf {
 public:
  static Result<Gguf> open(const std::filesystem::path& path);

  const std::vector<StoredTensor>& tensors() const { return header_.tensors; }
  const StoredTensor* find(std::string_view name) const;  // nullptr if absent

  bool has(std::string_view key) const { return header_.values.find(key) != header_.values.end(); }
  std::vector<std::string_view> keys() const;  // ascending
  // Values by key; an error names the file, the key and the type that was expected. Any integer
  // type that fits is an integer, any integer or floating-point type is a number.
  Result<std::string> text(std::string_view key) const;
  Result<int64_t> integer(std::string_view key) const;
  Result<double> number(std::string_view key) const;
  Result<bool> boolean(std::string_view key) const;
  Result<std::vector<std::string_view>> texts(std::string_view key) const;
  Result<std::vector<int64_t>> integers(std::string_view key) const;
  const std::string& name() const { return name_; }

 private:
  Gguf(std::string name, MappedFile file, GgufHeader header)
      : name_(std::move(name)), file_(std::move(file)), header_(std::move(header)) {}
  Result<GgufValue> value(std::string_view key, bool array) const;

  std::string name_;
  MappedFile file_;
  GgufHeader header_;
};

// The keys of a file to be written, in the order of the calls.
class GgufKeys {
 public:
  void text(std::string_view key, std::string_view value);
  void u32(std::string_view key, uint32_t value);
  void f32(std::string_view key, float value);
  void boolean(std::string_view key, bool value);
  void texts(std::string_view key, const std::vector<std::string>& values);
  void i32s(std::string_view key, const std::vector<int32_t>& values);
  void f32s(std::string_view key, const std::vector<float>& values);

  uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void open(std::string_view key, GgufType type);
  void open_array(std::string_view key, GgufType element, uint64_t count);

  uint64_t count_ = 0;
  std::string bytes_;
};

// Version 3, complete or absent (base/files.h); tensors in the order of `specs`, each asked of
// `source` once. Names have at most 64 bytes, ranks are 1 to 4.
Status write_gguf(const std::filesystem::path& path, const GgufKeys& keys,
                  const std::vector<TensorSpec>& specs, const TensorSource& source);

}  // namespace naite::formats
