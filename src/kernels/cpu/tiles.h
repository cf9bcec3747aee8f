// SPDX-License-Identifier: Apache-2.0
#pragma once
// The inner loops of every product, once per instruction set. A tile is a few rows times one panel
// of columns, held in registers over the whole depth:
//
//   out[m][n] = finish(start[m][n] then, slice by slice and k ascending, one multiply-add per unit)
//
// A unit is 32 bits: one fp32 element, or a bf16 pair with the even element in the low half. The
// right operand lies in panels: [depth][width] units, width 16, 32, ... up to panel_columns,
// 64-byte aligned and padded with +0. Sets without a pair kernel get bf16 operands expanded to fp32
// in the order 1, 0, 3, 2, ... of the chain, so that one fp32 kernel serves both precisions.
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace naite::kernels::cpu {

// One stretch of the depth. Dealt rows: element (m, k) of the left operand is a[m * a_stride + k];
// packed: a[k * tile_rows + m], padded with +0 to tile_rows.
struct Slice {
  const uint32_t* a = nullptr;
  int64_t a_stride = 0;
  const uint32_t* b = nullptr;
  int64_t depth = 0;
};

// A row-major block of fp32 or bf16 numbers; stride in elements.
struct Block {
  void* data = nullptr;
  int64_t stride = 0;
  bool is_bf16 = false;

  Block at(int64_t row, int64_t col) const {
    const int64_t bytes = (row * stride + col) * (is_bf16 ? 2 : 4);
    return {static_cast<char*>(data) + bytes, stride, is_bf16};
  }
};

struct TileJob {
  const Slice* slices = nullptr;
  int num_slices = 0;
  bool packed = false;
  bool exact_products = false;  // portable only: no product of these operands rounds or flushes
  int rows = 0;                 // 1 .. tile_rows
  int columns = 0;              // 1 .. panel_columns
  Block start;                  // data null: +0
  Block out;
  bool finish = false;  // + 0.0f, then + bias; else the bare accumulator is stored
  Block bias;           // data null: none
  // Where the next tile will begin: its lines are fetched for writing while this one computes.
  const void* next = nullptr;
  bool streams = false;  // the panel is used once and comes from memory: fetch it well ahead
};

// The smallest and the largest exponent field among the nonzero bf16 numbers seen.
struct ExponentRange {
  int low = 255, high = 0;
};

struct TileSet {
  int tile_rows;
  int panel_columns;
  void (*multiply)(const TileJob& job);        // fp32 units
  void (*multiply_pairs)(const TileJob& job);  // bf16 pairs; null: expand, then multiply

  // Expansion of pairs: 2 * count floats from count units, odd element first.
  ExponentRange (*expand)(const uint32_t* from, int64_t count, float* to);
  // The same for a panel: depth rows of `width` units become 2 * depth rows of `width` floats.
  ExponentRange (*expand_panel)(const uint32_t* from, int64_t depth, int64_t width, float* to);

  // Packs for products whose depth is the row index (weight gradients): `columns` columns over
  // `rows` rows become panels (left: tiles of tile_rows, padded with +0 to tile_rows) one behind
  // the other.
  void (*pack_singles)(const float* from, int64_t stride, int64_t rows, int64_t columns, bool left,
                       uint32_t* to);
  // Rows 2i and 2i+1 of bf16 interleave to row i of pairs; a missing last row is +0.
  void (*pack_pairs)(const uint16_t* from, int64_t stride, int64_t rows, int64_t columns, bool left,
                     uint32_t* to);
  // Rows 1, 0, 3, 2, ... of bf16 as fp32: twice ceil(rows / 2) rows.
  ExponentRange (*pack_expanded)(const uint16_t* from, int64_t stride, int64_t rows,
                                 int64_t columns, bool left, uint32_t* to);

  // Preparation of weights from the fp32 master: `from` is row-major with `stride`.
  // across: the panel's columns are the master's rows (depth = its columns); else the panel's
  // columns are the master's columns (depth = its rows). Writes the panel of `width` >= columns.
  void (*prepare_panel)(const float* from, int64_t stride, int64_t columns, int64_t depth,
                        int64_t width, bool across, bool is_bf16, uint32_t* to);
};

const TileSet& tile_set(Isa isa);
const TileSet& portable_tiles();
#if defined(__x86_64__)
const TileSet& avx2_tiles();
const TileSet& avx512_tiles();
const TileSet& avx512_bf16_tiles();
#endif

}  // namespace naite::kernels::cpu
