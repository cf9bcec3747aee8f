// SPDX-License-Identifier: Apache-2.0
// Tiles of 8 rows x 48 columns in 24 zmm accumulators: per unit of depth 3 loads of the panel, 8
// broadcasts from the rows and 24 multiply-adds. With AVX512-BF16 a multiply-add is vdpbf16ps,
// which is two fma, odd element first (bf16_dot.h). The rows of the output are fetched for writing
// when a tile starts: they arrive while it computes.
#include "kernels/cpu/tiles.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/cpu/packing.h"
#include "kernels/cpu/panels.h"

#define NAITE_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2,prfchw")))
#define NAITE_AVX512_BF16                                                       \
  __attribute__((                                                               \
      target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,bmi,bmi2," \
             "prfchw")))

namespace naite::kernels::cpu {

namespace {

constexpr int kRows = 8;
constexpr int kVectors = 3;
constexpr int kLanes = 16;
constexpr int kColumns = kVectors * kLanes;

// --- one row of a tile, to and from memory ------------------------------------------------------

NAITE_INLINE NAITE_AVX512 __m512 load_lanes(const void* data, bool is_bf16, int64_t index,
                                            __mmask16 mask) {
  if (!is_bf16) return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(data) + index);
  const __m256i half = _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(data) + index);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

// float_to_bf16 of base/bytes.h, for values that are not subnormal.
NAITE_INLINE NAITE_AVX512 __m256i round_to_bf16(__m512 value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i high = _mm512_srli_epi32(bits, 16);
  const __m512i even = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), even);
  const __m512i nan = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(_mm512_srli_epi32(sum, 16), is_nan, nan));
}

NAITE_INLINE __mmask16 column_mask(const TileJob& job, int vector) {
  const int left = job.columns - vector * kLanes;
  return static_cast<__mmask16>(left >= kLanes ? 0xffff : (1 << left) - 1);
}

// Every tile ends here. A missing bias counts as +0, which changes nothing after `+ 0.0f`. Macros,
// here and below: a function of one instruction set cannot take the other's instruction as a
// parameter.
#define NAITE_STORE(NAME, TARGET, ROUND)                                                       \
  template <int R, int V>                                                                      \
  NAITE_INLINE TARGET void NAME(const TileJob& job, int64_t first_row, int rows,               \
                                __m512(&sum)[R][V]) {                                          \
    __mmask16 mask[V];                                                                         \
    __m512 bias[V];                                                                            \
    NAITE_UNROLL for (int v = 0; v < V; ++v) {                                                 \
      mask[v] = column_mask(job, v);                                                           \
      bias[v] = _mm512_setzero_ps();                                                           \
    }                                                                                          \
    if (job.bias.data != nullptr) {                                                            \
      NAITE_UNROLL for (int v = 0; v < V; ++v) bias[v] =                                       \
          load_lanes(job.bias.data, job.bias.is_bf16, v * kLanes, mask[v]);                    \
    }                                                                                          \
    if (job.finish) {                                                                          \
      NAITE_UNROLL for (int m = 0; m < R; ++m) {                                               \
        NAITE_UNROLL for (int v = 0; v < V; ++v) sum[m][v] =                                   \
            _mm512_add_ps(_mm512_add_ps(sum[m][v], _mm512_setzero_ps()), bias[v]);             \
      }                                                                                        \
    }                                                                                          \
    const Block out = job.out.at(first_row, 0);                                                \
    if (out.is_bf16) {                                                                         \
      NAITE_UNROLL for (int m = 0; m < R; ++m) {                                               \
        auto* row = static_cast<uint16_t*>(out.data) + m * out.stride;                         \
        NAITE_UNROLL for (int v = 0; v < V; ++v) {                                             \
          if (m < rows) _mm256_mask_storeu_epi16(row + v * kLanes, mask[v], ROUND(sum[m][v])); \
        }                                                                                      \
      }                                                                                        \
    } else {                                                                                   \
      NAITE_UNROLL for (int m = 0; m < R; ++m) {                                               \
        auto* row = static_cast<float*>(out.data) + m * out.stride;                            \
        NAITE_UNROLL for (int v = 0; v < V; ++v) {                                             \
          if (m < rows) _mm512_mask_storeu_ps(row + v * kLanes, mask[v], sum[m][v]);           \
        }                                                                                      \
      }                                                                                        \
    }                                                                                          \
  }

#define NAITE_ROUND_BF16(sum) ((__m256i)_mm512_cvtneps_pbh(sum))
NAITE_STORE(store_tile, NAITE_AVX512, round_to_bf16)
NAITE_STORE(store_tile_bf16, NAITE_AVX512_BF16, NAITE_ROUND_BF16)

// --- the tile -----------------------------------------------------------------------------------

#define NAITE_TILE(NAME, TARGET, MULTIPLY_ADD, STORE)                                              \
  template <int R, int V, bool packed>                                                             \
  TARGET void NAME(const TileJob& job, int64_t first_row) {                                        \
    __m512 sum[R][V];                                                                              \
    const int64_t out_stride = job.out.stride * (job.out.is_bf16 ? 2 : 4);                         \
    const char* next = static_cast<const char*>(job.next) + first_row * out_stride;                \
    const int64_t out_line = job.out.is_bf16 ? 32 : 64;                                            \
    for (int m = 0; m < R; ++m)                                                                    \
      for (int v = 0; v < V; ++v) __builtin_prefetch(next + m * out_stride + v * out_line, 1, 3);  \
    if (job.start.data == nullptr) {                                                               \
      NAITE_UNROLL for (int m = 0; m < R; ++m) {                                                   \
        NAITE_UNROLL for (int v = 0; v < V; ++v) sum[m][v] = _mm512_setzero_ps();                  \
      }                                                                                            \
    } else {                                                                                       \
      NAITE_UNROLL for (int m = 0; m < R; ++m) {                                                   \
        const bool there = !packed || m < job.rows;                                                \
        const int64_t index = (first_row + (there ? m : 0)) * job.start.stride;                    \
        NAITE_UNROLL for (int v = 0; v < V; ++v) {                                                 \
          const __mmask16 mask = column_mask(job, v);                                              \
          sum[m][v] = load_lanes(job.start.data, job.start.is_bf16, index + v * kLanes, mask);     \
        }                                                                                          \
      }                                                                                            \
    }                                                                                              \
    /* Ahead by 64 units of depth; a panel that is near already is fetched where it is, for        \
     * nothing. */                                                                                 \
    const int64_t ahead = job.streams ? 64 * V * kLanes : 0;                                       \
    for (int s = 0; s < job.num_slices; ++s) {                                                     \
      const Slice& slice = job.slices[s];                                                          \
      const int64_t stride = slice.a_stride;                                                       \
      /* Three bases reach eight rows by the scaled-index forms of an address. */                  \
      const uint32_t* a0 = packed ? slice.a : slice.a + first_row * stride;                        \
      const uint32_t* a3 = packed || R <= 3 ? a0 : a0 + 3 * stride;                                \
      const uint32_t* a6 = packed || R <= 6 ? a0 : a0 + 6 * stride;                                \
      const uint32_t* b = slice.b;                                                                 \
      for (int64_t k = slice.depth; k > 0; --k) {                                                  \
        __m512i column[V];                                                                         \
        NAITE_UNROLL for (int v = 0; v < V; ++v) __builtin_prefetch(b + ahead + v * kLanes, 0, 3); \
        NAITE_UNROLL for (int v = 0; v < V; ++v) column[v] = _mm512_load_si512(b + v * kLanes);    \
        NAITE_UNROLL for (int m = 0; m < R; ++m) {                                                 \
          const uint32_t* row = m < 3 ? a0 : m < 6 ? a3 : a6;                                      \
          const uint32_t unit = packed ? a0[m] : row[(m % 3) * stride];                            \
          const __m512i a = _mm512_set1_epi32(static_cast<int>(unit));                             \
          NAITE_UNROLL for (int v = 0; v < V; ++v) sum[m][v] =                                     \
              MULTIPLY_ADD(sum[m][v], a, column[v]);                                               \
        }                                                                                          \
        b += V * kLanes;                                                                           \
        a0 += packed ? R : 1;                                                                      \
        ++a3;                                                                                      \
        ++a6;                                                                                      \
      }                                                                                            \
    }                                                                                              \
    STORE<R, V>(job, first_row, packed ? job.rows : R, sum);                                       \
  }

#define NAITE_FMA(sum, a, b) _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum)
#define NAITE_DOT(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
NAITE_TILE(tile_singles, NAITE_AVX512, NAITE_FMA, store_tile)
NAITE_TILE(tile_pairs, NAITE_AVX512_BF16, NAITE_DOT, store_tile_bf16)

using Tile = void (*)(const TileJob&, int64_t);

// Rows that do not fill a tile are dealt as 4 + 2 + 1.
struct TileTable {
  Tile rows[4][kVectors];  // 8, 4, 2, 1 rows
  Tile packed[kVectors];
};

#define NAITE_TABLE(NAME)                                        \
  TileTable {                                                    \
    {{NAME<8, 1, false>, NAME<8, 2, false>, NAME<8, 3, false>},  \
     {NAME<4, 1, false>, NAME<4, 2, false>, NAME<4, 3, false>},  \
     {NAME<2, 1, false>, NAME<2, 2, false>, NAME<2, 3, false>},  \
     {NAME<1, 1, false>, NAME<1, 2, false>, NAME<1, 3, false>}}, \
    {                                                            \
      NAME<8, 1, true>, NAME<8, 2, true>, NAME<8, 3, true>       \
    }                                                            \
  }
constexpr TileTable kSingles = NAITE_TABLE(tile_singles);
constexpr TileTable kPairs = NAITE_TABLE(tile_pairs);

void run_tile(const TileTable& table, const TileJob& job) {
  const int vector = (job.columns - 1) / kLanes;
  if (job.packed) return table.packed[vector](job, 0);
  int64_t row = 0;
  for (int size = 0; size < 4; ++size) {
    const int rows = kRows >> size;
    for (; job.rows - row >= rows; row += rows) table.rows[size][vector](job, row);
  }
}

void multiply(const TileJob& job) { run_tile(kSingles, job); }
void multiply_pairs(const TileJob& job) { run_tile(kPairs, job); }

// --- packers ------------------------------------------------------------------------------------

NAITE_AVX512 ExponentRange expand(const uint32_t* from, int64_t count, float* to) {
  packing::expand(from, count, to);
  return {};
}

NAITE_AVX512 ExponentRange expand_panel(const uint32_t* from, int64_t depth, int64_t width,
                                        float* to) {
  packing::expand_panel(from, depth, width, to);
  return {};
}

NAITE_AVX512 void pack_singles(const float* from, int64_t stride, int64_t rows, int64_t columns,
                               bool left, uint32_t* to) {
  packing::pack_side<packing::Singles, kRows, kColumns>(from, stride, rows, columns, left, to);
}

// 16 columns of rows 2i and 2i+1 as pairs.
NAITE_INLINE NAITE_AVX512 __m512i interleave(__m256i even, __m256i odd) {
  const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  return _mm512_permutex2var_epi16(_mm512_castsi256_si512(even), order,
                                   _mm512_castsi256_si512(odd));
}

NAITE_AVX512 void pack_pairs(const uint16_t* from, int64_t stride, int64_t rows, int64_t columns,
                             bool left, uint32_t* to) {
  const int64_t units = (rows + 1) / 2;
  for (int64_t row = 0; row < rows; row += packing::kRows) {
    packing::prefetch_rows(from, stride, row + packing::kAhead, rows, columns);
    const int64_t end = std::min(rows, row + packing::kRows);
    for (int64_t at = 0; at < columns; at += kLanes) {
      const int64_t here = std::min<int64_t>(kLanes, columns - at);
      const auto mask = static_cast<__mmask16>((1u << here) - 1);
      // Left: 16 columns are two tiles, `units` rows apart; right: they lie in one row of a panel.
      const int64_t panel = left ? at : at / kColumns * kColumns;
      const int64_t width =
          left ? kRows : std::min<int64_t>(kColumns, round_up(columns - panel, 16));
      uint32_t* out = to + panel * units + row / 2 * width + (at - panel);
      uint32_t* second = left ? out + kRows * units : out + kRows;
      const bool both = !left || here > kRows;
      for (int64_t k = row; k < end; k += 2, out += width, second += width) {
        const uint16_t* line = from + k * stride + at;
        const auto odd_mask = static_cast<__mmask16>(k + 1 < rows ? mask : 0);
        const __m512i pairs = interleave(_mm256_maskz_loadu_epi16(mask, line),
                                         _mm256_maskz_loadu_epi16(odd_mask, line + stride));
        _mm256_store_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(pairs));
        if (both)
          _mm256_store_si256(reinterpret_cast<__m256i*>(second),
                             _mm512_extracti64x4_epi64(pairs, 1));
      }
    }
  }
}

NAITE_AVX512 ExponentRange pack_expanded(const uint16_t* from, int64_t stride, int64_t rows,
                                         int64_t columns, bool left, uint32_t* to) {
  packing::pack_side<packing::Expanded, kRows, kColumns>(from, stride, rows, columns, left, to);
  return {};
}

// float_to_bf16 of base/bytes.h for any value, in the low half of every lane.
NAITE_INLINE NAITE_AVX512 __m512i round_master(__m512i bits) {
  const __m512i exponent = _mm512_set1_epi32(0x7f800000);
  const __m512i high = _mm512_srli_epi32(bits, 16);
  const __m512i last = _mm512_and_si512(high, _mm512_set1_epi32(1));
  __m512i out = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), last);
  out = _mm512_srli_epi32(out, 16);
  const __mmask16 tiny = _mm512_testn_epi32_mask(bits, exponent);
  out = _mm512_mask_and_epi32(out, tiny, high, _mm512_set1_epi32(0x8000));
  const __mmask16 nan =
      _mm512_cmpgt_epi32_mask(_mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)), exponent);
  return _mm512_mask_or_epi32(out, nan, high, _mm512_set1_epi32(0x40));
}

NAITE_INLINE NAITE_AVX512 __m512i load_master(const float* from, int64_t count) {
  const auto mask = static_cast<__mmask16>(count >= 16  ? 0xffff
                                           : count <= 0 ? 0
                                                        : (1 << count) - 1);
  return _mm512_maskz_loadu_epi32(mask, from);
}

// `count` numbers of a row of the master as up to 16 units.
NAITE_INLINE NAITE_AVX512 __m512i master_units(const float* from, int64_t count, bool is_bf16) {
  if (!is_bf16) return load_master(from, count);
  const __m512i first = round_master(load_master(from, count));
  const __m512i second = round_master(load_master(from + 16, count - 16));
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(first)),
                            _mm512_cvtepi32_epi16(second), 1);
}

// 16 x 16 units: pairs of rows, pairs of pairs, then the four 128-bit quarters, twice.
NAITE_INLINE NAITE_AVX512 void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  NAITE_UNROLL for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  NAITE_UNROLL for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  NAITE_UNROLL for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  NAITE_UNROLL for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

NAITE_AVX512 void prepare_across(const float* from, int64_t stride, int64_t columns, int64_t depth,
                                 int64_t width, bool is_bf16, uint32_t* to) {
  const int64_t grain = is_bf16 ? 2 : 1, units = divide_up(depth, grain);
  for (int64_t k = 0; k < units; k += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, units - k);
    for (int64_t n = 0; n < width; n += kLanes) {
      __m512i rows[kLanes];
      // Sixteen rows are more streams than the hardware follows.
      for (int64_t i = n; i < n + kLanes && i < columns; ++i)
        for (int64_t line = 0; line < grain; ++line)
          __builtin_prefetch(from + i * stride + grain * (k + 4 * kLanes) + line * kLanes, 0, 2);
      for (int i = 0; i < kLanes; ++i)
        rows[i] = n + i < columns ? master_units(from + (n + i) * stride + grain * k,
                                                 depth - grain * k, is_bf16)
                                  : _mm512_setzero_si512();
      transpose(rows);
      for (int64_t i = 0; i < count; ++i) _mm512_store_si512(to + (k + i) * width + n, rows[i]);
    }
  }
}

NAITE_AVX512 void prepare_panel(const float* from, int64_t stride, int64_t columns, int64_t depth,
                                int64_t width, bool across, bool is_bf16, uint32_t* to) {
  if (across) {
    prepare_across(from, stride, columns, depth, width, is_bf16, to);
  } else {
    packing::prepare_panel(from, stride, columns, depth, width, false, is_bf16, to);
  }
}

constexpr TileSet make_set(void (*pairs)(const TileJob&)) {
  return {kRows,        kColumns,     multiply,   pairs,         expand,
          expand_panel, pack_singles, pack_pairs, pack_expanded, prepare_panel};
}
constexpr TileSet kAvx512Set = make_set(nullptr);
constexpr TileSet kAvx512Bf16Set = make_set(multiply_pairs);

}  // namespace

const TileSet& avx512_tiles() { return kAvx512Set; }
const TileSet& avx512_bf16_tiles() { return kAvx512Bf16Set; }

}  // namespace naite::kernels::cpu

#endif
