// SPDX-License-Identifier: Apache-2.0
// Tiles for machines without fma, and for every architecture: plain vectors of the compiler's
// vector extension, 4 rows x 16 columns. An fma is the scalar one of numerics.h two lanes at a
// time: the product of two floats is exact in double, the sum is rounded to odd there and then once
// to float.
//
// Products of bf16 numbers need none of that when no product can leave the normal range of fp32:
// they have 16 significant bits, so a separate multiplication is exact and multiply-then-add is the
// fma. The packers report the exponents that they saw; the caller decides per block
// (TileJob::exact_products).
#include "kernels/cpu/packing.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/tiles.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace naite::kernels::cpu {

namespace {

constexpr int kRows = 4;
constexpr int kColumns = 16;

typedef float Float4 __attribute__((vector_size(16)));
typedef double Double2 __attribute__((vector_size(16)));
typedef int64_t Bits2 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
#if !defined(__x86_64__)
// What rounds up to 2^-126 from below, as bits of a double.
constexpr int64_t kEdgeBegin = 0x380fffffe0000000, kEdgeEnd = 0x3810000000000000;
#endif

// To float and back, spelled as vector instructions: g++ 12 loses the rounding of the scalar
// spelling when it joins two lanes (wrong code from -O2 on, SLP vectoriser).
NAITE_INLINE Double2 round_to_float(Double2 value) {
#if defined(__x86_64__)
  return (Double2)_mm_cvtps_pd(_mm_cvtpd_ps((__m128d)value));
#else
  typedef float Float2 __attribute__((vector_size(8)));
  return __builtin_convertvector(__builtin_convertvector(value, Float2), Double2);
#endif
}

// fma(a, b, c) with one rounding; a, b, c are floats held in doubles, and so is the result.
NAITE_INLINE Double2 fused(Double2 a, Double2 b, Double2 c) {
  const Double2 product = a * b;
  const Double2 sum = product + c;
  const Double2 back = sum - product;
  const Double2 error = (product - (sum - back)) + (c - back);  // exact (two-sum)
  // Round to odd: where the sum is inexact, step towards zero if the sum lies beyond the exact
  // value, then set the last bit. An infinite or NaN sum has a NaN error and stays.
  const Bits2 inexact = (error > 0.0) | (error < 0.0);
  const Bits2 beyond = ((Bits2)error ^ (Bits2)sum) < 0;
  Bits2 odd = ((Bits2)sum + (beyond & inexact)) | (inexact & 1);
#if !defined(__x86_64__)
  // Flush after rounding, as the contract has it: what rounds up to 2^-126 stays. Machines that
  // decide before rounding would flush it.
  const Bits2 magnitude = odd & INT64_MAX;
  const Bits2 edge = (magnitude >= kEdgeBegin) & (magnitude < kEdgeEnd);
  odd = (odd & ~(edge & INT64_MAX)) | (edge & kEdgeEnd);
#endif
  return round_to_float((Double2)odd);
}

// Nearly every sum rounds to the right float without that: rounding twice goes wrong only when the
// double lies exactly between two floats. Nonzero lanes: it does, somewhere.
NAITE_INLINE Int4 doubtful(Double2 sum) {
  const Int4 dropped = (Int4)sum & Int4{0x1fffffff, 0, 0x1fffffff, 0};
  Int4 doubt = dropped == Int4{0x10000000, 1, 0x10000000, 1};
#if !defined(__x86_64__)
  const Bits2 magnitude = (Bits2)sum & INT64_MAX;
  doubt |= (Int4)((magnitude >= kEdgeBegin) & (magnitude < kEdgeEnd));
#endif
  return doubt;
}

NAITE_INLINE bool any(Int4 lanes) {
#if defined(__x86_64__)
  return _mm_movemask_epi8((__m128i)lanes) != 0;
#else
  return (((Bits2)lanes)[0] | ((Bits2)lanes)[1]) != 0;
#endif
}

NAITE_INLINE Double2 widen(const float* two) {
#if defined(__x86_64__)
  return (Double2)_mm_cvtps_pd(_mm_castpd_ps(_mm_load_sd(reinterpret_cast<const double*>(two))));
#else
  return Double2{two[0], two[1]};
#endif
}

// One row, kChains x 2 columns at a time: their chains are independent and hide each other's
// latency.
template <bool packed>
void row_of_fused(const TileJob& job, int m, float* line) {
  constexpr int kChains = 4;
  for (int n = 0; n < kColumns; n += 2 * kChains) {
    Double2 chain[kChains];
    for (int i = 0; i < kChains; ++i) chain[i] = widen(line + n + 2 * i);
    for (int s = 0; s < job.num_slices; ++s) {
      const Slice& slice = job.slices[s];
      const uint32_t* a = packed ? slice.a + m : slice.a + m * slice.a_stride;
      const auto* b = reinterpret_cast<const float*>(slice.b) + n;
      for (int64_t k = slice.depth; k > 0; --k, a += packed ? kRows : 1, b += kColumns) {
        const double unit = packing::bits_float(*a);
        const Double2 both = {unit, unit};
        Double2 next[kChains];
        Int4 doubt = {};
        for (int i = 0; i < kChains; ++i) {
          next[i] = both * widen(b + 2 * i) + chain[i];
          doubt |= doubtful(next[i]);
        }
        if (any(doubt)) [[unlikely]] {
          for (int i = 0; i < kChains; ++i) chain[i] = fused(both, widen(b + 2 * i), chain[i]);
        } else {
          for (int i = 0; i < kChains; ++i) chain[i] = round_to_float(next[i]);
        }
      }
    }
    for (int i = 0; i < kChains; ++i) {
      line[n + 2 * i] = static_cast<float>(chain[i][0]);
      line[n + 2 * i + 1] = static_cast<float>(chain[i][1]);
    }
  }
}

template <bool packed>
void row_of_exact(const TileJob& job, int m, float* line) {
  Float4 sum[4];
  __builtin_memcpy(sum, line, sizeof sum);
  for (int s = 0; s < job.num_slices; ++s) {
    const Slice& slice = job.slices[s];
    const uint32_t* a = packed ? slice.a + m : slice.a + m * slice.a_stride;
    const auto* b = reinterpret_cast<const Float4*>(slice.b);
    for (int64_t k = slice.depth; k > 0; --k, a += packed ? kRows : 1, b += 4) {
      const float unit = packing::bits_float(*a);
      for (int v = 0; v < 4; ++v) sum[v] = unit * b[v] + sum[v];
    }
  }
  __builtin_memcpy(line, sum, sizeof sum);
}

void multiply(const TileJob& job) {
  alignas(16) float lines[kRows][kColumns] = {};
  if (job.start.data != nullptr) packing::load_lines<kColumns>(job, 0, job.rows, lines);
  for (int m = 0; m < job.rows; ++m) {
    if (job.exact_products) {
      if (job.packed)
        row_of_exact<true>(job, m, lines[m]);
      else
        row_of_exact<false>(job, m, lines[m]);
    } else {
      if (job.packed)
        row_of_fused<true>(job, m, lines[m]);
      else
        row_of_fused<false>(job, m, lines[m]);
    }
  }
  packing::finish_lines<kColumns>(job, job.rows, lines);
  packing::store_lines<kColumns>(job, 0, job.rows, lines);
}

// The exponents of `count` floats, zeros left out.
ExponentRange exponents(const float* values, int64_t count) {
  uint32_t low = 255u << 23, high = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t exponent = packing::float_bits(values[i]) & 0x7f800000u;
    const uint32_t candidate = exponent == 0 ? 255u << 23 : exponent;
    low = candidate < low ? candidate : low;
    high = exponent > high ? exponent : high;
  }
  return {static_cast<int>(low >> 23), static_cast<int>(high >> 23)};
}

ExponentRange expand(const uint32_t* from, int64_t count, float* to) {
  packing::expand(from, count, to);
  return exponents(to, 2 * count);
}

ExponentRange expand_panel(const uint32_t* from, int64_t depth, int64_t width, float* to) {
  packing::expand_panel(from, depth, width, to);
  return exponents(to, 2 * depth * width);
}

void pack_singles(const float* from, int64_t stride, int64_t rows, int64_t columns, bool left,
                  uint32_t* to) {
  packing::pack_side<packing::Singles, kRows, kColumns>(from, stride, rows, columns, left, to);
}

void pack_pairs(const uint16_t* from, int64_t stride, int64_t rows, int64_t columns, bool left,
                uint32_t* to) {
  packing::pack_side<packing::Pairs, kRows, kColumns>(from, stride, rows, columns, left, to);
}

ExponentRange pack_expanded(const uint16_t* from, int64_t stride, int64_t rows, int64_t columns,
                            bool left, uint32_t* to) {
  packing::pack_side<packing::Expanded, kRows, kColumns>(from, stride, rows, columns, left, to);
  return exponents(reinterpret_cast<const float*>(to),
                   (rows + 1) / 2 * 2 * round_up(columns, left ? kRows : 16));
}

void prepare_panel(const float* from, int64_t stride, int64_t columns, int64_t depth, int64_t width,
                   bool across, bool is_bf16, uint32_t* to) {
  packing::prepare_panel(from, stride, columns, depth, width, across, is_bf16, to);
}

constexpr TileSet kPortableSet = {kRows,         kColumns,     multiply,     nullptr,
                                  expand,        expand_panel, pack_singles, pack_pairs,
                                  pack_expanded, prepare_panel};

}  // namespace

const TileSet& portable_tiles() { return kPortableSet; }

const TileSet& tile_set(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return avx2_tiles();
    case Isa::kAvx512:
      return avx512_tiles();
    case Isa::kAvx512Bf16:
      return avx512_bf16_tiles();
#endif
    default:
      return portable_tiles();
  }
}

}  // namespace naite::kernels::cpu
