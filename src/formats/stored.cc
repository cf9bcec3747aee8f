// SPDX-License-Identifier: Apache-2.0
#include "formats/stored.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/shown.h"
#include "base/utf8.h"
#include "formats/quantize.h"

namespace naite::formats {

namespace {

constexpr std::array<StoredTypeInfo, 16> kTypes = {{
    {StoredType::kBool, "BOOL", 1, 1},
    {StoredType::kU8, "U8", 1, 1},
    {StoredType::kI8, "I8", 1, 1},
    {StoredType::kU16, "U16", 1, 2},
    {StoredType::kI16, "I16", 1, 2},
    {StoredType::kF16, "F16", 1, 2},
    {StoredType::kBf16, "BF16", 1, 2},
    {StoredType::kU32, "U32", 1, 4},
    {StoredType::kI32, "I32", 1, 4},
    {StoredType::kF32, "F32", 1, 4},
    {StoredType::kU64, "U64", 1, 8},
    {StoredType::kI64, "I64", 1, 8},
    {StoredType::kF64, "F64", 1, 8},
    {StoredType::kQ8_0, "Q8_0", 32, 34},
    {StoredType::kQ4K, "Q4_K", 256, 144},
    {StoredType::kQ6K, "Q6_K", 256, 210},
}};

template <class T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float flushed(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return (bits & 0x7f800000u) == 0 ? std::bit_cast<float>(bits & 0x80000000u) : value;
}

template <class T, class Convert>
void decode_each(std::string_view bytes, std::span<float> out, Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = convert(load<T>(bytes.data() + i * sizeof(T)));
}

template <class T, class Convert>
void encode_each(std::span<const float> values, std::string& out, Convert convert) {
  const size_t start = out.size();
  out.resize(start + values.size() * sizeof(T));
  char* at = out.data() + start;
  for (size_t i = 0; i < values.size(); ++i) {
    const T bits = convert(values[i]);
    std::memcpy(at + i * sizeof(T), &bits, sizeof bits);
  }
}

}  // namespace

const StoredTypeInfo& stored_type_info(StoredType type) {
  const StoredTypeInfo& info = kTypes[static_cast<size_t>(type)];
  NAITE_CHECK(info.type == type, "the table of stored types is out of order");
  return info;
}

Result<int64_t> element_count(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t dimension : shape)
    if (dimension < 0 || __builtin_mul_overflow(count, dimension, &count))
      return fail("shape {} has no valid number of elements", shape_text(shape));
  return count;
}

Result<int64_t> stored_bytes(StoredType type, const Shape& shape) {
  const StoredTypeInfo& info = stored_type_info(type);
  NAITE_ASSIGN(const int64_t count, element_count(shape));
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (row % info.block_elements != 0)
    return fail("rows of {} elements do not divide into {} blocks of {}", row, info.name,
                info.block_elements);
  int64_t bytes = 0;
  if (__builtin_mul_overflow(count / info.block_elements, info.block_bytes, &bytes))
    return fail("shape {} does not fit 63 bits of bytes", shape_text(shape));
  return bytes;
}

std::string_view torch_name(StoredType type) {
  if (type == StoredType::kBf16) return "bfloat16";
  return type == StoredType::kF16 ? "float16" : "float32";
}

std::string shape_text(const Shape& shape) {
  constexpr size_t kShown = 8;
  const size_t shown = std::min(shape.size(), kShown);
  return fmt::format("[{}{}]", fmt::join(shape.begin(), shape.begin() + shown, ", "),
                     shape.size() > kShown ? ", ..." : "");
}

std::string shown_name(std::string_view name) {
  constexpr size_t kShown = 80;
  const std::string text = shown_line(name.substr(0, floor_to_char(name, kShown)));
  return name.size() > kShown ? text + "..." : text;
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  uint32_t fraction = bits & 0x03ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  if (fraction == 0) return std::bit_cast<float>(sign);
  // A subnormal half, fraction x 2^-24: shift the leading bit up to bit 10.
  uint32_t shift = 0;
  while ((fraction & 0x0400u) == 0) {
    fraction <<= 1;
    ++shift;
  }
  return std::bit_cast<float>(sign | ((113 - shift) << 23) | ((fraction & 0x03ffu) << 13));
}

uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // >= 65520
  if (magnitude >= 0x38800000u) {                                              // >= 2^-14: normal
    const uint32_t rounded = magnitude + 0x0fffu + ((magnitude >> 13) & 1u);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
  if (magnitude < 0x33000000u) return sign;  // below 2^-25: rounds to zero
  // Subnormal half: the significand shifted so that one unit is 2^-24, ties to even.
  const uint32_t significand = (magnitude & 0x007fffffu) | 0x00800000u;
  const uint32_t shift = 126 - (magnitude >> 23);
  const uint32_t kept = significand >> shift;
  const uint32_t rest = significand & ((1u << shift) - 1);
  const uint32_t half = 1u << (shift - 1);
  const uint32_t up = rest > half || (rest == half && (kept & 1u)) ? 1 : 0;
  return static_cast<uint16_t>(sign | (kept + up));
}

Status read_floats(const StoredTensor& tensor, std::span<float> out) {
  const Status status = decode_floats(tensor.type, tensor.bytes, out);
  if (!status) return fail("tensor {}: {}", shown_name(tensor.name), status.error().message);
  return {};
}

Status decode_floats(StoredType type, std::string_view bytes, std::span<float> out) {
  const StoredTypeInfo& info = stored_type_info(type);
  const auto blocks = static_cast<int64_t>(out.size()) / info.block_elements;
  NAITE_CHECK(blocks * info.block_elements == static_cast<int64_t>(out.size()) &&
                  blocks * info.block_bytes == static_cast<int64_t>(bytes.size()),
              "{} bytes of {} for {} elements", bytes.size(), info.name, out.size());
  switch (type) {
    case StoredType::kF32:
      decode_each<float>(bytes, out, flushed);
      return {};
    case StoredType::kF16:
      decode_each<uint16_t>(bytes, out, half_to_float);
      return {};
    case StoredType::kBf16:
      decode_each<uint16_t>(bytes, out, bf16_to_float);
      return {};
    case StoredType::kF64:
      decode_each<double>(bytes, out, [](double x) { return flushed(static_cast<float>(x)); });
      return {};
    case StoredType::kQ8_0:
    case StoredType::kQ4K:
    case StoredType::kQ6K:
      dequantize(type, bytes, out);
      return {};
    default:
      return fail("{} does not hold floating-point numbers", info.name);
  }
}

Result<ValueCounts> count_values(StoredType type, std::string_view bytes) {
  constexpr int64_t kElements = 4096;  // whole blocks of every type
  const StoredTypeInfo& info = stored_type_info(type);
  std::vector<float> values;
  ValueCounts counts;
  while (!bytes.empty()) {
    const auto piece =
        bytes.substr(0, static_cast<size_t>(kElements / info.block_elements * info.block_bytes));
    bytes.remove_prefix(piece.size());
    values.resize(piece.size() / static_cast<size_t>(info.block_bytes) *
                  static_cast<size_t>(info.block_elements));
    NAITE_TRY(decode_floats(type, piece, values));
    for (const float value : values) {
      counts.not_finite += std::isfinite(value) ? 0 : 1;
      counts.zero += value == 0 ? 1 : 0;
    }
  }
  return counts;
}

Status encode_floats(StoredType type, std::span<const float> values, std::string& out) {
  switch (type) {
    case StoredType::kF32:
      encode_each<float>(values, out, flushed);
      return {};
    case StoredType::kF16:
      encode_each<uint16_t>(values, out, float_to_half);
      return {};
    case StoredType::kBf16:
      encode_each<uint16_t>(values, out, float_to_bf16);
      return {};
    case StoredType::kF64:
      encode_each<double>(values, out, [](float x) { return static_cast<double>(flushed(x)); });
      return {};
    case StoredType::kQ8_0:
    case StoredType::kQ4K:
    case StoredType::kQ6K:
      NAITE_CHECK(values.size() % stored_type_info(type).block_elements == 0, "a partial block");
      quantize(type, values, out);
      return {};
    default:
      return fail("{} does not hold floating-point numbers", stored_type_info(type).name);
  }
}

}  // namespace naite::formats
