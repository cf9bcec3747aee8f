// SPDX-License-Identifier: Apache-2.0
#pragma once
// Block-quantised weights as GGUF files hold them. Little-endian; `half` is an fp16 number.
//
//   Q8_0, 32 elements, 34 bytes:    half d | i8 q[32]                          x = d q
//   Q4_K, 256 elements, 144 bytes:  half d | half dmin | u8 s[12] | u8 q[128]  x = d s q - dmin m
//     Eight groups of 32 with a 6-bit scale s and minimum m each. Group j < 4: s = s[j] & 63,
//     m = s[j+4] & 63. Group j >= 4: s = (s[j+4] & 15) | (s[j-4] >> 6) << 4,
//     m = (s[j+4] >> 4) | (s[j] >> 6) << 4. Bytes 32p..32p+31 of q hold group 2p in their low and
//     group 2p + 1 in their high halves.
//   Q6_K, 256 elements, 210 bytes:  u8 low[128] | u8 high[64] | i8 s[16] | half d    x = d s (q -
//   32)
//     Sixteen groups of 16 with a scale s each. Element 128h + 32r + l (l < 32, r < 4) has its low
//     four bits in half r / 2 of low[64h + 32 (r mod 2) + l] and its high two at bit 2r of high[32h
//     + l].
//
// Scales are chosen by least squares: a few starting steps are tried for each group, each gives
// integers, and the scale (and minimum) that fits those integers best is computed in closed form;
// large elements weigh more. The arithmetic is plain fp32 in a fixed order: one input, one output.
#include <span>
#include <string>
#include <string_view>

#include "formats/stored.h"

namespace naite::formats {

// Both are reached through encode_floats and decode_floats of stored.h, which check the sizes.
void quantize(StoredType type, std::span<const float> values, std::string& out);
void dequantize(StoredType type, std::string_view bytes, std::span<float> out);

}  // namespace naite::formats
