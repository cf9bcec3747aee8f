// SPDX-License-Identifier: Apache-2.0
// Weight gradients: out = a' b, the chain running over the rows of both operands. A task owns a
// block of the output. For every depth block it interleaves its columns of b into panels and its
// columns of a into tiles, both in its own scratch, and continues the chains that wait in the
// output.
#include <algorithm>

#include "kernels/cpu/panels.h"
#include "kernels/cpu/row_products.h"

namespace naite::kernels::cpu {

namespace {

constexpr int64_t kDepthUnits = 512;                     // of one depth block
constexpr int64_t kPanelsBytes = int64_t{800} << 10;     // of b's panels in scratch
constexpr int64_t kTilesBytes = int64_t{160} << 10;      // of a's tiles in scratch
constexpr int64_t kTaskRows = 1024, kTaskColumns = 384;  // of the output, wanted per task

struct Source {
  const void* data;
  int64_t stride;
};

class ColumnTask {
 public:
  ColumnTask(const TileSet& tiles, const ColumnProduct& product, std::byte* scratch)
      : tiles_(tiles),
        product_(product),
        expand_(product.is_bf16 && tiles.multiply_pairs == nullptr),
        panels_(reinterpret_cast<uint32_t*>(scratch)),
        tiles_of_a_(reinterpret_cast<uint32_t*>(scratch + kPanelsBytes)) {}

  // Output rows [a_begin, a_end) x columns [b_begin, b_end).
  void run(int64_t a_begin, int64_t a_end, int64_t b_begin, int64_t b_end) {
    // Rows of the operands in a depth block: even, so that pairs never straddle two blocks.
    const int64_t depth_rows = product_.is_bf16 && !expand_ ? 2 * kDepthUnits : kDepthUnits;
    const int64_t units = std::min(kDepthUnits, round_up(product_.rows, 2));
    const int64_t wide = tiles_.panel_columns, tall = tiles_.tile_rows;
    const int64_t most_b = kPanelsBytes / 4 / units / wide * wide;
    const int64_t most_a = kTilesBytes / 4 / units / tall * tall;
    for (int64_t b = b_begin; b < b_end; b += most_b) {
      const int64_t b_count = std::min(most_b, b_end - b);
      for (int64_t row = 0; row < product_.rows; row += depth_rows) {
        depth_ = {row, std::min(depth_rows, product_.rows - row)};
        const ExponentRange right =
            pack({product_.b, product_.b_stride}, b, b_count, false, panels_);
        for (int64_t a = a_begin; a < a_end; a += most_a) {
          const int64_t a_count = std::min(most_a, a_end - a);
          const ExponentRange left =
              pack({product_.a, product_.a_stride}, a, a_count, true, tiles_of_a_);
          multiply(a, a_count, b, b_count, products_stay_normal(left, right));
        }
      }
    }
  }

 private:
  struct Depth {
    int64_t first_row, rows;
  };

  int64_t units() const {
    if (!product_.is_bf16) return depth_.rows;
    return (depth_.rows + 1) / 2 * (expand_ ? 2 : 1);
  }

  ExponentRange pack(Source source, int64_t first, int64_t count, bool left, uint32_t* to) {
    const int64_t element = depth_.first_row * source.stride + first;
    if (!product_.is_bf16) {
      tiles_.pack_singles(static_cast<const float*>(source.data) + element, source.stride,
                          depth_.rows, count, left, to);
      return {};
    }
    const uint16_t* from = static_cast<const uint16_t*>(source.data) + element;
    if (expand_) return tiles_.pack_expanded(from, source.stride, depth_.rows, count, left, to);
    tiles_.pack_pairs(from, source.stride, depth_.rows, count, left, to);
    return {};
  }

  void multiply(int64_t a, int64_t a_count, int64_t b, int64_t b_count, bool exact) {
    const auto run_tile = product_.is_bf16 && !expand_ ? tiles_.multiply_pairs : tiles_.multiply;
    const bool first = depth_.first_row == 0;
    const Block out = {product_.out, product_.b_columns, false};
    Slice slice{.depth = units()};
    TileJob job;
    job.slices = &slice;
    job.num_slices = 1;
    job.packed = true;
    job.exact_products = product_.is_bf16 && expand_ && exact;
    job.finish = depth_.first_row + depth_.rows == product_.rows;
    for (int64_t n = 0; n < b_count; n += tiles_.panel_columns) {
      job.columns = static_cast<int>(std::min<int64_t>(tiles_.panel_columns, b_count - n));
      slice.b = panels_ + n * units();
      for (int64_t m = 0; m < a_count; m += tiles_.tile_rows) {
        job.rows = static_cast<int>(std::min<int64_t>(tiles_.tile_rows, a_count - m));
        slice.a = tiles_of_a_ + m * units();
        job.out = out.at(a + m, b + n);
        job.start = first && !product_.accumulate ? Block{} : job.out;
        const bool below = m + tiles_.tile_rows < a_count;
        const bool right = n + tiles_.panel_columns < b_count;
        job.next = below   ? job.out.at(tiles_.tile_rows, 0).data
                   : right ? out.at(a, b + n + tiles_.panel_columns).data
                           : job.out.data;
        run_tile(job);
      }
    }
  }

  const TileSet& tiles_;
  const ColumnProduct& product_;
  const bool expand_;
  uint32_t* const panels_;
  uint32_t* const tiles_of_a_;
  Depth depth_{};
};

}  // namespace

void multiply_columns(const Context& context, const ColumnProduct& product) {
  const TileSet& tiles = tile_set(context.isa);
  const int64_t num_tiles = divide_up(product.a_columns, tiles.tile_rows);
  const int64_t num_panels = divide_up(product.b_columns, tiles.panel_columns);
  const int64_t threads = context.pool.num_threads();
  int64_t down = divide_up(product.a_columns, kTaskRows);
  int64_t across = divide_up(product.b_columns, kTaskColumns);
  // Few tasks must share out evenly; many do so by themselves.
  if (down * across < 4 * threads && threads > 1) {
    down = std::min(num_tiles, round_up(down, threads));
    if (down * across < threads) across = std::min(num_panels, divide_up(threads, down));
  }
  const auto run_task = [&](int64_t task, int thread) {
    const int64_t i = task / across, j = task % across;
    const auto edge = [](int64_t count, int64_t part, int64_t parts, int64_t unit, int64_t limit) {
      return std::min(limit, count * part / parts * unit);
    };
    ColumnTask(tiles, product, context.scratch(thread))
        .run(edge(num_tiles, i, down, tiles.tile_rows, product.a_columns),
             edge(num_tiles, i + 1, down, tiles.tile_rows, product.a_columns),
             edge(num_panels, j, across, tiles.panel_columns, product.b_columns),
             edge(num_panels, j + 1, across, tiles.panel_columns, product.b_columns));
  };
  const double work = static_cast<double>(product.a_columns) *
                      static_cast<double>(product.b_columns) * static_cast<double>(product.rows);
  run_tasks(context, down * across, work, run_task);
}

}  // namespace naite::kernels::cpu
