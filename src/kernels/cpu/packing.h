// SPDX-License-Identifier: Apache-2.0
#pragma once
// The packers of tiles.h, and the edges of a tile, as plain loops. They are inlined into functions
// of each instruction set's file and vectorised there; nothing here is ever compiled on its own.
#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/bytes.h"
#include "kernels/cpu/tiles.h"

#define NAITE_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define NAITE_UNROLL _Pragma("unroll")
#else
#define NAITE_UNROLL _Pragma("GCC unroll 16")
#endif

namespace naite::kernels::cpu {
namespace packing {

NAITE_INLINE uint32_t float_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}
NAITE_INLINE float bits_float(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// float_to_bf16 of base/bytes.h without branches.
NAITE_INLINE uint32_t round_to_bf16(float value) {
  const uint32_t bits = float_bits(value);
  const uint32_t exponent = bits & 0x7f800000u;
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x0040u;
  const uint32_t finite = exponent == 0 ? (bits >> 16) & 0x8000u : rounded;
  return (bits & 0x7fffffffu) > 0x7f800000u ? nan : finite;
}

// --- the edges of a tile: its lines on the way to and from memory
// -------------------------------------

template <int W>
NAITE_INLINE void load_lines(const TileJob& job, int64_t first_row, int rows, float (*lines)[W]) {
  const Block start = job.start.at(first_row, 0);
  if (!start.is_bf16 && job.columns == W) {
    for (int m = 0; m < rows; ++m)
      __builtin_memcpy(lines[m], static_cast<float*>(start.data) + m * start.stride, W * 4);
    return;
  }
  for (int m = 0; m < rows; ++m) {
    for (int n = 0; n < W; ++n) {
      const int64_t index = m * start.stride + (n < job.columns ? n : 0);
      lines[m][n] = start.is_bf16
                        ? bits_float(uint32_t{static_cast<uint16_t*>(start.data)[index]} << 16)
                        : static_cast<float*>(start.data)[index];
    }
  }
}

template <int W>
NAITE_INLINE void store_columns(const Block& out, int rows, int columns, float (*lines)[W]) {
  for (int m = 0; m < rows; ++m) {
    if (out.is_bf16) {
      uint16_t rounded[W];
      for (int n = 0; n < W; ++n) rounded[n] = static_cast<uint16_t>(round_to_bf16(lines[m][n]));
      __builtin_memcpy(static_cast<uint16_t*>(out.data) + m * out.stride, rounded,
                       static_cast<size_t>(columns) * 2);
    } else {
      __builtin_memcpy(static_cast<float*>(out.data) + m * out.stride, lines[m],
                       static_cast<size_t>(columns) * 4);
    }
  }
}

template <int W>
NAITE_INLINE void finish_lines(const TileJob& job, int rows, float (*lines)[W]) {
  if (!job.finish) return;
  for (int m = 0; m < rows; ++m)
    for (int n = 0; n < W; ++n) lines[m][n] = lines[m][n] + 0.0f;
  if (job.bias.data == nullptr) return;
  float bias[W] = {};
  for (int n = 0; n < job.columns; ++n)
    bias[n] = job.bias.is_bf16
                  ? bits_float(uint32_t{static_cast<uint16_t*>(job.bias.data)[n]} << 16)
                  : static_cast<float*>(job.bias.data)[n];
  for (int m = 0; m < rows; ++m)
    for (int n = 0; n < W; ++n) lines[m][n] = lines[m][n] + bias[n];
}

template <int W>
NAITE_INLINE void store_lines(const TileJob& job, int64_t first_row, int rows, float (*lines)[W]) {
  const Block out = job.out.at(first_row, 0);
  if (job.columns == W)
    store_columns<W>(out, rows, W, lines);
  else
    store_columns<W>(out, rows, job.columns, lines);
}

// --- packers
// ----------------------------------------------------------------------------------------

NAITE_INLINE void expand(const uint32_t* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) {
    to[2 * i] = bits_float(from[i] & 0xffff0000u);
    to[2 * i + 1] = bits_float(from[i] << 16);
  }
}

NAITE_INLINE void expand_panel(const uint32_t* from, int64_t depth, int64_t width, float* to) {
  for (int64_t k = 0; k < depth; ++k, from += width, to += 2 * width) {
    for (int64_t n = 0; n < width; ++n) {
      to[n] = bits_float(from[n] & 0xffff0000u);
      to[width + n] = bits_float(from[n] << 16);
    }
  }
}

// One panel's part of a pack: rows [first, first + rows) of depth, `columns` of `width` columns
// there.
struct Singles {
  using Element = float;
  static constexpr int kGrain = 1;  // rows that belong together
  static constexpr int kUnits = 1;  // units that they become
  NAITE_INLINE void part(const float* from, int64_t stride, int64_t rows, int64_t columns,
                         int64_t width, uint32_t* to) {
    for (int64_t k = 0; k < rows; ++k, from += stride, to += width) {
      for (int64_t n = 0; n < columns; ++n) to[n] = float_bits(from[n]);
      for (int64_t n = columns; n < width; ++n) to[n] = 0;
    }
  }
};

struct Pairs {
  using Element = uint16_t;
  static constexpr int kGrain = 2;
  static constexpr int kUnits = 1;
  NAITE_INLINE void part(const uint16_t* from, int64_t stride, int64_t rows, int64_t columns,
                         int64_t width, uint32_t* to) {
    for (int64_t k = 0; k < rows; k += 2, from += 2 * stride, to += width) {
      const bool whole = k + 1 < rows;
      const uint16_t* odd = whole ? from + stride : from;
      const uint32_t mask = whole ? 0xffffffffu : 0x0000ffffu;
      for (int64_t n = 0; n < columns; ++n) to[n] = (from[n] | (uint32_t{odd[n]} << 16)) & mask;
      for (int64_t n = columns; n < width; ++n) to[n] = 0;
    }
  }
};

struct Expanded {
  using Element = uint16_t;
  static constexpr int kGrain = 2;
  static constexpr int kUnits = 2;
  NAITE_INLINE void part(const uint16_t* from, int64_t stride, int64_t rows, int64_t columns,
                         int64_t width, uint32_t* to) {
    for (int64_t k = 0; k < rows; k += 2, from += 2 * stride, to += 2 * width) {
      const bool whole = k + 1 < rows;
      const uint16_t* odd = whole ? from + stride : from;
      const uint32_t mask = whole ? 0xffffffffu : 0;
      for (int64_t n = 0; n < columns; ++n) {
        to[n] = (uint32_t{odd[n]} << 16) & mask;
        to[width + n] = uint32_t{from[n]} << 16;
      }
      for (int64_t n = columns; n < width; ++n) to[n] = to[width + n] = 0;
    }
  }
};

// All panels, kRows rows at a time: the lines of the source are used whole while they are near, and
// every panel receives a stretch of lines rather than one. More rows would fight for the same sets
// of the first cache, because rows often lie a multiple of 1 KiB apart; for the same reason the
// rows ahead are fetched into the second cache only (16 rows, into the first: 15% slower products).
constexpr int64_t kRows = 8;
constexpr int64_t kAhead = 16;

template <class Element>
NAITE_INLINE void prefetch_rows(const Element* from, int64_t stride, int64_t first, int64_t rows,
                                int64_t columns) {
  constexpr int64_t kLine = 64 / sizeof(Element);
  for (int64_t k = first; k < rows && k < first + kRows; ++k)
    for (int64_t n = 0; n < columns; n += kLine) __builtin_prefetch(from + k * stride + n, 0, 2);
}

template <class Kind>
NAITE_INLINE void pack(const typename Kind::Element* from, int64_t stride, int64_t rows,
                       int64_t columns, int64_t wide, int64_t grain, uint32_t* to) {
  const int64_t units = (rows + Kind::kGrain - 1) / Kind::kGrain * Kind::kUnits;
  for (int64_t row = 0; row < rows; row += kRows) {
    const int64_t count = rows - row < kRows ? rows - row : kRows;
    const int64_t unit = row / Kind::kGrain * Kind::kUnits;
    prefetch_rows(from, stride, row + kAhead, rows, columns);
    for (int64_t at = 0; at < columns; at += wide) {
      const auto* source = from + row * stride + at;
      const int64_t left = columns - at;
      if (left >= wide) {
        Kind::part(source, stride, count, wide, wide, to + at * units + unit * wide);
      } else {
        const int64_t width = (left + grain - 1) / grain * grain;
        Kind::part(source, stride, count, left, width, to + at * units + unit * width);
      }
    }
  }
}

// `left`: as tiles of kTileRows, else as panels of kPanelColumns, the last one padded to 16.
template <class Kind, int kTileRows, int kPanelColumns>
NAITE_INLINE void pack_side(const typename Kind::Element* from, int64_t stride, int64_t rows,
                            int64_t columns, bool left, uint32_t* to) {
  if (left)
    pack<Kind>(from, stride, rows, columns, kTileRows, kTileRows, to);
  else
    pack<Kind>(from, stride, rows, columns, kPanelColumns, 16, to);
}

// Panels from the fp32 master. down: the panel's columns are the master's columns, its depth the
// master's rows; across: the other way round, a few units at a time, so that the lines on both
// sides stay near.
template <bool is_bf16>
NAITE_INLINE uint32_t master_unit(const float* from, int64_t step, bool whole) {
  if (!is_bf16) return float_bits(*from);
  const uint32_t low = round_to_bf16(from[0]);
  const uint32_t high = whole ? round_to_bf16(from[step]) : 0;
  return low | (high << 16);
}

template <bool is_bf16>
NAITE_INLINE void prepare_down(const float* from, int64_t stride, int64_t columns, int64_t depth,
                               int64_t width, uint32_t* to) {
  constexpr int64_t kGrain = is_bf16 ? 2 : 1;
  for (int64_t k = 0; k < depth; k += kGrain, from += kGrain * stride, to += width) {
    prefetch_rows(from, stride, kAhead, std::min(kAhead + kGrain, depth - k), columns);
    if (k + kGrain <= depth) {
      for (int64_t n = 0; n < columns; ++n) to[n] = master_unit<is_bf16>(from + n, stride, true);
    } else {
      for (int64_t n = 0; n < columns; ++n) to[n] = master_unit<is_bf16>(from + n, stride, false);
    }
    for (int64_t n = columns; n < width; ++n) to[n] = 0;
  }
}

template <bool is_bf16>
NAITE_INLINE void prepare_across(const float* from, int64_t stride, int64_t columns, int64_t depth,
                                 int64_t width, uint32_t* to) {
  constexpr int64_t kGrain = is_bf16 ? 2 : 1;
  constexpr int64_t kStretch = 16;
  const int64_t units = (depth + kGrain - 1) / kGrain;
  for (int64_t first = 0; first < units; first += kStretch) {
    const int64_t end = units < first + kStretch ? units : first + kStretch;
    for (int64_t n = 0; n < columns; ++n)
      for (int64_t k = first; k < end; ++k)
        to[k * width + n] =
            master_unit<is_bf16>(from + n * stride + kGrain * k, 1, kGrain * (k + 1) <= depth);
    for (int64_t k = first; k < end; ++k)
      for (int64_t n = columns; n < width; ++n) to[k * width + n] = 0;
  }
}

NAITE_INLINE void prepare_panel(const float* from, int64_t stride, int64_t columns, int64_t depth,
                                int64_t width, bool across, bool is_bf16, uint32_t* to) {
  if (across) {
    if (is_bf16)
      prepare_across<true>(from, stride, columns, depth, width, to);
    else
      prepare_across<false>(from, stride, columns, depth, width, to);
  } else {
    if (is_bf16)
      prepare_down<true>(from, stride, columns, depth, width, to);
    else
      prepare_down<false>(from, stride, columns, depth, width, to);
  }
}

}  // namespace packing
}  // namespace naite::kernels::cpu
