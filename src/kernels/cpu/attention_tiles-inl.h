// SPDX-License-Identifier: Apache-2.0
// The products inside attention: operand formats (attention_layout.h), packing, and one register
// kernel. Reduction order: one chain per output element, units ascending; vectors run over outputs.
// Included once per instruction set, inside attention's own attribute region.
#if defined(NAITE_KERNELS_CPU_ATTENTION_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NAITE_KERNELS_CPU_ATTENTION_TILES_INL_H_
#undef NAITE_KERNELS_CPU_ATTENTION_TILES_INL_H_
#else
#define NAITE_KERNELS_CPU_ATTENTION_TILES_INL_H_
#endif

#include "kernels/cpu/attention_layout.h"
#include "kernels/cpu/streams-inl.h"

#undef NAITE_UNROLL
#if HWY_COMPILER_CLANG
#define NAITE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define NAITE_UNROLL _Pragma("GCC unroll 16")
#endif

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

using cpu::kPanel;

// How elements along the summed dimension become units, and what a unit does.
struct FloatUnits {
  using Unit = float;
  static constexpr int64_t kPerUnit = 1;
  static HWY_INLINE Lanes load(const Unit* b) { return lanes_load(b); }
  static HWY_INLINE Lanes broadcast(const Unit* a) { return lanes_set(*a); }
  static HWY_INLINE Lanes mac(const Lanes& a, const Lanes& b, const Lanes& c) {
    return lanes_fma(a, b, c);
  }
};

struct Fp32 : FloatUnits {
  static constexpr cpu::Format kFormat = cpu::Format::kFp32;
  using Element = float;
  static int64_t unit_element(int64_t unit) { return unit; }
  static Unit widen(Element x) { return x; }
  static HWY_INLINE Lanes rounded(const Lanes& x) { return x; }
};

struct WidenedBf16 : FloatUnits {
  static constexpr cpu::Format kFormat = cpu::Format::kWidenedBf16;
  using Element = uint16_t;
  static int64_t unit_element(int64_t unit) { return unit ^ 1; }  // odd before even
  static Unit widen(Element x) { return std::bit_cast<float>(uint32_t{x} << 16); }
  static HWY_INLINE Lanes rounded(const Lanes& x) { return lanes_round_bf16(x); }
};

#if HWY_TARGET == HWY_AVX3
struct PairedBf16 {
  static constexpr cpu::Format kFormat = cpu::Format::kPairedBf16;
  using Element = uint16_t;
  using Unit = uint32_t;
  static constexpr int64_t kPerUnit = 2;
  static HWY_INLINE __m512i load(const Unit* b) { return _mm512_loadu_si512(b); }
  static HWY_INLINE __m512i broadcast(const Unit* a) {
    return _mm512_set1_epi32(static_cast<int>(*a));
  }
  static HWY_INLINE Lanes mac(__m512i a, __m512i b, const Lanes& c) {
    Lanes out;
    out.part[0].raw = _mm512_dpbf16_ps(c.part[0].raw, (__m512bh)a, (__m512bh)b);
    return out;
  }
};
#endif

// body(F()) of the format. No call is made in a format that the instruction set lacks.
template <class Body>
void in_format(cpu::Format format, Body body) {
  if (format == cpu::Format::kFp32) return body(Fp32());
  if (format == cpu::Format::kWidenedBf16) return body(WidenedBf16());
#if HWY_TARGET == HWY_AVX3
  body(PairedBf16());
#endif
}

// --- packing -------------------------------------------------------------------------------------
// Stores up to sixteen elements in the operands' dtype.
template <class F>
HWY_INLINE void store_elements(typename F::Element* to, int count, const Lanes& x) {
  if (HWY_UNLIKELY(count < kLanes)) return lanes_store_some(to, x, count);
#if HWY_TARGET == HWY_AVX3
  if constexpr (F::kPerUnit == 2) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(x.part[0].raw));
    return;
  }
#endif
  lanes_store(to, x);
}

// One unit of a row; +0 beyond the width.
template <class F>
HWY_INLINE typename F::Unit unit_of(const typename F::Element* row, int64_t unit, int64_t width) {
  if constexpr (F::kPerUnit == 2) {
    if (2 * unit >= width) return 0;
    const uint32_t odd = 2 * unit + 1 < width ? row[2 * unit + 1] : 0;
    return row[2 * unit] | odd << 16;
  } else {
    const int64_t k = F::unit_element(unit);
    return k < width ? F::widen(row[k]) : 0.0f;
  }
}

#if HWY_TARGET == HWY_AVX3
// Sixteen rows of sixteen units become sixteen columns.
HWY_INLINE void transpose(__m512i* x) {
  __m512i y[16];
  NAITE_UNROLL
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  NAITE_UNROLL
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  // Each register now holds, in its four quarters j, column 4 j + i of rows 4 b .. 4 b + 3.
  NAITE_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m512i low01 = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    const __m512i high01 = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    const __m512i low23 = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    const __m512i high23 = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
    y[i] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    y[i + 8] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
    y[i + 4] = _mm512_shuffle_i32x4(high01, high23, 0x88);
    y[i + 12] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
  }
  NAITE_UNROLL
  for (int i = 0; i < 16; ++i) x[i] = y[i];
}

// Sixteen whole units of a row.
template <class F>
HWY_INLINE __m512i sixteen_units(const typename F::Element* row) {
  if constexpr (F::kFormat == cpu::Format::kWidenedBf16) {
    const __m512i wide = _mm512_slli_epi32(
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row))), 16);
    return _mm512_shuffle_epi32(wide, (_MM_PERM_ENUM)0xb1);  // odd before even
  } else {
    return _mm512_loadu_si512(row);
  }
}
#endif

// One row as units: to [units of width].
template <class F>
HWY_INLINE void pack_row(typename F::Unit* to, const typename F::Element* from, int64_t width) {
  const int64_t units = cpu::format_units(F::kFormat, width);
  int64_t u = 0;
#if HWY_TARGET == HWY_AVX3
  for (; (u + kLanes) * F::kPerUnit <= width; u += kLanes)
    _mm512_storeu_si512(to + u, sixteen_units<F>(from + u * F::kPerUnit));
#endif
  for (; u < units; ++u) to[u] = unit_of<F>(from, u, width);
}

// Up to 64 rows as columns: to [units of width][64]; absent rows are +0.
template <class F>
void pack_transposed(typename F::Unit* to, const typename F::Element* from, int64_t stride,
                     int64_t rows, int64_t width) {
  const int64_t units = cpu::format_units(F::kFormat, width);
  int64_t done = 0;  // units
#if HWY_TARGET == HWY_AVX3
  done = width / F::kPerUnit / kLanes * kLanes;
  for (int64_t r = 0; r < kPanel; r += kLanes) {
    for (int64_t u = 0; u < done; u += kLanes) {
      __m512i block[kLanes];
      const auto* row = from + r * stride + u * F::kPerUnit;
      if (r + kLanes <= rows) {
        NAITE_UNROLL
        for (int i = 0; i < kLanes; ++i) block[i] = sixteen_units<F>(row + i * stride);
      } else {
        for (int i = 0; i < kLanes; ++i)
          block[i] = r + i < rows ? sixteen_units<F>(row + i * stride) : _mm512_setzero_si512();
      }
      transpose(block);
      NAITE_UNROLL
      for (int i = 0; i < kLanes; ++i) _mm512_storeu_si512(to + (u + i) * kPanel + r, block[i]);
    }
  }
#endif
  for (int64_t r = 0; r < kPanel; ++r)
    for (int64_t u = done; u < units; ++u)
      to[u * kPanel + r] = r < rows ? unit_of<F>(from + r * stride, u, width) : typename F::Unit{};
}

// Two rows become one row of pairs; without `odd` its elements are +0.
HWY_INLINE void pair_rows(uint32_t* to, const uint16_t* even, const uint16_t* odd, int64_t width) {
  int64_t i = 0;
#if HWY_TARGET == HWY_AVX3
  for (; i + kLanes <= width; i += kLanes) {
    const __m512i low =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(even + i)));
    const __m512i high =
        odd == nullptr
            ? _mm512_setzero_si512()
            : _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd + i)));
    _mm512_storeu_si512(to + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
#endif
  for (; i < width; ++i)
    to[i] = even[i] | (odd == nullptr ? 0u : static_cast<uint32_t>(odd[i]) << 16);
}

// Rows as the summed dimension: to [units][cols]; absent rows and columns are +0.
template <class F>
void pack_interleaved(typename F::Unit* to, int64_t cols, const typename F::Element* from,
                      int64_t stride, int64_t rows, int64_t width, int64_t units) {
  for (int64_t u = 0; u < units; ++u, to += cols) {
    int64_t filled = 0;
    if constexpr (F::kPerUnit == 2) {
      const auto* even = from + 2 * u * stride;
      if (2 * u < rows) {
        pair_rows(to, even, 2 * u + 1 < rows ? even + stride : nullptr, width);
        filled = width;
      }
    } else {
      const int64_t r = F::unit_element(u);
      if (r < rows) {
        for (int64_t i = 0; i < width; ++i) to[i] = F::widen(from[r * stride + i]);
        filled = width;
      }
    }
    for (; filled < cols; ++filled) to[filled] = typename F::Unit{};
  }
}

// Reads one byte of every line of what will be packed soon, in the order of addresses. Packing
// jumps from row to row, which no prefetcher follows, and prefetch instructions in such numbers
// wait for each other; plain reads in order set the hardware's streams going.
template <class Element>
void touch_rows(const Element* from, int64_t stride, int64_t rows, int64_t width) {
  const auto bytes = width * static_cast<int64_t>(sizeof(Element));
  for (int64_t r = 0; r < rows; ++r) {
    const auto* line = reinterpret_cast<const volatile char*>(from + r * stride);
    for (int64_t i = 0; i < bytes; i += 64) static_cast<void>(line[i]);
  }
}

// --- the register kernel -------------------------------------------------------------------------
// Accumulators of kTileVectors x 16 columns; what fits the set's registers.
#if HWY_TARGET == HWY_AVX3
inline constexpr int kTileRows = 6, kTileVectors = 4;
#elif HWY_TARGET == HWY_SCALAR
inline constexpr int kTileRows = 2, kTileVectors = 1;
#else
inline constexpr int kTileRows = 6, kTileVectors = 1;
#endif

// c [R][V x 16] = (load ? c : 0) + sum over units of a b. a is [R][units] with row stride lda, or,
// transposed, [units][R] with unit stride lda; b is [units][..] with stride ldb.
template <class F, bool kTransposed, int R, int V>
HWY_NOINLINE void tile_product(const typename F::Unit* a, int64_t lda, const typename F::Unit* b,
                               int64_t ldb, float* c, int64_t ldc, int64_t units, bool load) {
  Lanes sums[R][V];
  NAITE_UNROLL
  for (int r = 0; r < R; ++r) {
    NAITE_UNROLL
    for (int v = 0; v < V; ++v)
      sums[r][v] = load ? lanes_load(c + r * ldc + v * kLanes) : lanes_set(0.0f);
  }
  for (int64_t u = 0; u < units; ++u) {
    decltype(F::load(b)) columns[V];
    NAITE_UNROLL
    for (int v = 0; v < V; ++v) columns[v] = F::load(b + v * kLanes);
    NAITE_UNROLL
    for (int r = 0; r < R; ++r) {
      const auto row = F::broadcast(kTransposed ? a + r : a + r * lda);
      NAITE_UNROLL
      for (int v = 0; v < V; ++v) sums[r][v] = F::mac(row, columns[v], sums[r][v]);
    }
    a += kTransposed ? lda : 1;
    b += ldb;
  }
  NAITE_UNROLL
  for (int r = 0; r < R; ++r) {
    NAITE_UNROLL
    for (int v = 0; v < V; ++v) lanes_store(c + r * ldc + v * kLanes, sums[r][v]);
  }
}

template <class F, bool kTransposed, int V>
HWY_INLINE void row_products(int64_t rows, const typename F::Unit* a, int64_t lda,
                             const typename F::Unit* b, int64_t ldb, float* c, int64_t ldc,
                             int64_t units, bool load) {
  const int64_t step = kTransposed ? 1 : lda;
  for (; rows >= kTileRows; rows -= kTileRows, a += kTileRows * step, c += kTileRows * ldc)
    tile_product<F, kTransposed, kTileRows, V>(a, lda, b, ldb, c, ldc, units, load);
  if (kTileRows > 4 && rows >= 4) {
    tile_product<F, kTransposed, 4, V>(a, lda, b, ldb, c, ldc, units, load);
    rows -= 4, a += 4 * step, c += 4 * ldc;
  }
  if (kTileRows > 2 && rows >= 2) {
    tile_product<F, kTransposed, 2, V>(a, lda, b, ldb, c, ldc, units, load);
    rows -= 2, a += 2 * step, c += 2 * ldc;
  }
  if (rows >= 1) tile_product<F, kTransposed, 1, V>(a, lda, b, ldb, c, ldc, units, load);
}

// The same for any number of rows and `cols` columns, a multiple of 16.
template <class F, bool kTransposed>
void block_product(int64_t rows, const typename F::Unit* a, int64_t lda, const typename F::Unit* b,
                   int64_t ldb, float* c, int64_t ldc, int64_t units, int64_t cols, bool load) {
  constexpr int kWide = kTileVectors * kLanes;
  for (; cols >= kWide; cols -= kWide, b += kWide, c += kWide)
    row_products<F, kTransposed, kTileVectors>(rows, a, lda, b, ldb, c, ldc, units, load);
  if constexpr (kTileVectors == 4) {
    if (cols == 48) row_products<F, kTransposed, 3>(rows, a, lda, b, ldb, c, ldc, units, load);
    if (cols == 32) row_products<F, kTransposed, 2>(rows, a, lda, b, ldb, c, ldc, units, load);
    if (cols == 16) row_products<F, kTransposed, 1>(rows, a, lda, b, ldb, c, ldc, units, load);
  }
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#endif
