// SPDX-License-Identifier: Apache-2.0
#pragma once
// Soft bfloat16 and the bytes of plain values. All formats here are little-endian, as are the
// machines that Naite runs on.
#include <bit>
#include <cstdint>

namespace naite {

static_assert(std::endian::native == std::endian::little);

// bfloat16 bits -> float. Exact; a subnormal becomes zero of its sign (docs/NUMERICS.md, "Flush").
inline float bf16_to_float(uint16_t bits) {
  if ((bits & 0x7f80u) == 0) bits &= 0x8000u;
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

// float -> bfloat16 bits, round to nearest even; subnormals become zero of their sign, a NaN stays
// a quiet NaN. Equal to the instruction vcvtneps2bf16 on every one of the 2^32 inputs.
inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t exponent = bits & 0x7f800000u;
  if (exponent == 0) return static_cast<uint16_t>((bits >> 16) & 0x8000u);
  if (exponent == 0x7f800000u && (bits & 0x007fffffu) != 0)
    return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace naite
