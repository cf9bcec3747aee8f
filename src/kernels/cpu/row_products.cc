// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/row_products.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/panels.h"

namespace naite::kernels::cpu {

namespace {

// A thread's scratch: staged rows, one expanded panel, accumulators that wait for the next depth
// block.
constexpr int64_t kRowsBytes = int64_t{768} << 10;
constexpr int64_t kPanelBytes = int64_t{512} << 10;
constexpr int64_t kSumsBytes = int64_t{704} << 10;

constexpr int64_t kStagedRows = 96;  // most rows of a group whose rows are staged or wait
constexpr int64_t kPlainRows = 192;  // most rows of a group that is read in place
constexpr int64_t kGroupBytes = int64_t{384} << 10;  // of the rows' depth block: a part of the L2
constexpr int64_t kDepthUnits = 2048;                // units of one depth block
constexpr int64_t kLeastRows = 32;  // below, a group would stream the panels for too little work
constexpr int64_t kTasksPerThread = 4;

// How all tasks of a call are cut.
struct Cut {
  const TileSet& tiles;
  bool is_bf16;
  bool expand;  // pairs become fp32 units in scratch
  int64_t rows;
  int64_t num_tiles;  // of tile_rows rows
  int64_t num_groups;
  int64_t chunk_panels;
};

// Part of a factor's depth, in units of the panels.
struct Stretch {
  const Factor* factor;
  int64_t begin, count;
};

// The next block of a product's depth.
class DepthBlocks {
 public:
  DepthBlocks(const RowProduct& product, bool is_bf16, int64_t limit)
      : product_(product), is_bf16_(is_bf16), limit_(limit) {}

  bool next() {
    num_stretches = 0;
    total = 0;
    while (factor_ < product_.factors.size() && total < limit_) {
      const Factor& factor = product_.factors[factor_];
      const int64_t depth = depth_units(factor.depth, is_bf16_);
      const int64_t count = std::min(depth - begin_, limit_ - total);
      if (count > 0) stretches[num_stretches++] = {&factor, begin_, count};
      total += count;
      begin_ += count;
      if (begin_ == depth) {
        ++factor_;
        begin_ = 0;
      }
    }
    last = factor_ == product_.factors.size();
    return total > 0;
  }

  Stretch stretches[kMaxParts];
  int num_stretches = 0;
  int64_t total = 0;
  bool last = false;

 private:
  const RowProduct& product_;
  const bool is_bf16_;
  const int64_t limit_;
  size_t factor_ = 0;
  int64_t begin_ = 0;
};

const char* row_address(const Factor& factor, int64_t row, bool is_bf16) {
  const int64_t stride = factor.stride != 0 ? factor.stride : factor.depth;
  return static_cast<const char*>(factor.a) + row * stride * (is_bf16 ? 2 : 4);
}

int64_t total_units(const RowProduct& product, bool is_bf16) {
  int64_t total = 0;
  for (const Factor& factor : product.factors) total += depth_units(factor.depth, is_bf16);
  return total;
}

// Pairs can be read in place where every row begins on a pair.
bool needs_staging(const RowProduct& product, const Cut& cut) {
  if (!cut.is_bf16) return false;
  if (cut.expand) return true;
  for (const Factor& factor : product.factors)
    if (((factor.depth | factor.stride) & 1) != 0) return true;
  return false;
}

// One task: rows [first, first + count) times panels [panel_begin, panel_end) of one product.
class RowTask {
 public:
  RowTask(const Cut& cut, const RowProduct& product, int64_t first, int64_t count,
          std::byte* scratch)
      : cut_(cut),
        product_(product),
        first_(first),
        count_(count),
        staged_(needs_staging(product, cut)),
        rows_(reinterpret_cast<uint32_t*>(scratch)),
        panel_(reinterpret_cast<uint32_t*>(scratch + kRowsBytes)),
        sums_(reinterpret_cast<float*>(scratch + kRowsBytes + kPanelBytes)) {}

  void run(int64_t panel_begin, int64_t panel_end) {
    const int64_t limit = cut_.expand ? kDepthUnits / 2 : kDepthUnits;
    const bool one_block = total_units(product_, cut_.is_bf16) <= limit;
    waits_in_scratch_ = !one_block && product_.out.is_bf16;
    const int64_t wide = cut_.tiles.panel_columns;
    const int64_t most =
        waits_in_scratch_ ? kSumsBytes / 4 / kStagedRows / wide : panel_end - panel_begin;
    for (int64_t begin = panel_begin; begin < panel_end; begin += most) {
      const int64_t end = std::min(panel_end, begin + most);
      DepthBlocks depth(product_, cut_.is_bf16, limit);
      for (bool is_first = true; depth.next(); is_first = false)
        run_block(depth, is_first, begin, end);
    }
  }

 private:
  void run_block(const DepthBlocks& depth, bool is_first, int64_t begin, int64_t end) {
    if (staged_) stage_rows(depth);
    const int64_t wide = cut_.tiles.panel_columns;
    for (int64_t index = begin; index < end; ++index) {
      const Panel panel = panel_at(index, product_.columns, wide);
      TileJob job;
      job.columns = static_cast<int>(panel.columns);
      job.finish = depth.last;
      Slice slices[kMaxParts];
      job.slices = slices;
      job.num_slices = slice_up(depth, panel, slices, job.exact_products);
      const Block waiting = {sums_ + (index - begin) * wide, (end - begin) * wide, false};
      const Block out = product_.out.at(first_, panel.first_column);
      if (!is_first) {
        job.start = waits_in_scratch_ ? waiting : out;
      } else if (product_.start.data != nullptr) {
        job.start = product_.start.at(first_, panel.first_column);
      }
      job.out = waits_in_scratch_ && !depth.last ? waiting : out;
      if (product_.bias.data != nullptr) job.bias = product_.bias.at(0, panel.first_column);
      run_tiles(job, slices);
    }
  }

  // All row tiles against one panel.
  void run_tiles(TileJob job, Slice* slices) {
    const auto multiply =
        cut_.is_bf16 && !cut_.expand ? cut_.tiles.multiply_pairs : cut_.tiles.multiply;
    const Block start = job.start, out = job.out;
    // A single row leaves the hardware time to follow by itself.
    job.streams = cut_.rows > 1 && cut_.rows <= cut_.tiles.tile_rows;
    for (int64_t row = 0; row < count_; row += cut_.tiles.tile_rows) {
      job.rows = static_cast<int>(std::min<int64_t>(cut_.tiles.tile_rows, count_ - row));
      if (start.data != nullptr) job.start = start.at(row, 0);
      job.out = out.at(row, 0);
      job.next = job.out.data;
      multiply(job);
      for (int s = 0; s < job.num_slices; ++s)
        slices[s].a += cut_.tiles.tile_rows * slices[s].a_stride;
    }
  }

  // The block's rows one after the other, all stretches side by side: padded pairs, or fp32 units.
  void stage_rows(const DepthBlocks& depth) {
    left_ = {};
    const int64_t stride = depth.total * (cut_.expand ? 2 : 1);
    for (int64_t row = 0; row < count_; ++row) {
      uint32_t* to = rows_ + row * stride;
      for (int s = 0; s < depth.num_stretches; ++s) {
        const Stretch& stretch = depth.stretches[s];
        const auto* from =
            reinterpret_cast<const uint16_t*>(row_address(*stretch.factor, first_ + row, true)) +
            2 * stretch.begin;
        to += stage_row(from,
                        std::min(2 * stretch.count, stretch.factor->depth - 2 * stretch.begin), to);
      }
    }
  }

  // `count` bf16 numbers, padded to pairs. Returns the units written.
  int64_t stage_row(const uint16_t* from, int64_t count, uint32_t* to) {
    const int64_t pairs = (count + 1) / 2;
    // The copy goes behind the place where its expansion begins, and the expansion never overtakes
    // it.
    uint32_t* copy = cut_.expand ? panel_ : to;
    copy[pairs - 1] = 0;
    std::memcpy(copy, from, static_cast<size_t>(count) * 2);
    if (!cut_.expand) return pairs;
    merge(left_, cut_.tiles.expand(copy, pairs, reinterpret_cast<float*>(to)));
    return 2 * pairs;
  }

  int slice_up(const DepthBlocks& depth, const Panel& panel, Slice* slices, bool& exact) {
    const int64_t stride = depth.total * (cut_.expand ? 2 : 1);
    ExponentRange right;
    int64_t staged_at = 0;
    for (int s = 0; s < depth.num_stretches; ++s) {
      const Stretch& stretch = depth.stretches[s];
      const Factor& factor = *stretch.factor;
      const uint32_t* b = factor.panels +
                          panel.first_column * depth_units(factor.depth, cut_.is_bf16) +
                          stretch.begin * panel.width;
      Slice& slice = slices[s];
      slice = {.a = rows_ + staged_at, .a_stride = stride, .b = b, .depth = stretch.count};
      if (cut_.expand) {
        uint32_t* expanded = panel_ + staged_at * panel.width;
        merge(right, cut_.tiles.expand_panel(b, stretch.count, panel.width,
                                             reinterpret_cast<float*>(expanded)));
        slice.b = expanded;
        slice.depth = 2 * stretch.count;
      } else if (!staged_) {
        const int64_t elements = factor.stride != 0 ? factor.stride : factor.depth;
        slice.a = reinterpret_cast<const uint32_t*>(row_address(factor, first_, cut_.is_bf16)) +
                  stretch.begin;
        slice.a_stride = cut_.is_bf16 ? elements / 2 : elements;
      }
      staged_at += slice.depth;
    }
    exact = cut_.expand && products_stay_normal(left_, right);
    return depth.num_stretches;
  }

  static void merge(ExponentRange& range, ExponentRange more) {
    range.low = std::min(range.low, more.low);
    range.high = std::max(range.high, more.high);
  }

  const Cut& cut_;
  const RowProduct& product_;
  const int64_t first_, count_;
  const bool staged_;
  bool waits_in_scratch_ = false;
  ExponentRange left_;
  uint32_t* const rows_;
  uint32_t* const panel_;
  float* const sums_;
};

Cut cut_rows(const Context& context, std::span<const RowProduct> products, int64_t rows,
             bool is_bf16) {
  const TileSet& tiles = tile_set(context.isa);
  Cut cut{tiles, is_bf16, is_bf16 && tiles.multiply_pairs == nullptr, rows, 0, 0, 0};
  int64_t deepest = 1, num_panels = 0;
  bool restricted = false;
  for (const RowProduct& product : products) {
    const int64_t units = total_units(product, is_bf16);
    deepest = std::max(deepest, std::min(units, kDepthUnits));
    restricted =
        restricted || needs_staging(product, cut) || (units > kDepthUnits && product.out.is_bf16);
    num_panels += divide_up(product.columns, tiles.panel_columns);
  }
  cut.num_tiles = divide_up(rows, tiles.tile_rows);
  const int64_t most_rows =
      std::clamp(kGroupBytes / (4 * deepest), kLeastRows, restricted ? kStagedRows : kPlainRows);
  const int64_t wanted =
      context.pool.num_threads() == 1 ? 1 : context.pool.num_threads() * kTasksPerThread;
  cut.num_groups = divide_up(cut.num_tiles, most_rows / tiles.tile_rows);
  cut.num_groups = std::max(cut.num_groups, std::min(wanted, rows / kLeastRows));
  // Groups of equal size share out evenly only in whole rounds. A single group stays one: its
  // panels are shared out instead, and every one of them is read once.
  const int64_t rounds = round_up(cut.num_groups, context.pool.num_threads());
  if (cut.num_groups > 1 && rounds <= cut.num_tiles) cut.num_groups = rounds;
  const int64_t splits = divide_up(wanted, cut.num_groups);
  cut.chunk_panels = std::max<int64_t>(1, num_panels / splits);
  return cut;
}

int64_t num_chunks(const RowProduct& product, const Cut& cut) {
  return divide_up(divide_up(product.columns, cut.tiles.panel_columns), cut.chunk_panels);
}

double total_work(std::span<const RowProduct> products, int64_t rows, bool is_bf16) {
  double work = 0;
  for (const RowProduct& product : products)
    work += static_cast<double>(rows) * static_cast<double>(product.columns) *
            static_cast<double>(total_units(product, is_bf16));
  return work;
}

}  // namespace

bool products_stay_normal(ExponentRange a, ExponentRange b) {
  constexpr int kBias = 127;
  return a.low + b.low - 2 * kBias >= -126 && a.high + b.high - 2 * kBias + 1 <= 127;
}

void multiply_rows(const Context& context, std::span<const RowProduct> products, int64_t rows,
                   bool is_bf16) {
  if (rows == 0) return;
  const Cut cut = cut_rows(context, products, rows, is_bf16);
  int64_t chunks = 0;
  for (const RowProduct& product : products) chunks += num_chunks(product, cut);
  const auto run_task = [&](int64_t task, int thread) {
    const int64_t group = task / chunks;
    int64_t chunk = task % chunks;
    const RowProduct* product = products.data();
    for (; chunk >= num_chunks(*product, cut); ++product) chunk -= num_chunks(*product, cut);
    const int64_t first = cut.num_tiles * group / cut.num_groups * cut.tiles.tile_rows;
    const int64_t end = cut.num_tiles * (group + 1) / cut.num_groups * cut.tiles.tile_rows;
    const int64_t num_panels = divide_up(product->columns, cut.tiles.panel_columns);
    RowTask(cut, *product, first, std::min(end, rows) - first, context.scratch(thread))
        .run(chunk * cut.chunk_panels, std::min(num_panels, (chunk + 1) * cut.chunk_panels));
  };
  run_tasks(context, cut.num_groups * chunks, total_work(products, rows, is_bf16), run_task);
}

}  // namespace naite::kernels::cpu
