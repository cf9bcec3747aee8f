// SPDX-License-Identifier: Apache-2.0
#pragma once
// Tensors as files hold them: a name, an element type, a shape, and a view of little-endian bytes,
// row-major, the last dimension running fastest. Every weight format (safetensors, GGUF) reads into
// these and writes from these, so what a model does with weights is written once.
//
// Conversions: reading gives fp32 exactly; fp32 and bf16 subnormals become zero of their sign, as
// in base/bytes.h (fp16 subnormals are normal fp32 numbers and stay). Writing rounds to nearest
// even. Views do not own their bytes: the reader that made them must outlive them. Bytes may be
// unaligned.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace naite::formats {

enum class StoredType : uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kF16,
  kBf16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
  kQ8_0,  // block-quantised, in GGUF files only: formats/quantize.h
  kQ4K,
  kQ6K,
};

struct StoredTypeInfo {
  StoredType type;
  std::string_view name;   // as safetensors and GGUF spell it
  int64_t block_elements;  // elements that share one block; 1 for plain types
  int64_t block_bytes;
};
const StoredTypeInfo& stored_type_info(StoredType type);

using Shape = std::vector<int64_t>;

// What a tensor is, before its bytes exist.
struct TensorSpec {
  std::string name;
  StoredType type = StoredType::kF32;
  Shape shape;
};

// A tensor in a file that is open.
struct StoredTensor : TensorSpec {
  std::string_view bytes;
};

// Number of elements; an error if a dimension is negative or the product does not fit int64.
Result<int64_t> element_count(const Shape& shape);
// Bytes of a tensor of this shape; an error also if rows do not consist of whole blocks.
Result<int64_t> stored_bytes(StoredType type, const Shape& shape);
// As configs of Hugging Face call it: "bfloat16", "float16", "float32" for everything else.
std::string_view torch_name(StoredType type);
std::string shape_text(const Shape& shape);  // "[4, 8]"
// A name from a file, made safe for a message (base/shown.h): its first 80 bytes.
std::string shown_name(std::string_view name);

// fp16 bits <-> float; exact one way, round to nearest even the other. Subnormal halves are kept.
float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);

// The elements as fp32. `out` has one place for each; integer types cannot be read so.
Status read_floats(const StoredTensor& tensor, std::span<float> out);
Status decode_floats(StoredType type, std::string_view bytes, std::span<float> out);
struct ValueCounts {
  int64_t not_finite = 0, zero = 0;
};
// What the values are that the bytes stand for.
Result<ValueCounts> count_values(StoredType type, std::string_view bytes);
// The bytes of `values` in a floating-point or quantised type; appended to `out`.
Status encode_floats(StoredType type, std::span<const float> values, std::string& out);

// How a writer asks for one tensor's bytes: the source calls the sink with consecutive pieces.
using ByteSink = std::function<Status(const void* data, size_t bytes)>;
using TensorSource = std::function<Status(const TensorSpec& spec, const ByteSink& sink)>;

}  // namespace naite::formats
