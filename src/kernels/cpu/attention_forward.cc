// SPDX-License-Identifier: Apache-2.0
// Attention forward. A tile of queries keeps its whole rows of scores (they stay in the
// second-level cache up to some ten thousand keys), so the maximum is exact, nothing is ever
// rescaled, and no tile size is part of the result. Reduction order: operations.h. Flops: 2
// (head_dim + value_dim) a pair of a query and a key that it sees.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_forward.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/split.h"

#ifndef NAITE_KERNELS_CPU_ATTENTION_FORWARD_CC_
#define NAITE_KERNELS_CPU_ATTENTION_FORWARD_CC_
namespace naite::kernels::cpu {

struct ForwardCall {
  const AttentionShape& shape;
  View y, lse, peaks, q, k, v;
};

// Queries [first, last) of a segment against key/value heads [first_kv, end_kv).
struct ForwardTask {
  Segment segment;
  int64_t first_kv, end_kv, first, last;
};

}  // namespace naite::kernels::cpu
#endif

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

// Positions count from the document's first key.
struct KeyRange {
  int64_t first, end;
};
HWY_INLINE KeyRange visible_keys(const cpu::AttentionShape& shape, const cpu::Segment& segment,
                                 int64_t query) {
  const int64_t end = segment.first_position + query + 1;
  return {shape.a.window > 0 ? std::max<int64_t>(0, end - shape.a.window) : 0, end};
}

// One row's weights. Sixteen elements beyond the last one may be overwritten.
template <class F>
struct Weights {
  using Unit = typename F::Unit;
  float* scores;
  uint16_t* narrow;

  Weights(const cpu::ForwardScratch& scratch, int64_t offset)
      : scores(scratch.scores + offset),
        narrow(F::kPerUnit == 2 ? scratch.weights + offset : nullptr) {}

  // Zero outside [range.first, range.end), up to [begin, end); then units, begin being even.
  void finish(int64_t begin, int64_t end, const KeyRange& range) const {
    if constexpr (F::kPerUnit == 2) {
      std::fill(narrow + begin, narrow + range.first, uint16_t{0});
      std::fill(narrow + range.end, narrow + end, uint16_t{0});
    } else {
      std::fill(scores + begin, scores + range.first, 0.0f);
      std::fill(scores + range.end, scores + end, 0.0f);
    }
    if constexpr (F::kFormat == cpu::Format::kWidenedBf16) {
      for (int64_t i = begin; i < end; i += kLanes)
        lanes_store(scores + i, lanes_swap_pairs(lanes_round_bf16(lanes_load(scores + i))));
    }
  }
  HWY_INLINE void put(int64_t i, const Lanes& p) const {
#if HWY_TARGET == HWY_AVX3
    if constexpr (F::kPerUnit == 2) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(narrow + i),
                          (__m256i)_mm512_cvtneps_pbh(p.part[0].raw));
      return;
    }
#endif
    lanes_store(scores + i, p);
  }
  const Unit* units(int64_t begin) const {
    if constexpr (F::kPerUnit == 2)
      return reinterpret_cast<const uint32_t*>(narrow + begin);
    else
      return scores + begin;
  }
};

// Scores to weights; mc and l are delivered.
template <class F>
HWY_INLINE void soft_max(const Weights<F>& row, const KeyRange& range, float c, float* mc_out,
                         float* l_out) {
  const float* scores = row.scores + range.first;
  const int64_t count = range.end - range.first;
  const float mc = row_max(scores, count) * c;
  const Lanes factor = lanes_set(c), minus_mc = lanes_set(-mc);
  *mc_out = mc;
  *l_out = rule_sum(count, [&](int64_t i, int live, const Lanes& lanes) NAITE_VECTORS {
    Lanes p = lanes_exp2(lanes_fma(lanes_load(scores + i), factor, minus_mc));
    if (HWY_UNLIKELY(live < kLanes)) p = lanes_keep(p, 0, live);
    row.put(range.first + i, p);
    return lanes + p;
  });
}

template <class F>
struct Forward {
  using Unit = typename F::Unit;
  using Element = typename F::Element;
  const cpu::ForwardCall& call;
  const cpu::AttentionShape& shape;
  const cpu::ForwardTask& task;
  const cpu::ForwardScratch scratch;
  Unit *const keys, *const values, *const queries;

  Forward(const cpu::ForwardCall& c, const cpu::ForwardTask& t, std::byte* memory)
      : call(c),
        shape(c.shape),
        task(t),
        scratch(c.shape, memory),
        keys(reinterpret_cast<Unit*>(scratch.keys)),
        values(reinterpret_cast<Unit*>(scratch.values)),
        queries(reinterpret_cast<Unit*>(scratch.queries)) {}

  // Key/value head `kv` at a position of the document.
  const Element* key_row(int64_t kv, int64_t position) const {
    return call.k.as<Element>() + (task.segment.begin + position) * call.k.cols +
           kv * shape.a.head_dim;
  }
  const Element* value_row(int64_t kv, int64_t position) const {
    return call.v.as<Element>() + (task.segment.begin + position) * call.v.cols +
           kv * shape.a.value_dim;
  }
  int64_t panel_units() const { return shape.head_units * kPanel; }

  // Queries [first, last) whose rows of scores are held together: for every one of the key/value
  // heads [first_kv, end_kv), for every query, `heads` query heads. Keys count from position
  // `base`, an even one.
  struct Tile {
    int64_t first, last, first_kv, end_kv, first_head, heads, base;
    int64_t rows_of_kv() const { return (last - first) * heads; }
    int64_t rows() const { return (end_kv - first_kv) * rows_of_kv(); }
  };
  struct Place {
    int64_t query, head;
  };
  static HWY_INLINE Place place(const Tile& tile, int64_t r) {
    if (tile.heads == 1 && tile.end_kv == tile.first_kv + 1)
      return {tile.first + r, tile.first_head};
    const int64_t kv = r / tile.rows_of_kv(), row = r % tile.rows_of_kv();
    return {tile.first + row / tile.heads, tile.first_head + kv * tile.heads + row % tile.heads};
  }

  void run() const {
    if (!shape.packed) {
      for (int64_t query = task.first; query < task.last; query += shape.tile_queries)
        answer({query, std::min(task.last, query + shape.tile_queries), task.first_kv, task.end_kv,
                task.first_kv * shape.group, shape.group, first_key(query)});
      return;
    }
    for (int64_t kv = task.first_kv; kv < task.end_kv; ++kv) {
      const int64_t base = first_key(task.first);
      const int64_t count = visible_keys(shape, task.segment, task.last - 1).end - base;
      for (int64_t k = 0; k < count; k += kPanel)
        pack_transposed<F>(keys + k / kPanel * panel_units(), key_row(kv, base + k), call.k.cols,
                           std::min(kPanel, count - k), shape.a.head_dim);
      pack_interleaved<F>(values, shape.value_cols, value_row(kv, base), call.v.cols, count,
                          shape.a.value_dim, cpu::format_units(F::kFormat, count));
      for (int64_t h = kv * shape.group; h < (kv + 1) * shape.group; ++h)
        for (int64_t query = task.first; query < task.last; query += shape.tile_queries)
          answer({query, std::min(task.last, query + shape.tile_queries), kv, kv + 1, h, 1, base});
    }
  }

  // The even position at or before the first key that the query sees.
  int64_t first_key(int64_t query) const {
    return visible_keys(shape, task.segment, query).first & ~int64_t{1};
  }

  void answer(const Tile& tile) const {
    const int64_t rows = tile.rows();
    for (int64_t r = 0; r < rows; ++r) {
      const Place at = place(tile, r);
      pack_row<F>(queries + r * shape.head_units,
                  call.q.as<Element>() + (task.segment.first_query + at.query) * call.q.cols +
                      at.head * shape.a.head_dim,
                  shape.a.head_dim);
    }
    const int64_t begin = first_key(tile.first) - tile.base;
    const int64_t end = visible_keys(shape, task.segment, tile.last - 1).end - tile.base;
    score(tile, begin, end);

    const float c = static_cast<float>(shape.a.exponent_scale());
    for (int64_t r = 0; r < rows; ++r) {
      KeyRange range = visible_keys(shape, task.segment, place(tile, r).query);
      range = {range.first - tile.base, range.end - tile.base};
      const Weights<F> row(scratch, r * shape.padded_keys);
      soft_max<F>(row, range, c, scratch.maxima + r, scratch.sums + r);
      row.finish(begin, end + (end & 1), range);
    }
    for (int64_t r = 0; call.peaks && r < rows; ++r) {
      const Place at = place(tile, r);
      const int64_t t = task.segment.first_query + at.query;
      call.peaks.as<float>()[t * shape.a.num_heads + at.head] = scratch.maxima[r];
    }
    for (int64_t r = 0; r < rows; r += kLanes) {
      const Lanes l = lanes_load(scratch.sums + r);
      lanes_store(scratch.maxima + r, lanes_load(scratch.maxima + r) + lanes_log2(l));
      lanes_store(scratch.sums + r, lanes_set(1.0f) / l);
    }
    weigh(tile, begin, end);

    for (int64_t r = 0; r < rows; ++r) {
      const Place at = place(tile, r);
      const int64_t t = task.segment.first_query + at.query;
      call.lse.as<float>()[t * shape.a.num_heads + at.head] = scratch.maxima[r];
      Element* y = call.y.as<Element>() + t * call.y.cols + at.head * shape.a.value_dim;
      const float* chains = scratch.outputs + r * shape.value_cols;
      const Lanes zero = lanes_set(0.0f), inverse = lanes_set(scratch.sums[r]);
      for (int64_t i = 0; i < shape.a.value_dim; i += kLanes)
        store_elements<F>(y + i, lanes_left(i, shape.a.value_dim),
                          (lanes_load(chains + i) + zero) * inverse);
    }
  }

  // scores [rows][begin, end) from whole panels. All heads take their part of a piece of the cache
  // while it passes by, so that memory is read as it lies.
  void score(const Tile& tile, int64_t begin, int64_t end) const {
    const int64_t rows = tile.rows_of_kv();
    for (int64_t k = begin / kPanel * kPanel; k < end; k += kPanel) {
      const int64_t cols = std::min(kPanel, cpu::round_up(end - k, kLanes));
      if (!shape.packed)
        touch_rows(key_row(tile.first_kv, tile.base + k + kPanel), call.k.cols,
                   std::min(kPanel, end - k - kPanel),
                   (tile.end_kv - tile.first_kv) * shape.a.head_dim);
      for (int64_t kv = tile.first_kv; kv < tile.end_kv; ++kv) {
        const Unit* panel = keys + k / kPanel * panel_units();
        if (!shape.packed) {
          pack_transposed<F>(keys, key_row(kv, tile.base + k), call.k.cols,
                             std::min(kPanel, end - k), shape.a.head_dim);
          panel = keys;
        }
        const int64_t row = (kv - tile.first_kv) * rows;
        block_product<F, false>(rows, queries + row * shape.head_units, shape.head_units, panel,
                                kPanel, scratch.scores + row * shape.padded_keys + k,
                                shape.padded_keys, shape.head_units, cols, false);
      }
    }
  }

  // outputs [rows][value_cols] = weights [begin, end) times values, one chain each.
  void weigh(const Tile& tile, int64_t begin, int64_t end) const {
    const int64_t rows = tile.rows_of_kv(), step = shape.packed ? end - begin : kPanel;
    for (int64_t k = begin; k < end; k += step) {
      const int64_t count = std::min(step, end - k);
      const int64_t units = cpu::format_units(F::kFormat, count);
      if (!shape.packed)
        touch_rows(value_row(tile.first_kv, tile.base + k + kPanel), call.v.cols,
                   std::min(kPanel, end - k - kPanel),
                   (tile.end_kv - tile.first_kv) * shape.a.value_dim);
      for (int64_t kv = tile.first_kv; kv < tile.end_kv; ++kv) {
        const Unit* panel = values + k / F::kPerUnit * shape.value_cols;
        if (!shape.packed) {
          pack_interleaved<F>(values, shape.value_cols, value_row(kv, tile.base + k), call.v.cols,
                              count, shape.a.value_dim, units);
          panel = values;
        }
        const int64_t row = (kv - tile.first_kv) * rows;
        block_product<F, false>(rows, Weights<F>(scratch, row * shape.padded_keys).units(k),
                                shape.padded_keys / F::kPerUnit, panel, shape.value_cols,
                                scratch.outputs + row * shape.value_cols, shape.value_cols, units,
                                shape.value_cols, k > begin);
      }
    }
  }
};

void attention_forward_task(const cpu::ForwardCall& call, const cpu::ForwardTask& task,
                            std::byte* memory) {
  in_format(call.shape.format, [&]<class F>(F) { Forward<F>(call, task, memory).run(); });
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {

namespace {

// How every segment is cut into tasks: key/value heads into `parts`, queries into `pieces`.
struct Cut {
  int64_t parts, pieces;
};
Cut cut(const Context& context, const AttentionShape& shape, int64_t num_segments) {
  const int64_t threads = context.pool.num_threads(), heads = shape.a.num_kv_heads;
  // A cache is read best by all heads at once, so its heads part only to keep the team busy. Packed
  // heads share nothing.
  const int64_t needed = (threads + num_segments - 1) / num_segments;
  const int64_t parts = shape.packed ? heads : std::min(heads, needed);
  const int64_t whole = num_segments * parts;
  if (threads == 1 || whole >= 4 * threads) return {parts, 1};
  // Every piece packs its keys anew: 64 queries at least, on average.
  const int64_t fitting = std::max<int64_t>(1, shape.tokens / num_segments / 64);
  return {parts, std::min((4 * threads + whole - 1) / whole, fitting)};
}

}  // namespace

int64_t workspace_bytes(const Context& context, const Attention& op) {
  return AttentionMemory<ForwardScratch>(context, op, nullptr).bytes;
}

void run(const Context& context, const Attention& op) {
  const AttentionMemory<ForwardScratch> memory(context, op, op.workspace.data());
  const int64_t num_segments = find_segments(op.spans, memory.segments);
  if (num_segments == 0) return;
  const auto [parts, pieces] = cut(context, memory.shape, num_segments);
  const ForwardCall call{memory.shape, op.y, op.lse, op.peaks, op.q, op.k, op.v};
  const auto run = NAITE_CHOOSE(context.isa, attention_forward_task);
  context.pool.run(
      num_segments * parts * pieces, [&, parts = parts, pieces = pieces](int64_t task, int thread) {
        // The last pieces see the most keys: begin with them.
        const int64_t piece = pieces - 1 - task % pieces, part = task / pieces % parts;
        const Segment& segment = memory.segments[task / pieces / parts];
        const int64_t length = segment.num_queries, heads = op.arguments.num_kv_heads;
        const ForwardTask cut{segment, heads * part / parts, heads * (part + 1) / parts,
                              length * piece / pieces, length * (piece + 1) / pieces};
        if (cut.first < cut.last) run(call, cut, memory.of_thread(thread));
      });
}

}  // namespace naite::kernels::cpu
#endif
