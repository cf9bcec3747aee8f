// SPDX-License-Identifier: Apache-2.0
// Tiles of 6 rows x 16 columns in 12 ymm accumulators: per element of depth 2 loads of the panel, 6
// broadcasts from the rows and 12 fma. bf16 operands arrive expanded to fp32 in the order 1, 0, 3,
// 2, ...
#include "kernels/cpu/tiles.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/cpu/packing.h"

#define NAITE_AVX2 __attribute__((target("avx2,fma,bmi,bmi2,prfchw")))

namespace naite::kernels::cpu {

namespace {

constexpr int kRows = 6;
constexpr int kColumns = 16;

NAITE_INLINE NAITE_AVX2 __m256 as_vector(const uint32_t* units) {
  return _mm256_load_ps(reinterpret_cast<const float*>(units));
}

// float_to_bf16 of base/bytes.h, in the low half of every lane.
NAITE_INLINE NAITE_AVX2 __m256i round_to_bf16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i high = _mm256_srli_epi32(bits, 16);
  const __m256i last = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), last);
  // No value is subnormal here: they come out of an addition in the contract's float mode.
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  const __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  return _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), nan, is_nan);
}

NAITE_INLINE NAITE_AVX2 void store_bf16(const float* line, uint16_t* out) {
  const __m256i both = _mm256_packus_epi32(round_to_bf16(_mm256_load_ps(line)),
                                           round_to_bf16(_mm256_load_ps(line + 8)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute4x64_epi64(both, 0xd8));
}

template <int R, bool packed>
NAITE_AVX2 void tile(const TileJob& job, int64_t first_row) {
  alignas(32) float lines[R][kColumns] = {};
  const int rows = packed ? job.rows : R;
  const int64_t out_stride = job.out.stride * (job.out.is_bf16 ? 2 : 4);
  const char* next = static_cast<const char*>(job.next) + first_row * out_stride;
  for (int m = 0; m < R; ++m) __builtin_prefetch(next + m * out_stride, 1, 3);
  if (job.start.data != nullptr) packing::load_lines<kColumns>(job, first_row, rows, lines);
  __m256 left[R], right[R];
  NAITE_UNROLL for (int m = 0; m < R; ++m) {
    left[m] = _mm256_load_ps(lines[m]);
    right[m] = _mm256_load_ps(lines[m] + 8);
  }
  for (int s = 0; s < job.num_slices; ++s) {
    const Slice& slice = job.slices[s];
    const int64_t stride = slice.a_stride;
    const uint32_t* a0 = packed ? slice.a : slice.a + first_row * stride;
    const uint32_t* a3 = packed || R <= 3 ? a0 : a0 + 3 * stride;
    const uint32_t* b = slice.b;
    for (int64_t k = slice.depth; k > 0; --k) {
      const __m256 b0 = as_vector(b), b1 = as_vector(b + 8);
      NAITE_UNROLL for (int m = 0; m < R; ++m) {
        const uint32_t* unit = packed ? a0 + m : (m < 3 ? a0 : a3) + (m % 3) * stride;
        const __m256 a = _mm256_broadcast_ss(reinterpret_cast<const float*>(unit));
        left[m] = _mm256_fmadd_ps(a, b0, left[m]);
        right[m] = _mm256_fmadd_ps(a, b1, right[m]);
      }
      b += kColumns;
      a0 += packed ? R : 1;
      ++a3;
    }
  }
  NAITE_UNROLL for (int m = 0; m < R; ++m) {
    _mm256_store_ps(lines[m], left[m]);
    _mm256_store_ps(lines[m] + 8, right[m]);
  }
  packing::finish_lines<kColumns>(job, rows, lines);
  if (job.out.is_bf16 && job.columns == kColumns) {
    const Block out = job.out.at(first_row, 0);
    for (int m = 0; m < rows; ++m)
      store_bf16(lines[m], static_cast<uint16_t*>(out.data) + m * out.stride);
  } else {
    packing::store_lines<kColumns>(job, first_row, rows, lines);
  }
}

void multiply(const TileJob& job) {
  if (job.packed) return tile<kRows, true>(job, 0);
  int64_t row = 0;
  for (; job.rows - row >= 6; row += 6) tile<6, false>(job, row);
  if (job.rows - row >= 4) tile<4, false>(job, row), row += 4;
  if (job.rows - row >= 2) tile<2, false>(job, row), row += 2;
  if (job.rows - row >= 1) tile<1, false>(job, row);
}

NAITE_INLINE NAITE_AVX2 __m256 odd_elements(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-0x10000)));
}
NAITE_INLINE NAITE_AVX2 __m256 even_elements(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

NAITE_AVX2 ExponentRange expand(const uint32_t* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    const __m256 odd = odd_elements(pairs), even = even_elements(pairs);
    const __m256 low = _mm256_unpacklo_ps(odd, even), high = _mm256_unpackhi_ps(odd, even);
    _mm256_storeu_ps(to + 2 * i, _mm256_permute2f128_ps(low, high, 0x20));
    _mm256_storeu_ps(to + 2 * i + 8, _mm256_permute2f128_ps(low, high, 0x31));
  }
  packing::expand(from + i, count - i, to + 2 * i);
  return {};
}

// A panel is never wider than 16.
NAITE_AVX2 ExponentRange expand_panel(const uint32_t* from, int64_t depth, int64_t, float* to) {
  for (int64_t k = 0; k < depth; ++k, from += kColumns, to += 2 * kColumns) {
    const __m256i left = _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i right = _mm256_load_si256(reinterpret_cast<const __m256i*>(from + 8));
    _mm256_store_ps(to, odd_elements(left));
    _mm256_store_ps(to + 8, odd_elements(right));
    _mm256_store_ps(to + 16, even_elements(left));
    _mm256_store_ps(to + 24, even_elements(right));
  }
  return {};
}

NAITE_AVX2 void pack_singles(const float* from, int64_t stride, int64_t rows, int64_t columns,
                             bool left, uint32_t* to) {
  packing::pack_side<packing::Singles, kRows, kColumns>(from, stride, rows, columns, left, to);
}

NAITE_AVX2 void pack_pairs(const uint16_t* from, int64_t stride, int64_t rows, int64_t columns,
                           bool left, uint32_t* to) {
  packing::pack_side<packing::Pairs, kRows, kColumns>(from, stride, rows, columns, left, to);
}

NAITE_AVX2 ExponentRange pack_expanded(const uint16_t* from, int64_t stride, int64_t rows,
                                       int64_t columns, bool left, uint32_t* to) {
  packing::pack_side<packing::Expanded, kRows, kColumns>(from, stride, rows, columns, left, to);
  return {};
}

NAITE_AVX2 void prepare_panel(const float* from, int64_t stride, int64_t columns, int64_t depth,
                              int64_t width, bool across, bool is_bf16, uint32_t* to) {
  packing::prepare_panel(from, stride, columns, depth, width, across, is_bf16, to);
}

constexpr TileSet kAvx2Set = {kRows,        kColumns,     multiply,   nullptr,       expand,
                              expand_panel, pack_singles, pack_pairs, pack_expanded, prepare_panel};

}  // namespace

const TileSet& avx2_tiles() { return kAvx2Set; }

}  // namespace naite::kernels::cpu

#endif
