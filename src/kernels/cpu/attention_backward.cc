// SPDX-License-Identifier: Apache-2.0
// Attention backward, in the training form. A task owns one document and one key/value head: it
// walks blocks of keys in ascending order and, for each, the heads of the group and the blocks of
// queries in ascending order. So every chain of dk and dv runs within one block of keys, and every
// chain of dq meets its keys in ascending order; no sum is split. Reduction order: operations.h.
// Flops: 2 (3 head_dim + 2 value_dim) a pair of a query and a key that it sees.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/split.h"

#ifndef NAITE_KERNELS_CPU_ATTENTION_BACKWARD_CC_
#define NAITE_KERNELS_CPU_ATTENTION_BACKWARD_CC_
namespace naite::kernels::cpu {

struct BackwardCall {
  const AttentionShape& shape;
  Gradient dq, dk, dv;
  View dy, y, lse, q, k, v;
};

}  // namespace naite::kernels::cpu
#endif

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

using cpu::kKeyBlock;
using cpu::kQueryBlock;

// Sixteen keys of the two rows of a pair of queries, written as the three operands that the
// products read: [units of queries][keys] of both, and [queries][units of keys] of dscores.
template <class F>
struct PairSink {
  using Unit = typename F::Unit;
  Unit *weights, *dscores;   // of the pair
  Unit *row_even, *row_odd;  // of dscores

  HWY_INLINE void put(int64_t key, const Lanes* p, const Lanes* ds) const {
#if HWY_TARGET == HWY_AVX3
    if constexpr (F::kPerUnit == 2) {
      const __m512i interleave =
          _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                           6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
      const auto narrow_p = (__m512i)_mm512_cvtne2ps_pbh(p[1].part[0].raw, p[0].part[0].raw);
      const auto narrow_d = (__m512i)_mm512_cvtne2ps_pbh(ds[1].part[0].raw, ds[0].part[0].raw);
      _mm512_storeu_si512(weights + key, _mm512_permutexvar_epi16(interleave, narrow_p));
      _mm512_storeu_si512(dscores + key, _mm512_permutexvar_epi16(interleave, narrow_d));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row_even + key / 2),
                          _mm512_castsi512_si256(narrow_d));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row_odd + key / 2),
                          _mm512_extracti64x4_epi64(narrow_d, 1));
      return;
    } else
#endif
    {
      constexpr bool kSwapped = F::kFormat == cpu::Format::kWidenedBf16;
      for (int i = 0; i < 2; ++i) {
        const int64_t unit = kSwapped ? 1 - i : i;
        const Lanes rounded_ds = F::rounded(ds[i]);
        lanes_store(weights + unit * kKeyBlock + key, F::rounded(p[i]));
        lanes_store(dscores + unit * kKeyBlock + key, rounded_ds);
        lanes_store((i == 0 ? row_even : row_odd) + key,
                    kSwapped ? lanes_swap_pairs(rounded_ds) : rounded_ds);
      }
    }
  }
};

template <class F>
struct Backward {
  using Unit = typename F::Unit;
  using Element = typename F::Element;

  const cpu::BackwardCall& call;
  const cpu::AttentionShape& shape;
  const cpu::Segment segment;
  const int64_t kv_head, count;  // queries, which are also the keys
  const cpu::BackwardScratch scratch;
  const int64_t row_units;  // units of all rows of the document, padded
  const float factor;

  Backward(const cpu::BackwardCall& c, const cpu::Segment& s, int64_t kv, std::byte* memory)
      : call(c),
        shape(c.shape),
        segment(s),
        kv_head(kv),
        count(s.num_queries),
        scratch(c.shape, memory),
        row_units(cpu::format_units(F::kFormat, scratch.padded_rows)),
        factor(static_cast<float>(c.shape.a.exponent_scale())) {}

  static Unit* as_units(uint32_t* memory) { return reinterpret_cast<Unit*>(memory); }
  int64_t head_of(int64_t g) const { return kv_head * shape.group + g; }
  const Element* row_of(const View& view, int64_t row, int64_t column) const {
    return view.as<Element>() + (segment.first_query + row) * view.cols + column;
  }
  const Element* q_row(int64_t g, int64_t row) const {
    return row_of(call.q, row, head_of(g) * shape.a.head_dim);
  }
  const Element* dy_row(int64_t g, int64_t row) const {
    return row_of(call.dy, row, head_of(g) * shape.a.value_dim);
  }

  void run() const {
    prepare_queries();
    for (int64_t key = 0; key < count; key += kKeyBlock) {
      const int64_t keys = std::min(kKeyBlock, count - key);
      prepare_keys(key, keys);
      const int64_t last_query =
          shape.a.window > 0 ? std::min(count, key + keys - 1 + shape.a.window) : count;
      for (int64_t g = 0; g < shape.group; ++g)
        for (int64_t query = key; query < last_query; query += kQueryBlock)
          meet(g, query, std::min(kQueryBlock, count - query), key, keys);
      const int64_t row = segment.first_query + key;
      finish(call.dk, scratch.dk, row, keys, kv_head * shape.a.head_dim, shape.a.head_dim,
             shape.head_cols, static_cast<float>(shape.a.scale));
      finish(call.dv, scratch.dv, row, keys, kv_head * shape.a.value_dim, shape.a.value_dim,
             shape.value_cols, 1.0f);
    }
    for (int64_t g = 0; g < shape.group; ++g)
      finish(call.dq, scratch.dq + g * scratch.padded_rows * shape.head_cols, segment.first_query,
             count, head_of(g) * shape.a.head_dim, shape.a.head_dim, shape.head_cols,
             static_cast<float>(shape.a.scale));
  }

  // What does not depend on the keys: queries and dy as summed rows, and delta.
  void prepare_queries() const {
    const int64_t units = cpu::format_units(F::kFormat, cpu::round_up(count, kQueryBlock));
    const Source dy(call.dy), y(call.y);
    for (int64_t g = 0; g < shape.group; ++g) {
      pack_interleaved<F>(as_units(scratch.queries) + g * row_units * shape.head_cols,
                          shape.head_cols, q_row(g, 0), call.q.cols, count, shape.a.head_dim,
                          units);
      pack_interleaved<F>(as_units(scratch.dys) + g * row_units * shape.value_cols,
                          shape.value_cols, dy_row(g, 0), call.dy.cols, count, shape.a.value_dim,
                          units);
      for (int64_t r = 0; r < count; ++r) {
        const int64_t at =
            (segment.first_query + r) * call.dy.cols + head_of(g) * shape.a.value_dim;
        scratch.delta[g * scratch.padded_rows + r] =
            rule_sum(shape.a.value_dim, [&](int64_t i, int live, const Lanes& lanes) NAITE_VECTORS {
              return lanes_fma(dy.read(at + i, live), y.read(at + i, live), lanes);
            });
      }
      std::fill_n(scratch.dq + g * scratch.padded_rows * shape.head_cols, count * shape.head_cols,
                  0.0f);
    }
  }

  void prepare_keys(int64_t key, int64_t keys) const {
    const Element* k = row_of(call.k, key, kv_head * shape.a.head_dim);
    const Element* v = row_of(call.v, key, kv_head * shape.a.value_dim);
    for (int64_t i = 0; i < keys; i += kPanel) {
      pack_transposed<F>(as_units(scratch.key_panels) + i * shape.head_units, k + i * call.k.cols,
                         call.k.cols, std::min(kPanel, keys - i), shape.a.head_dim);
      pack_transposed<F>(as_units(scratch.value_panels) + i * shape.value_units,
                         v + i * call.v.cols, call.v.cols, std::min(kPanel, keys - i),
                         shape.a.value_dim);
    }
    pack_interleaved<F>(as_units(scratch.keys), shape.head_cols, k, call.k.cols, keys,
                        shape.a.head_dim, cpu::format_units(F::kFormat, kKeyBlock));
    std::fill_n(scratch.dk, keys * shape.head_cols, 0.0f);
    std::fill_n(scratch.dv, keys * shape.value_cols, 0.0f);
  }

  // All five products of queries [query, query + queries) of head g with keys [key, key + keys).
  void meet(int64_t g, int64_t query, int64_t queries, int64_t key, int64_t keys) const {
    // Keys after the last query are invisible; `offset` is the first query's diagonal column.
    const int64_t offset = query - key;
    keys = std::min(keys, offset + queries);
    products_with_keys(g, query, queries, offset, keys);
    weigh(g, query, queries, offset, keys);
    products_over_queries(g, query, queries, offset, keys);
    // dq: every row of a tile reads the keys up to the tile's last diagonal.
    const int64_t stride = cpu::format_units(F::kFormat, kKeyBlock);
    for (int64_t r = 0; r < queries; r += kTileRows) {
      const int64_t rows = std::min<int64_t>(kTileRows, queries - r);
      const int64_t live = std::min(keys, offset + r + rows);
      block_product<F, false>(
          rows, as_units(scratch.dscore_rows) + r * stride, stride, as_units(scratch.keys),
          shape.head_cols, scratch.dq + (g * scratch.padded_rows + query + r) * shape.head_cols,
          shape.head_cols, cpu::format_units(F::kFormat, live), shape.head_cols, true);
    }
  }

  // scores = q k' and dweights = dy v', by tiles of rows up to their diagonals.
  void products_with_keys(int64_t g, int64_t query, int64_t queries, int64_t offset,
                          int64_t keys) const {
    Unit *q = as_units(scratch.query_rows), *dy = as_units(scratch.dy_rows);
    for (int64_t r = 0; r < queries; ++r) {
      pack_row<F>(q + r * shape.head_units, q_row(g, query + r), shape.a.head_dim);
      pack_row<F>(dy + r * shape.value_units, dy_row(g, query + r), shape.a.value_dim);
    }
    for (int64_t i = 0; i < keys; i += kPanel) {
      for (int64_t r = std::max<int64_t>(0, i - offset) / kTileRows * kTileRows; r < queries;
           r += kTileRows) {
        const int64_t rows = std::min<int64_t>(kTileRows, queries - r);
        const int64_t live = std::min(keys, offset + r + rows) - i;
        const int64_t cols = std::min(kPanel, cpu::round_up(live, kLanes));
        if (cols <= 0) continue;
        const int64_t at = r * kKeyBlock + i;
        block_product<F, false>(rows, q + r * shape.head_units, shape.head_units,
                                as_units(scratch.key_panels) + i * shape.head_units, kPanel,
                                scratch.scores + at, kKeyBlock, shape.head_units, cols, false);
        block_product<F, false>(rows, dy + r * shape.value_units, shape.value_units,
                                as_units(scratch.value_panels) + i * shape.value_units, kPanel,
                                scratch.dweights + at, kKeyBlock, shape.value_units, cols, false);
      }
    }
  }

  // p and ds from scores and dweights, two queries (a pair of positions) at a time. Beyond a row's
  // diagonal they are zero as far as a tile of rows or of keys reads.
  void weigh(int64_t g, int64_t query, int64_t queries, int64_t offset, int64_t keys) const {
    const int64_t stride = cpu::format_units(F::kFormat, kKeyBlock);
    const Lanes c = lanes_set(factor), zero = lanes_set(0.0f);
    const auto* lse = call.lse.as<float>();
    for (int64_t r = 0; r < queries; r += 2) {
      PairSink<F> sink;
      sink.weights = as_units(scratch.weights) + r / F::kPerUnit * kKeyBlock;
      sink.dscores = as_units(scratch.dscores) + r / F::kPerUnit * kKeyBlock;
      sink.row_even = as_units(scratch.dscore_rows) + r * stride;
      sink.row_odd = sink.row_even + stride;
      int64_t first[2], end[2];
      Lanes minus_lse[2], delta[2];
      for (int i = 0; i < 2; ++i) {
        const bool live = r + i < queries;
        end[i] = live ? std::min(keys, offset + r + i + 1) : 0;
        first[i] =
            shape.a.window > 0 ? std::max<int64_t>(0, offset + r + i + 1 - shape.a.window) : 0;
        const int64_t t = live ? query + r + i : query;
        minus_lse[i] = lanes_set(-lse[(segment.first_query + t) * shape.a.num_heads + head_of(g)]);
        delta[i] = lanes_set(scratch.delta[g * scratch.padded_rows + t]);
      }
      const int64_t last = std::max(end[0], end[1]);
      int64_t key = 0;
      for (; key < last; key += kLanes) {
        Lanes p[2], ds[2];
        NAITE_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int64_t at = (r + i) * kKeyBlock + key;
          p[i] = lanes_exp2(lanes_fma(lanes_load(scratch.scores + at), c, minus_lse[i]));
          ds[i] = p[i] * (lanes_load(scratch.dweights + at) - delta[i]);
          if (HWY_UNLIKELY(key < first[i] || key + kLanes > end[i])) {
            const int from = static_cast<int>(std::clamp<int64_t>(first[i] - key, 0, kLanes));
            const int to = static_cast<int>(std::clamp<int64_t>(end[i] - key, 0, kLanes));
            p[i] = lanes_keep(p[i], from, to);
            ds[i] = lanes_keep(ds[i], from, to);
          }
        }
        sink.put(key, p, ds);
      }
      const Lanes zeros[2] = {zero, zero};
      for (const int64_t reach = std::min(kKeyBlock, last + kTileRows); key < reach; key += kLanes)
        sink.put(key, zeros, zeros);
    }
  }

  // dv += p' dy and dk += ds' q: a tile of keys meets the queries from its own first position on.
  void products_over_queries(int64_t g, int64_t query, int64_t queries, int64_t offset,
                             int64_t keys) const {
    const int64_t units = cpu::format_units(F::kFormat, queries);
    const Unit* q = as_units(scratch.queries) + g * row_units * shape.head_cols;
    const Unit* dy = as_units(scratch.dys) + g * row_units * shape.value_cols;
    for (int64_t i = 0; i < keys; i += kTileRows) {
      const int64_t rows = std::min<int64_t>(kTileRows, keys - i);
      const int64_t skipped = (std::max<int64_t>(0, i - offset) & ~int64_t{1}) / F::kPerUnit;
      const int64_t from = query / F::kPerUnit + skipped;
      block_product<F, true>(rows, as_units(scratch.weights) + skipped * kKeyBlock + i, kKeyBlock,
                             dy + from * shape.value_cols, shape.value_cols,
                             scratch.dv + i * shape.value_cols, shape.value_cols, units - skipped,
                             shape.value_cols, true);
      block_product<F, true>(rows, as_units(scratch.dscores) + skipped * kKeyBlock + i, kKeyBlock,
                             q + from * shape.head_cols, shape.head_cols,
                             scratch.dk + i * shape.head_cols, shape.head_cols, units - skipped,
                             shape.head_cols, true);
    }
  }

  // Delivers finished chains [rows][cols]: (chain + 0) scale.
  void finish(const Gradient& to, const float* chains, int64_t row, int64_t rows, int64_t column,
              int64_t width, int64_t cols, float scale) const {
    if (!to.wanted) return;
    const Source old(to.view);
    const Lanes zero = lanes_set(0.0f), scales = lanes_set(scale);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = (row + r) * to.view.cols + column;
      for (int64_t i = 0; i < width; i += kLanes) {
        const int live = lanes_left(i, width);
        Lanes value = (lanes_load(chains + r * cols + i) + zero) * scales;
        if (to.accumulate) value = old.read(at + i, live) + value;
        store_elements<F>(to.view.as<Element>() + at + i, live, value);
      }
    }
  }
};

void attention_backward_task(const cpu::BackwardCall& call, const cpu::Segment& segment,
                             int64_t kv_head, std::byte* memory) {
  in_format(call.shape.format,
            [&]<class F>(F) { Backward<F>(call, segment, kv_head, memory).run(); });
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {

int64_t workspace_bytes(const Context& context, const AttentionBackward& op) {
  return AttentionMemory<BackwardScratch>(context, op, nullptr).bytes;
}

void run(const Context& context, const AttentionBackward& op) {
  NAITE_CHECK(!op.arguments.cached, "attention backward over a cache");
  const AttentionMemory<BackwardScratch> memory(context, op, op.workspace.data());
  const int64_t num_segments = find_segments(op.spans, memory.segments);
  for (const Segment& s : std::span(memory.segments, static_cast<size_t>(num_segments)))
    NAITE_CHECK(s.first_position == 0 && s.begin == s.first_query,
                "attention backward of queries from row {} at position {} of a document at row {}",
                s.first_query, s.first_position, s.begin);
  const BackwardCall call{memory.shape, op.dq, op.dk, op.dv, op.dy, op.y, op.lse, op.q, op.k, op.v};
  const auto run = NAITE_CHOOSE(context.isa, attention_backward_task);
  const int64_t heads = op.arguments.num_kv_heads;
  context.pool.run(num_segments * heads, [&](int64_t task, int thread) {
    run(call, memory.segments[task / heads], task % heads, memory.of_thread(thread));
  });
}

}  // namespace naite::kernels::cpu
#endif
