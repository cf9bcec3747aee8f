// SPDX-License-Identifier: Apache-2.0
// Linear layers. Every output element is one chain, so work is split over outputs only: a task is a
// group of rows times some panels. The depth runs in blocks that keep a panel and the rows in the
// second cache; between blocks the bare accumulators wait in fp32, which does not change the chain.
#include "kernels/cpu/operations.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/panels.h"
#include "kernels/cpu/row_products.h"
#include "kernels/cpu/tiles.h"

namespace naite::kernels::cpu {

namespace {

bool is_bf16(const View& view) { return view.dtype == DType::kBf16; }

Block block_of(const View& view) { return {view.data, view.cols, is_bf16(view)}; }

struct Prepared {
  const uint32_t* forward;
  const uint32_t* transposed;
};
Prepared prepared_of(const View& w) {
  const auto* units = w.as<const uint32_t>();
  return {units, units + panel_units(w.rows, w.cols, is_bf16(w))};
}

void prepare_rows(const Context& context, uint16_t* to, View master) {
  constexpr int64_t kChunk = 1 << 16;
  const float* from = master.as<float>();
  context.pool.run(divide_up(master.size(), kChunk), [&](int64_t task, int) {
    const int64_t end = std::min(master.size(), (task + 1) * kChunk);
    for (int64_t i = task * kChunk; i < end; ++i) to[i] = float_to_bf16(from[i]);
  });
}

void prepare_matrix(const Context& context, uint32_t* to, bool bf16, View master) {
  const TileSet& tiles = tile_set(context.isa);
  const int64_t out = master.rows, in = master.cols, wide = tiles.panel_columns;
  const int64_t num_forward = divide_up(out, wide), num_transposed = divide_up(in, wide);
  uint32_t* const transposed = to + panel_units(out, in, bf16);
  context.pool.run(num_forward + num_transposed, [&](int64_t task, int) {
    const float* from = master.as<float>();
    if (task < num_forward) {
      const Panel panel = panel_at(task, out, wide);
      tiles.prepare_panel(from + panel.first_column * in, in, panel.columns, in, panel.width, true,
                          bf16, to + panel.first_column * depth_units(in, bf16));
    } else {
      const Panel panel = panel_at(task - num_forward, in, wide);
      tiles.prepare_panel(from + panel.first_column, in, panel.columns, out, panel.width, false,
                          bf16, transposed + panel.first_column * depth_units(out, bf16));
    }
  });
}

}  // namespace

int64_t prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols) {
  const bool bf16 = compute == DType::kBf16;
  if (use == Use::kMatrix)
    return 4 * (panel_units(rows, cols, bf16) + panel_units(cols, rows, bf16));
  return bf16 ? rows * cols * 2 : 0;
}

void run(const Context& context, const Prepare& op) {
  if (op.use == Use::kMatrix) {
    prepare_matrix(context, op.prepared.as<uint32_t>(), is_bf16(op.prepared), op.master);
  } else if (is_bf16(op.prepared)) {
    prepare_rows(context, op.prepared.as<uint16_t>(), op.master);
  }
}

// Rows, panels and accumulators between depth blocks lie in the threads' own scratch.
void run(const Context& context, const Linear& op) {
  NAITE_CHECK(op.parts.size() <= kMaxParts, "linear with {} parts", op.parts.size());
  Factor factors[kMaxParts];
  RowProduct products[kMaxParts];
  for (size_t i = 0; i < op.parts.size(); ++i) {
    const Projection& part = op.parts[i];
    factors[i] = {op.x.data, op.x.cols, prepared_of(part.w).forward};
    products[i] = {.factors = {&factors[i], 1},
                   .columns = part.w.rows,
                   .start = {},
                   .out = block_of(part.y),
                   .bias = part.bias ? block_of(part.bias) : Block{}};
  }
  multiply_rows(context, {products, op.parts.size()}, op.x.rows, is_bf16(op.x));
}

void run(const Context& context, const LinearBackwardInput& op) {
  if (!op.dx.wanted) return;
  NAITE_CHECK(op.parts.size() <= kMaxParts, "linear with {} parts", op.parts.size());
  Factor factors[kMaxParts];
  for (size_t i = 0; i < op.parts.size(); ++i)
    factors[i] = {op.parts[i].y.data, op.parts[i].y.cols, prepared_of(op.parts[i].w).transposed};
  const RowProduct product = product_onto({factors, op.parts.size()}, op.dx, block_of(op.dx.view));
  multiply_rows(context, {&product, 1}, op.dx.view.rows, is_bf16(op.parts.front().y));
}

void run(const Context& context, const LinearBackwardWeight& op) {
  if (!op.dw.wanted) return;
  multiply_columns(context, {.a = op.dy.data,
                             .a_columns = op.dy.cols,
                             .a_stride = op.dy.cols,
                             .b = op.x.data,
                             .b_columns = op.x.cols,
                             .b_stride = op.x.cols,
                             .rows = op.dy.rows,
                             .is_bf16 = is_bf16(op.dy),
                             .out = op.dw.view.as<float>(),
                             .accumulate = op.dw.accumulate});
}

}  // namespace naite::kernels::cpu
