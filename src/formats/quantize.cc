// SPDX-License-Identifier: Apache-2.0
#include "formats/quantize.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

namespace naite::formats {

namespace {

constexpr int kQ8Block = 32;
constexpr int kSuperBlock = 256;
constexpr int kQ4Groups = 8, kQ4Group = 32;
constexpr int kQ6Groups = 16, kQ6Group = 16;

struct Q8Block {
  uint16_t d;
  int8_t q[kQ8Block];
};
struct Q4Block {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t q[kSuperBlock / 2];
};
struct Q6Block {
  uint8_t low[kSuperBlock / 2];
  uint8_t high[kSuperBlock / 4];
  int8_t scales[kQ6Groups];
  uint16_t d;
};
static_assert(sizeof(Q8Block) == 34 && sizeof(Q4Block) == 144 && sizeof(Q6Block) == 210);

float magnitude(float x) { return x < 0.0f ? -x : x; }

// The nearest integer, ties to even; callers clamp what exceeds their range. Not a number counts as
// 0.
int nearest(float x) {
  if (!(x == x)) return 0;
  constexpr float kMagic = 12582912.0f;  // 1.5 x 2^23
  const float clamped = std::clamp(x, -4194304.0f, 4194304.0f);
  return static_cast<int>((clamped + kMagic) - kMagic);
}

float inverse(float x) { return x != 0.0f ? 1.0f / x : 0.0f; }

Q8Block quantize_q8(const float* x) {
  float largest = 0.0f;
  for (int i = 0; i < kQ8Block; ++i) largest = std::max(largest, magnitude(x[i]));
  const float scale = largest / 127.0f;
  const float steps = inverse(scale);
  Q8Block block;
  block.d = float_to_half(scale);
  for (int i = 0; i < kQ8Block; ++i)
    block.q[i] = static_cast<int8_t>(std::clamp(nearest(x[i] * steps), -127, 127));
  return block;
}

void dequantize_q8(const Q8Block& block, float* x) {
  const float d = half_to_float(block.d);
  for (int i = 0; i < kQ8Block; ++i) x[i] = d * static_cast<float>(block.q[i]);
}

// x = scale q - minimum with q in 0..15, scale and minimum not negative.
struct AffineFit {
  float scale = 0.0f, minimum = 0.0f;
};

AffineFit fit_affine(const float* x) {
  float low = 0.0f, high = x[0], squares = 0.0f;
  for (int i = 0; i < kQ4Group; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    squares = squares + x[i] * x[i];
  }
  AffineFit best;
  best.minimum = -low;
  if (!(high > low)) return best;
  best.scale = (high - low) / 15.0f;
  // Elements that are large among their neighbours matter more for the layer's output.
  const float mean = squares / static_cast<float>(kQ4Group);
  float best_error = std::numeric_limits<float>::max();
  for (int candidate = -5; candidate <= 15; ++candidate) {
    const float steps = (15.0f + 0.1f * static_cast<float>(candidate)) / (high - low);
    float w_sum = 0, q_sum = 0, qq_sum = 0, x_sum = 0, xq_sum = 0;
    int q[kQ4Group];
    for (int i = 0; i < kQ4Group; ++i) {
      q[i] = std::clamp(nearest((x[i] - low) * steps), 0, 15);
      const float w = mean + x[i] * x[i], integer = static_cast<float>(q[i]);
      w_sum += w;
      q_sum += w * integer;
      qq_sum += w * integer * integer;
      x_sum += w * x[i];
      xq_sum += w * x[i] * integer;
    }
    const float determinant = w_sum * qq_sum - q_sum * q_sum;
    if (!(determinant > 0.0f)) continue;
    AffineFit fit;
    fit.scale = (w_sum * xq_sum - x_sum * q_sum) / determinant;
    fit.minimum = (q_sum * xq_sum - qq_sum * x_sum) / determinant;
    if (fit.minimum < 0.0f) {  // only subtraction is possible: fit the scale alone
      fit.minimum = 0.0f;
      fit.scale = xq_sum / qq_sum;
    }
    if (!(fit.scale > 0.0f)) continue;
    float error = 0.0f;
    for (int i = 0; i < kQ4Group; ++i) {
      const float difference = fit.scale * static_cast<float>(q[i]) - fit.minimum - x[i];
      error += (mean + x[i] * x[i]) * difference * difference;
    }
    if (error < best_error) {
      best_error = error;
      best = fit;
    }
  }
  return best;
}

void pack_scales(const std::array<int, kQ4Groups>& scale, const std::array<int, kQ4Groups>& minimum,
                 uint8_t* packed) {
  std::fill_n(packed, 12, uint8_t{0});
  for (int j = 0; j < 4; ++j) {
    packed[j] = static_cast<uint8_t>(scale[j] | (scale[j + 4] >> 4) << 6);
    packed[j + 4] = static_cast<uint8_t>(minimum[j] | (minimum[j + 4] >> 4) << 6);
    packed[j + 8] = static_cast<uint8_t>((scale[j + 4] & 15) | (minimum[j + 4] & 15) << 4);
  }
}

int scale_of(const uint8_t* packed, int j) {
  return j < 4 ? packed[j] & 63 : (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
}
int minimum_of(const uint8_t* packed, int j) {
  return j < 4 ? packed[j + 4] & 63 : packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
}

Q4Block quantize_q4(const float* x) {
  std::array<AffineFit, kQ4Groups> fits;
  float scale_max = 0.0f, minimum_max = 0.0f;
  for (int j = 0; j < kQ4Groups; ++j) {
    fits[j] = fit_affine(x + j * kQ4Group);
    scale_max = std::max(scale_max, fits[j].scale);
    minimum_max = std::max(minimum_max, fits[j].minimum);
  }
  Q4Block block;
  block.d = float_to_half(scale_max / 63.0f);
  block.dmin = float_to_half(minimum_max / 63.0f);
  const float d = half_to_float(block.d), dmin = half_to_float(block.dmin);
  std::array<int, kQ4Groups> scale, minimum;
  std::array<uint8_t, kSuperBlock> q;
  for (int j = 0; j < kQ4Groups; ++j) {
    scale[j] = std::clamp(nearest(fits[j].scale * inverse(d)), 0, 63);
    minimum[j] = std::clamp(nearest(fits[j].minimum * inverse(dmin)), 0, 63);
    // The integers are chosen for the scales that the file will hold, not for the ideal ones.
    const float steps = inverse(d * static_cast<float>(scale[j]));
    const float shift = dmin * static_cast<float>(minimum[j]);
    for (int i = 0; i < kQ4Group; ++i) {
      const int at = j * kQ4Group + i;
      q[at] = static_cast<uint8_t>(std::clamp(nearest((x[at] + shift) * steps), 0, 15));
    }
  }
  pack_scales(scale, minimum, block.scales);
  for (int pair = 0; pair < kQ4Groups / 2; ++pair)
    for (int i = 0; i < kQ4Group; ++i)
      block.q[pair * 32 + i] = static_cast<uint8_t>(q[pair * 64 + i] | q[pair * 64 + 32 + i] << 4);
  return block;
}

void dequantize_q4(const Q4Block& block, float* x) {
  const float d = half_to_float(block.d), dmin = half_to_float(block.dmin);
  for (int j = 0; j < kQ4Groups; ++j) {
    const float scale = d * static_cast<float>(scale_of(block.scales, j));
    const float shift = dmin * static_cast<float>(minimum_of(block.scales, j));
    for (int i = 0; i < kQ4Group; ++i) {
      const int q = block.q[j / 2 * 32 + i] >> (j % 2 * 4) & 15;
      x[j * kQ4Group + i] = scale * static_cast<float>(q) - shift;
    }
  }
}

// x = scale q with q in -32..31; the scale may be negative, to give the longer side to the extreme.
float fit_symmetric(const float* x) {
  float extreme = 0.0f;
  for (int i = 0; i < kQ6Group; ++i)
    if (magnitude(x[i]) > magnitude(extreme)) extreme = x[i];
  if (extreme == 0.0f) return 0.0f;
  float best_scale = extreme / -32.0f, best_gain = 0.0f;
  for (int candidate = -9; candidate <= 9; ++candidate) {
    const float steps = -(32.0f + 0.1f * static_cast<float>(candidate)) / extreme;
    float xq_sum = 0.0f, qq_sum = 0.0f;
    for (int i = 0; i < kQ6Group; ++i) {
      const auto q = static_cast<float>(std::clamp(nearest(x[i] * steps), -32, 31));
      const float w = x[i] * x[i];
      xq_sum += w * x[i] * q;
      qq_sum += w * q * q;
    }
    // Least squares: the error falls by xq^2 / qq.
    if (qq_sum > 0.0f && xq_sum * xq_sum > best_gain * qq_sum) {
      best_scale = xq_sum / qq_sum;
      best_gain = xq_sum * xq_sum / qq_sum;
    }
  }
  return best_scale;
}

Q6Block quantize_q6(const float* x) {
  std::array<float, kQ6Groups> fits;
  float largest = 0.0f;
  for (int j = 0; j < kQ6Groups; ++j) {
    fits[j] = fit_symmetric(x + j * kQ6Group);
    largest = std::max(largest, magnitude(fits[j]));
  }
  Q6Block block{};
  block.d = float_to_half(largest / 127.0f);
  const float d = half_to_float(block.d);
  for (int j = 0; j < kQ6Groups; ++j) {
    const int scale = std::clamp(nearest(fits[j] * inverse(d)), -127, 127);
    block.scales[j] = static_cast<int8_t>(scale);
    const float steps = inverse(d * static_cast<float>(scale));
    for (int i = 0; i < kQ6Group; ++i) {
      const int at = j * kQ6Group + i;
      const int q = std::clamp(nearest(x[at] * steps), -32, 31) + 32;
      const int half = at / 128, row = at % 128 / 32, l = at % 32;
      block.low[64 * half + 32 * (row % 2) + l] |= static_cast<uint8_t>((q & 15) << row / 2 * 4);
      block.high[32 * half + l] |= static_cast<uint8_t>(q >> 4 << 2 * row);
    }
  }
  return block;
}

void dequantize_q6(const Q6Block& block, float* x) {
  const float d = half_to_float(block.d);
  for (int at = 0; at < kSuperBlock; ++at) {
    const int half = at / 128, row = at % 128 / 32, l = at % 32;
    const int low = block.low[64 * half + 32 * (row % 2) + l] >> (row / 2 * 4) & 15;
    const int high = block.high[32 * half + l] >> 2 * row & 3;
    x[at] = d * static_cast<float>(block.scales[at / kQ6Group]) *
            static_cast<float>((low | high << 4) - 32);
  }
}

template <class Block, class Make>
void quantize_blocks(std::span<const float> values, int elements, std::string& out, Make make) {
  for (size_t at = 0; at < values.size(); at += elements) {
    const Block block = make(values.data() + at);
    out.append(reinterpret_cast<const char*>(&block), sizeof block);
  }
}

template <class Block, class Read>
void dequantize_blocks(std::string_view bytes, std::span<float> out, int elements, Read read) {
  Block block;
  for (size_t i = 0; i * sizeof block < bytes.size(); ++i) {
    std::memcpy(&block, bytes.data() + i * sizeof block, sizeof block);
    read(block, out.data() + i * elements);
  }
}

}  // namespace

void quantize(StoredType type, std::span<const float> values, std::string& out) {
  if (type == StoredType::kQ8_0)
    return quantize_blocks<Q8Block>(values, kQ8Block, out, quantize_q8);
  if (type == StoredType::kQ4K)
    return quantize_blocks<Q4Block>(values, kSuperBlock, out, quantize_q4);
  NAITE_CHECK(type == StoredType::kQ6K, "{} is not quantised", stored_type_info(type).name);
  quantize_blocks<Q6Block>(values, kSuperBlock, out, quantize_q6);
}

void dequantize(StoredType type, std::string_view bytes, std::span<float> out) {
  if (type == StoredType::kQ8_0)
    return dequantize_blocks<Q8Block>(bytes, out, kQ8Block, dequantize_q8);
  if (type == StoredType::kQ4K)
    return dequantize_blocks<Q4Block>(bytes, out, kSuperBlock, dequantize_q4);
  NAITE_CHECK(type == StoredType::kQ6K, "{} is not quantised", stored_type_info(type).name);
  dequantize_blocks<Q6Block>(bytes, out, kSuperBlock, dequantize_q6);
}

}  // namespace naite::formats
