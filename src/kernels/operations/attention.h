// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rotary positions, attention, and the rows of a key/value cache. Shapes and orders: operations.h.
#include <algorithm>

#include "base/math.h"
#include "kernels/operations/operand.h"

namespace naite::kernels {

// --- rotary positions ----------------------------------------------------------------------------

struct RopeArguments {
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;  // the first rotary_dim columns of every head turn, half-split pairs
  // Of every `period` neighbouring heads only `picked`, from `first` on, are turned; side by side
  // they make y. One call for each part sorts the heads of grouped differential attention.
  int64_t period = 1, first = 0, picked = 1;
  int64_t num_picked() const { return num_heads / period * picked; }
  int64_t head(int64_t i) const { return i / picked * period + first + i % picked; }
};

// Su et al., "RoFormer", 2021, in halves as in Llama: for i < rotary_dim / 2, pair (i, i + half):
//   y1 = fma(x1, cos, -(x2 sin)),  y2 = fma(x2, cos, x1 sin)
// table [positions, rotary_dim] fp32: cosines of the half, then sines. positions [T, 1] int32.
// x [T, num_heads * head_dim], y [T, num_picked * head_dim].
struct Rope {
  static constexpr std::string_view kName = "rope";
  View y, x, positions, table;
  RopeArguments arguments;

  NAITE_OPERANDS(out("y", y, x.rows, arguments.num_picked() * arguments.head_dim, kCompute),
                 in("x", x, x.rows, arguments.num_heads* arguments.head_dim, kCompute),
                 in("positions", positions, x.rows, 1, kIndex).within(0, table.rows),
                 in("table", table, table.rows, arguments.rotary_dim, kWide))
};

// The inverse turn: sin with the other sign. Writes (or adds to) the picked heads of dx only.
struct RopeBackward {
  static constexpr std::string_view kName = "rope_backward";
  Gradient dx;
  View dy, positions, table;
  RopeArguments arguments;

  NAITE_OPERANDS(gradient("dx", dx, dy.rows, arguments.num_heads* arguments.head_dim, kCompute),
                 in("dy", dy, dy.rows, arguments.num_picked() * arguments.head_dim, kCompute),
                 in("positions", positions, dy.rows, 1, kIndex).within(0, table.rows),
                 in("table", table, table.rows, arguments.rotary_dim, kWide))
};

// --- attention -----------------------------------------------------------------------------------

struct AttentionArguments {
  int64_t num_heads = 0;     // H
  int64_t num_kv_heads = 0;  // K, divides H; query head h reads key/value head h / (H / K)
  int64_t head_dim = 0;      // width of queries and keys
  int64_t value_dim = 0;     // width of values and of the output, per head
  double scale = 0;          // of the scores, usually 1 / sqrt(head_dim)
  int64_t window = 0;        // a query sees its last `window` keys, itself included; 0: all
  // Keys lie in a cache of S rows, spans anywhere in it; else S = T and a query's own key is row t.
  bool cached = false;
  double exponent_scale() const { return scale * kLog2E; }  // of a score in front of exp2
};

// Two products over pairs of a query and a key. What a query really sees stands in `spans`, in
// tensor memory, where nobody but the backend looks: counted are the pairs that the shapes allow,
// those of one document as long as the call (with a cache: as long as the cache). So where rows are
// packed with several documents, this is more than was done.
inline double attention_flops(const View& q, const View& k, const AttentionArguments& a) {
  double pairs = 0;
  for (int64_t t = 0; t < q.rows; ++t) {
    const int64_t seen = k.rows - q.rows + t + 1;
    pairs += static_cast<double>(a.window > 0 ? std::min(seen, a.window) : seen);
  }
  return 2.0 * pairs * static_cast<double>(a.num_heads * (a.head_dim + a.value_dim));
}

// What both ways read, over `keys` rows of keys.
template <class See>
void see_attended(See& see, const View& q, const View& k, const View& v, const View& spans,
                  int64_t keys, const AttentionArguments& a) {
  see(in("q", q, q.rows, a.num_heads * a.head_dim, kCompute));
  see(in("k", k, keys, a.num_kv_heads * a.head_dim, kCompute));
  see(in("v", v, keys, a.num_kv_heads * a.value_dim, kCompute));
  see(in("spans", spans, q.rows, 2, kIndex).within(0, keys + 1));
}

// q [T, H * head_dim], k [S, K * head_dim], v [S, K * value_dim], y [T, H * value_dim] in the
// compute dtype; lse [T, H] fp32, base 2. spans [T, 2] int32: query t belongs to the document whose
// keys are rows spans[t][0] .. spans[t][1] - 1 of k and v, the last being its own position; of
// these it sees the last `window`. Key positions count from the document's first key, and pairs
// (2i, 2i+1) are pairs of that position. Without a cache S = T and spans[t][1] = t + 1; with one, S
// is its capacity.
//   s   = product chain over head_dim           c = fp32(scale log2 e)
//   m   = max of visible s                      mc = m c
//   p_j = exp2(fma(s_j, c, -mc)), +0 where the exponent is below -100
//   l   = sum rule over the visible p, the element index being the key's position minus the
//         position of the first visible key
//   y   = (product chain over visible keys ascending of compute_dtype(p_j) v_j) * (1 / l)
//   lse = mc + log2(l)
// peaks [T, H] fp32, or absent: mc, the largest visible score times c.
struct Attention {
  static constexpr std::string_view kName = "attention";
  View y, lse, peaks, q, k, v, spans;
  AttentionArguments arguments;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    const AttentionArguments& a = arguments;
    const int64_t keys = a.cached ? k.rows : q.rows;
    see(out("y", y, q.rows, a.num_heads * a.value_dim, kCompute));
    see(out("lse", lse, q.rows, a.num_heads, kWide));
    see(out("peaks", peaks, q.rows, a.num_heads, kWide).or_absent());
    see_attended(see, q, k, v, spans, keys, a);
  }
  double flops() const { return attention_flops(q, k, arguments); }
};

// Without a cache, documents contiguous.
//   p = exp2(fma(s, c, -lse)), +0 where the exponent is below -100
//   delta = sum rule (fma) over value_dim of dy y     dp = product chain over value_dim of dy v
//   ds = compute_dtype(p (dp - delta))
//   dq = (chain over visible keys ascending of ds k) * fp32(scale)
//   dk = (chain over the group's query heads ascending, then queries, of ds q) * fp32(scale)
//   dv =  chain over the same of compute_dtype(p) dy
// Pairs (2i, 2i+1) of the document position, formed anew for every head. dq, dk, dv have the dtypes
// of q, k, v; accumulate adds the finished value to the stored one.
struct AttentionBackward {
  static constexpr std::string_view kName = "attention_backward";
  Gradient dq, dk, dv;
  View dy, y, lse, q, k, v, spans;
  AttentionArguments arguments;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    const AttentionArguments& a = arguments;
    see(gradient("dq", dq, q.rows, a.num_heads * a.head_dim, kCompute));
    see(gradient("dk", dk, q.rows, a.num_kv_heads * a.head_dim, kCompute));
    see(gradient("dv", dv, q.rows, a.num_kv_heads * a.value_dim, kCompute));
    see(in("dy", dy, q.rows, a.num_heads * a.value_dim, kCompute));
    see(in("y", y, q.rows, a.num_heads * a.value_dim, kCompute));
    see(in("lse", lse, q.rows, a.num_heads, kWide));
    see_attended(see, q, k, v, spans, q.rows, a);
  }
  double flops() const { return 2 * attention_flops(q, k, arguments); }
};

// cache[slots[t]] = x[t]; slots [T, 1] int32, distinct. Inference only, without a gradient.
struct StoreRows {
  static constexpr std::string_view kName = "store_rows";
  View cache, x, slots;

  NAITE_OPERANDS(updated("cache", cache, cache.rows, x.cols, kCompute),
                 in("x", x, x.rows, x.cols, kCompute),
                 in("slots", slots, x.rows, 1, kIndex).within(0, cache.rows))
};

#define NAITE_ATTENTION_OPERATIONS(OP) \
  OP(Rope), OP(RopeBackward), OP(Attention), OP(AttentionBackward), OP(StoreRows)

}  // namespace naite::kernels
