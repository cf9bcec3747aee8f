// SPDX-License-Identifier: Apache-2.0
#pragma once
// THE closed list of operations on tensor memory (NAITE_OPERATIONS, at the end). An operation is
// one plain struct: its views, its numbers, and one enumeration of its operands, from which follow
// the checks of debug builds, the bytes of a profile, and what a test has to cover. Every backend
// implements all of them; reference/ is the slow, obvious twin whose bits the others must
// reproduce.
//
// Shape legend, used in the whole project:
//   B rows of a batch   T tokens (here: all tokens of a micro-batch, B rows flattened)
//   D hidden width      H query heads (K of them carry keys and values)
//   E experts           F feed-forward width      V vocabulary
// All views are dense and row-major [rows, cols]; token t is row t.
//
// Order of arithmetic (docs/NUMERICS.md has the whole contract, `arithmetic = "chain-1"`):
//   product   fp32 operands: acc = fma(a[k], b[k], acc), k ascending, one chain per output element.
//             bf16 operands: for every pair (2i, 2i+1) the odd element first, then the even one; an
//             odd count is padded with +0; accumulation in fp32. A chain starts at +0, or at the
//             stored value when a gradient accumulates; a finished chain gets `+ 0.0f`.
//   sum       blocks of 4096 consecutive elements; element i of a block goes to lane i mod 16
//             (fma(a, b, lane) for sums of products); lanes join as i += i+8, +4, +2, +1; blocks
//             join by a binary tree over the block index (neighbours first; an odd one passes
//             through). A finished sum gets `+ 0.0f`.
//   column    a sum over tokens for each column: tokens ascending in blocks of 64 consecutive
//             tokens, every block from +0, blocks joined by the same tree, `+ 0.0f`; when the
//             gradient accumulates, the finished sum is then added to the stored value.
//   max       a > b ? a : b, a being the running value.
//   Values are rounded to a view's dtype when they are stored in it, and only then.
#include <algorithm>

#include "kernels/views.h"

namespace naite::kernels {

// --- operands ------------------------------------------------------------------------------------

enum class Access : uint8_t { kRead, kWrite, kUpdate };

// The dtypes that an operand may have. All kCompute operands of a call have the same one; kWide is
// fp32, or double when everything is.
enum class Type : uint8_t { kCompute, kWide, kFloat, kIndex, kAny };
using enum Type;

// One operand, as `operands(see)` of every struct shows it: what it is, and what it has to be.
struct Operand {
  const char* name;
  Access access;
  View view;
  int64_t rows, cols;
  Type type;
  bool optional = false;          // may be absent
  int64_t least = 0, beyond = 0;  // values of a kIndex operand lie in [least, beyond)

  Operand or_absent() const {
    Operand out = *this;
    out.optional = true;
    return out;
  }
  Operand within(int64_t first, int64_t end) const {
    Operand out = *this;
    out.least = first;
    out.beyond = end;
    return out;
  }
};

inline Operand in(const char* name, View view, int64_t rows, int64_t cols, Type type) {
  return {name, Access::kRead, view, rows, cols, type};
}
inline Operand out(const char* name, View view, int64_t rows, int64_t cols, Type type) {
  return {name, Access::kWrite, view, rows, cols, type};
}
inline Operand updated(const char* name, View view, int64_t rows, int64_t cols, Type type) {
  return {name, Access::kUpdate, view, rows, cols, type};
}
inline Operand gradient(const char* name, const Gradient& to, int64_t rows, int64_t cols,
                        Type type) {
  return {name,
          to.accumulate ? Access::kUpdate : Access::kWrite,
          to.wanted ? to.view : View{},
          rows,
          cols,
          type,
          !to.wanted};
}

// --- parameters ----------------------------------------------------------------------------------

// Rounds a [rows, cols] fp32 master to the compute dtype and lays it out for its use. `prepared`
// has Kernels::prepared_bytes() bytes; where that is 0, the master is read in place and nobody
// calls.
struct Prepare {
  static constexpr std::string_view kName = "prepare";
  View prepared, master;
  Use use = Use::kMatrix;

  template <class See>
  void operands(See see) const {
    see(out("prepared", prepared, master.rows, master.cols, kCompute));
    see(in("master", master, master.rows, master.cols, kWide));
  }
};

// --- products ------------------------------------------------------------------------------------

inline double products_flops(std::span<const Projection> parts, int64_t tokens) {
  double flops = 0;
  for (const Projection& part : parts)
    flops += 2.0 * static_cast<double>(tokens) * static_cast<double>(part.w.size());
  return flops;
}

// For every part: y = x w' (+ bias). x [T, in] in the compute dtype; y compute dtype or fp32.
struct Linear {
  static constexpr std::string_view kName = "linear";
  std::span<const Projection> parts;
  View x;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(in("x", x, x.rows, x.cols, kCompute));
    for (const Projection& part : parts) {
      see(out("y", part.y, x.rows, part.w.rows, kFloat));
      see(in("w", part.w, part.w.rows, x.cols, kCompute));
      see(in("bias", part.bias, 1, part.w.rows, kCompute).or_absent());
    }
  }
  double flops() const { return products_flops(parts, x.rows); }
};

// dx = sum over parts of dy w: ONE chain per element over the outputs of all parts in order, pairs
// formed within a part (a part with an odd count is padded). Accumulate: the chain starts at the
// stored value.
struct LinearBackwardInput {
  static constexpr std::string_view kName = "linear_backward_input";
  Gradient dx;
  std::span<const Projection> parts;  // y: its gradient
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(gradient("dx", dx, dx.view.rows, dx.view.cols, kFloat));
    for (const Projection& part : parts) {
      see(in("dy", part.y, dx.view.rows, part.w.rows, kCompute));
      see(in("w", part.w, part.w.rows, dx.view.cols, kCompute));
    }
  }
  double flops() const { return products_flops(parts, dx.view.rows); }
};

// dw [out, in] fp32 = dy' x: the chain runs over the tokens, pairs (2i, 2i+1) of the row index.
// Accumulate: the chain starts at the stored value.
struct LinearBackwardWeight {
  static constexpr std::string_view kName = "linear_backward_weight";
  Gradient dw;
  View dy, x;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(gradient("dw", dw, dy.cols, x.cols, kWide));
    see(in("dy", dy, x.rows, dy.cols, kCompute));
    see(in("x", x, x.rows, x.cols, kCompute));
  }
  double flops() const {
    return 2.0 * static_cast<double>(dy.size()) * static_cast<double>(x.cols);
  }
};

// dbias [1, out] fp32 = column sum of dy.
struct ColumnSum {
  static constexpr std::string_view kName = "column_sum";
  Gradient dbias;
  View dy;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(gradient("dbias", dbias, 1, dy.cols, kWide));
    see(in("dy", dy, dy.rows, dy.cols, kFloat));
  }
};

// --- embedding -----------------------------------------------------------------------------------

// y [T, D] fp32 = table[ids]; ids [T, 1] int32; table [V, D] prepared as kTable.
struct Embed {
  static constexpr std::string_view kName = "embed";
  View y, ids, table;

  template <class See>
  void operands(See see) const {
    see(out("y", y, ids.rows, table.cols, kWide));
    see(in("ids", ids, ids.rows, 1, kIndex).within(0, table.rows));
    see(in("table", table, table.rows, table.cols, kFloat));
  }
};

// dtable [V, D] fp32: for every id its rows of dy added in ascending position, one chain of
// additions that starts at the stored value (accumulate) or at +0.
struct EmbedBackward {
  static constexpr std::string_view kName = "embed_backward";
  Gradient dtable;
  View dy, ids;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(gradient("dtable", dtable, dtable.view.rows, dy.cols, kWide));
    see(in("dy", dy, ids.rows, dy.cols, kWide));
    see(in("ids", ids, ids.rows, 1, kIndex).within(0, dtable.view.rows));
  }
};

// --- RMS norm ------------------------------------------------------------------------------------

// Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019. n = cols / heads,
// rstd = 1 / sqrt(sum(x x) / n + epsilon), y = (x rstd) (w fp32(scale)). With `delta`, the residual
// add comes first: sum = x + delta, and sum is normed. x, sum fp32 (or compute dtype when there is
// no delta); delta, y compute dtype; rstd [T, heads] fp32; w [1, n] prepared as kVector.
struct RmsNorm {
  static constexpr std::string_view kName = "rms_norm";
  View y, rstd, sum, x, delta, w;
  NormArguments arguments;

  template <class See>
  void operands(See see) const {
    see(out("y", y, x.rows, x.cols, kCompute));
    see(out("rstd", rstd, x.rows, arguments.heads, kWide));
    see(in("x", x, x.rows, x.cols, kFloat));
    if (delta) see(out("sum", sum, x.rows, x.cols, kWide));
    see(in("delta", delta, x.rows, x.cols, kCompute).or_absent());
    see(in("w", w, 1, x.cols / arguments.heads, kCompute));
  }
};

// With xhat = x rstd, g = dy (w scale), c = sum(g xhat) / n: norm gradient = rstd (g - xhat c),
// computed as fma(-c, xhat, g) * rstd. total = dsum + norm gradient (dsum absent: the norm gradient
// alone). dx and ddelta both receive total (ddelta rounded). dw [1, n] fp32 = column sum of dy xhat
// by fma(dy, xhat, part), over the rows of [T * heads] in order, times scale. `x` is what was
// normed (sum, if there was a delta).
struct RmsNormBackward {
  static constexpr std::string_view kName = "rms_norm_backward";
  Gradient dx, ddelta, dw;
  View dy, dsum, x, rstd, w;
  NormArguments arguments;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(gradient("dx", dx, x.rows, x.cols, kFloat));
    see(gradient("ddelta", ddelta, x.rows, x.cols, kCompute));
    see(gradient("dw", dw, 1, x.cols / arguments.heads, kWide));
    see(in("dy", dy, x.rows, x.cols, kCompute));
    see(in("dsum", dsum, x.rows, x.cols, kWide).or_absent());
    see(in("x", x, x.rows, x.cols, kFloat));
    see(in("rstd", rstd, x.rows, arguments.heads, kWide));
    see(in("w", w, 1, x.cols / arguments.heads, kCompute));
  }
};

// --- rotary positions ----------------------------------------------------------------------------

// Su et al., "RoFormer", 2021, in halves as in Llama: for i < rotary_dim / 2, pair (i, i + half):
//   y1 = fma(x1, cos, -(x2 sin)),  y2 = fma(x2, cos, x1 sin)
// table [positions, rotary_dim] fp32: cosines of the half, then sines. positions [T, 1] int32.
// x [T, num_heads * head_dim], y [T, num_picked * head_dim].
struct Rope {
  static constexpr std::string_view kName = "rope";
  View y, x, positions, table;
  RopeArguments arguments;

  template <class See>
  void operands(See see) const {
    const RopeArguments& a = arguments;
    see(out("y", y, x.rows, a.num_picked() * a.head_dim, kCompute));
    see(in("x", x, x.rows, a.num_heads * a.head_dim, kCompute));
    see(in("positions", positions, x.rows, 1, kIndex).within(0, table.rows));
    see(in("table", table, table.rows, a.rotary_dim, kWide));
  }
};

// The inverse turn: sin with the other sign. Writes (or adds to) the picked heads of dx only.
struct RopeBackward {
  static constexpr std::string_view kName = "rope_backward";
  Gradient dx;
  View dy, positions, table;
  RopeArguments arguments;

  template <class See>
  void operands(See see) const {
    const RopeArguments& a = arguments;
    see(gradient("dx", dx, dy.rows, a.num_heads * a.head_dim, kCompute));
    see(in("dy", dy, dy.rows, a.num_picked() * a.head_dim, kCompute));
    see(in("positions", positions, dy.rows, 1, kIndex).within(0, table.rows));
    see(in("table", table, table.rows, a.rotary_dim, kWide));
  }
};

// --- attention -----------------------------------------------------------------------------------

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
    see(in("q", q, q.rows, a.num_heads * a.head_dim, kCompute));
    see(in("k", k, keys, a.num_kv_heads * a.head_dim, kCompute));
    see(in("v", v, keys, a.num_kv_heads * a.value_dim, kCompute));
    see(in("spans", spans, q.rows, 2, kIndex).within(0, keys + 1));
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
    see(in("q", q, q.rows, a.num_heads * a.head_dim, kCompute));
    see(in("k", k, q.rows, a.num_kv_heads * a.head_dim, kCompute));
    see(in("v", v, q.rows, a.num_kv_heads * a.value_dim, kCompute));
    see(in("spans", spans, q.rows, 2, kIndex).within(0, q.rows + 1));
  }
  double flops() const { return 2 * attention_flops(q, k, arguments); }
};

// cache[slots[t]] = x[t]; slots [T, 1] int32, distinct. Inference only, without a gradient.
struct StoreRows {
  static constexpr std::string_view kName = "store_rows";
  View cache, x, slots;

  template <class See>
  void operands(See see) const {
    see(updated("cache", cache, cache.rows, x.cols, kCompute));
    see(in("x", x, x.rows, x.cols, kCompute));
    see(in("slots", slots, x.rows, 1, kIndex).within(0, cache.rows));
  }
};

// --- differential attention ----------------------------------------------------------------------

// Ye et al., "Differential transformer", ICLR 2025: how much of the noise path is taken away.
// lambda [1, 1] fp32 = (e1 - e2) + fp32(initial), e = exp2(sum(q k) log2 e), sum rule with fma.
struct DifferentialLambda {
  static constexpr std::string_view kName = "differential_lambda";
  View lambda;
  LambdaVectors vectors;
  double initial = 0;

  template <class See>
  void operands(See see) const {
    see(out("lambda", lambda, 1, 1, kWide));
    for (const View& vector : {vectors.q1, vectors.k1, vectors.q2, vectors.k2})
      see(in("a vector", vector, 1, vectors.q1.cols, kCompute));
  }
};

// dq1 = (dlambda e1) k1, dk1 = (dlambda e1) q1; dq2 = (-(dlambda e2)) k2, dk2 likewise with q2.
struct DifferentialLambdaBackward {
  static constexpr std::string_view kName = "differential_lambda_backward";
  LambdaGradients gradients;
  View dlambda;
  LambdaVectors vectors;

  template <class See>
  void operands(See see) const {
    for (const Gradient& to : {gradients.q1, gradients.k1, gradients.q2, gradients.k2})
      see(gradient("a vector's gradient", to, 1, vectors.q1.cols, kWide));
    see(in("dlambda", dlambda, 1, 1, kWide));
    for (const View& vector : {vectors.q1, vectors.k1, vectors.q2, vectors.k2})
      see(in("a vector", vector, 1, vectors.q1.cols, kCompute));
  }
};

// Heads of `head_dim` columns; x has g times as many as `shared`, and head h of x goes with head
// h / g of it: y = fma(-factor, shared, x). factor [1, 1] fp32, the others compute dtype.
struct SubtractShared {
  static constexpr std::string_view kName = "subtract_shared";
  View y, x, shared, factor;
  int64_t head_dim = 0;

  template <class See>
  void operands(See see) const {
    see(out("y", y, x.rows, x.cols, kCompute));
    see(in("x", x, x.rows, x.cols, kCompute));
    see(in("shared", shared, x.rows, shared.cols, kCompute));
    see(in("factor", factor, 1, 1, kWide));
  }
};

// dx = dy. u = dy added over the g heads that share, ascending, from +0; dshared = (-factor) u;
// dfactor [1, 1] fp32 = column sum over the tokens of each row's sum of -u shared, by
// fma(-u, shared, lane).
struct SubtractSharedBackward {
  static constexpr std::string_view kName = "subtract_shared_backward";
  Gradient dx, dshared, dfactor;
  View dy, shared, factor;
  int64_t head_dim = 0;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(gradient("dx", dx, dy.rows, dy.cols, kCompute));
    see(gradient("dshared", dshared, dy.rows, shared.cols, kCompute));
    see(gradient("dfactor", dfactor, 1, 1, kWide));
    see(in("dy", dy, dy.rows, dy.cols, kCompute));
    see(in("shared", shared, dy.rows, shared.cols, kCompute));
    see(in("factor", factor, 1, 1, kWide));
  }
};

// --- gated units ---------------------------------------------------------------------------------

// Shazeer, "GLU variants improve transformer", 2020: y = act(gate) up, silu(g) = g sigmoid(g),
// sigmoid(g) = 1 / (1 + exp2(-g log2 e)).
struct Gated {
  static constexpr std::string_view kName = "gated";
  View y, gate, up;
  Activation activation = Activation::kSilu;

  template <class See>
  void operands(See see) const {
    see(out("y", y, gate.rows, gate.cols, kCompute));
    see(in("gate", gate, gate.rows, gate.cols, kCompute));
    see(in("up", up, gate.rows, gate.cols, kCompute));
  }
};

// With s = sigmoid(g), a = g s: dgate = (dy up) (s fma(g, 1 - s, 1)),  dup = dy a.
struct GatedBackward {
  static constexpr std::string_view kName = "gated_backward";
  Gradient dgate, dup;
  View dy, gate, up;
  Activation activation = Activation::kSilu;

  template <class See>
  void operands(See see) const {
    see(gradient("dgate", dgate, gate.rows, gate.cols, kCompute));
    see(gradient("dup", dup, gate.rows, gate.cols, kCompute));
    see(in("dy", dy, gate.rows, gate.cols, kCompute));
    see(in("gate", gate, gate.rows, gate.cols, kCompute));
    see(in("up", up, gate.rows, gate.cols, kCompute));
  }
};

// Gated unit with PolyNorm, Zhuo et al., "Polynomial composition activations", 2024, over the whole
// row of F: N(z) = z / sqrt(mean z z + epsilon), w = [cubic, square, linear],
//   y = (w0 N(g^3) + w1 N(g^2) + w2 N(g) + b) up
// g2 = g g, g3 = g2 g, r_n = 1 / sqrt(sum(g_n g_n) / F + epsilon), c_n = a_n r_n with a = linear,
// square, cubic; P = fma(fma(fma(c3, g, c2), g, c1), g, b); y = P up. rstd [T, 3] fp32 keeps r_1,
// r_2, r_3; w [1, 3] and b [1, 1] prepared as kVector; gate, up, y compute dtype.
struct PolyNormGated {
  static constexpr std::string_view kName = "poly_norm_gated";
  View y, rstd, gate, up, w, b;
  double epsilon = 0;

  template <class See>
  void operands(See see) const {
    see(out("y", y, gate.rows, gate.cols, kCompute));
    see(out("rstd", rstd, gate.rows, 3, kWide));
    see(in("gate", gate, gate.rows, gate.cols, kCompute));
    see(in("up", up, gate.rows, gate.cols, kCompute));
    see(in("w", w, 1, 3, kCompute));
    see(in("b", b, 1, 1, kCompute));
  }
};

// d = dy up, s_0 = sum(d), s_n = sum(d g_n) with fma, k_n = ((n c_n) (r_n r_n)) (s_n / F):
//   dgate = fma(d, A, -(g B)),  A = fma(fma(3 c3, g, 2 c2), g, c1),
//                               B = fma(fma(k3, g2, k2), g2, k1);      dup = dy P
// dw, db fp32: column sums over the tokens by fma(r_n, s_n, part), and of s_0.
struct PolyNormGatedBackward {
  static constexpr std::string_view kName = "poly_norm_gated_backward";
  Gradient dgate, dup, dw, db;
  View dy, rstd, gate, up, w, b;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(gradient("dgate", dgate, gate.rows, gate.cols, kCompute));
    see(gradient("dup", dup, gate.rows, gate.cols, kCompute));
    see(gradient("dw", dw, 1, 3, kWide));
    see(gradient("db", db, 1, 1, kWide));
    see(in("dy", dy, gate.rows, gate.cols, kCompute));
    see(in("rstd", rstd, gate.rows, 3, kWide));
    see(in("gate", gate, gate.rows, gate.cols, kCompute));
    see(in("up", up, gate.rows, gate.cols, kCompute));
    see(in("w", w, 1, 3, kCompute));
    see(in("b", b, 1, 1, kCompute));
  }
};

// --- output projection with loss -----------------------------------------------------------------

// x [T, D] compute dtype, w [V, D] prepared as kMatrix, targets [T, 1] int32 (-1: no loss there).
// z = x w' in fp32, never whole in memory.  c = fp32(log2 e), m = max z, mc = m c,
//   e_j = exp2(fma(z_j, c, -mc)), +0 where the exponent is below -100;  l = sum rule over e
//   loss [T, 1] fp32 = -ln2 * fma(z_target, c, -(mc + log2 l)), +0 without a target
struct LinearCrossEntropy {
  static constexpr std::string_view kName = "linear_cross_entropy";
  View loss, x, w, targets;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(out("loss", loss, x.rows, 1, kWide));
    see(in("x", x, x.rows, x.cols, kCompute));
    see(in("w", w, w.rows, x.cols, kCompute));
    see(in("targets", targets, x.rows, 1, kIndex).within(-1, w.rows));
  }
  double flops() const { return 2.0 * static_cast<double>(x.size()) * static_cast<double>(w.rows); }
};

// Loss and gradient together (the logits would otherwise be computed twice).
//   dz_j = compute_dtype((e_j (1 / l) - [j is the target]) scale), 0 without a target
//   dx = chain over j of dz_j w_j;  dw = chain over tokens of dz x.  scale [T, 1] fp32: what the
//   token's loss counts.
struct LinearCrossEntropyBackward {
  static constexpr std::string_view kName = "linear_cross_entropy_backward";
  View loss;
  Gradient dx, dw;
  View x, w, targets, scale;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(out("loss", loss, x.rows, 1, kWide));
    see(gradient("dx", dx, x.rows, x.cols, kFloat));
    see(gradient("dw", dw, w.rows, x.cols, kWide));
    see(in("x", x, x.rows, x.cols, kCompute));
    see(in("w", w, w.rows, x.cols, kCompute));
    see(in("targets", targets, x.rows, 1, kIndex).within(-1, w.rows));
    see(in("scale", scale, x.rows, 1, kWide));
  }
  double flops() const { return 6.0 * static_cast<double>(x.size()) * static_cast<double>(w.rows); }
};

// --- sums and updates ----------------------------------------------------------------------------

// y [1, 1] fp32 = sum of x x: sum rule, fma.
struct SumSquares {
  static constexpr std::string_view kName = "sum_squares";
  View y, x;

  template <class See>
  void operands(See see) const {
    see(out("y", y, 1, 1, kWide));
    see(in("x", x, x.rows, x.cols, kFloat));
  }
};

// y [1, 1] fp32 = the elements of x [1, n], n > 0, joined by the binary tree of the sum rule.
struct TreeSum {
  static constexpr std::string_view kName = "tree_sum";
  View y, x;

  template <class See>
  void operands(See see) const {
    see(out("y", y, 1, 1, kWide));
    see(in("x", x, 1, x.cols, kWide));
  }
};

// y = a + b, fp32; y may be a or b.
struct Add {
  static constexpr std::string_view kName = "add";
  static constexpr bool kInPlace = true;
  View y, a, b;

  template <class See>
  void operands(See see) const {
    see(out("y", y, a.rows, a.cols, kWide));
    see(in("a", a, a.rows, a.cols, kWide));
    see(in("b", b, a.rows, a.cols, kWide));
  }
};

// y = the greater of a and b, max rule, fp32; y may be a or b.
struct Maximum {
  static constexpr std::string_view kName = "maximum";
  static constexpr bool kInPlace = true;
  View y, a, b;

  template <class See>
  void operands(See see) const {
    see(out("y", y, a.rows, a.cols, kWide));
    see(in("a", a, a.rows, a.cols, kWide));
    see(in("b", b, a.rows, a.cols, kWide));
  }
};

// y = x, to the bit.
struct Copy {
  static constexpr std::string_view kName = "copy";
  View y, x;

  template <class See>
  void operands(See see) const {
    see(out("y", y, x.rows, x.cols, kAny));
    see(in("x", x, x.rows, x.cols, kAny));
  }
};

struct Zero {
  static constexpr std::string_view kName = "zero";
  View y;

  template <class See>
  void operands(See see) const {
    see(out("y", y, y.rows, y.cols, kAny));
  }
};

// y = x factor, fp32; y may be x.
struct Scale {
  static constexpr std::string_view kName = "scale";
  static constexpr bool kInPlace = true;
  View y, x;
  float factor = 1;

  template <class See>
  void operands(See see) const {
    see(out("y", y, x.rows, x.cols, kWide));
    see(in("x", x, x.rows, x.cols, kWide));
  }
};

// y [1, cols] = the greatest of each column of x [T, cols], fp32: max over the tokens ascending.
struct ColumnMax {
  static constexpr std::string_view kName = "column_max";
  View y, x;

  template <class See>
  void operands(See see) const {
    see(out("y", y, 1, x.cols, kWide));
    see(in("x", x, x.rows, x.cols, kWide));
  }
};

// g = gradient gradient_scale;  m = fma(beta1, m, (1 - beta1) g)
// v = fma(beta2, v, (1 - beta2) (g g));  u = (m correction1) / (sqrt(v correction2) + epsilon)
// parameter = fma(-learning_rate, u, parameter decay).  All fp32, same shape.
struct AdamW {
  static constexpr std::string_view kName = "adamw";
  View parameter, gradient, m, v;
  AdamWArguments arguments;

  template <class See>
  void operands(See see) const {
    see(updated("parameter", parameter, gradient.rows, gradient.cols, kWide));
    see(in("gradient", gradient, gradient.rows, gradient.cols, kWide));
    see(updated("m", m, gradient.rows, gradient.cols, kWide));
    see(updated("v", v, gradient.rows, gradient.cols, kWide));
  }
};

// One matrix [rows, cols]; parameter, gradient and momentum m fp32, what lies between bf16.
//   g = gradient gradient_scale;  m = fma(momentum, m, g);  u = bf16(fma(momentum, m, g))
//   Z = bf16(u (1 / (sqrt(sum(u u)) + 1e-7))), u row-major; transposed when rows < cols, so that
//   Z is [l, s] with l >= s. For each (a, b, c) of kNewtonSchulz in numerics.h:
//     A = bf16(Z' Z), S = A' A in fp32, B = bf16(fma(c, S, b A)), Z = bf16(fma(a, Z, Z B)),
//   products by the bf16 chain (over l, s, s).
//   parameter = fma(-learning_rate, Z turned back, parameter decay)
struct Muon {
  static constexpr std::string_view kName = "muon";
  View parameter, gradient, m;
  MuonArguments arguments;
  Workspace workspace = {};

  template <class See>
  void operands(See see) const {
    see(updated("parameter", parameter, gradient.rows, gradient.cols, kWide));
    see(in("gradient", gradient, gradient.rows, gradient.cols, kWide));
    see(updated("m", m, gradient.rows, gradient.cols, kWide));
  }
  // Five times the two symmetric products and the one that applies them.
  double flops() const {
    const auto l = static_cast<double>(std::max(parameter.rows, parameter.cols));
    const auto s = static_cast<double>(std::min(parameter.rows, parameter.cols));
    return 5 * 2 * (2 * l * s * s + s * s * s);
  }
};

// --- the list ------------------------------------------------------------------------------------

// OP(A), OP(B), ...: what follows from the list is made by macros that it is handed, such as the
// declarations of a backend, so that a backend that lacks an operation does not build.
#define NAITE_OPERATIONS(OP)                                                                       \
  OP(Prepare), OP(Linear), OP(LinearBackwardInput), OP(LinearBackwardWeight), OP(ColumnSum),       \
      OP(Embed), OP(EmbedBackward), OP(RmsNorm), OP(RmsNormBackward), OP(Rope), OP(RopeBackward),  \
      OP(Attention), OP(AttentionBackward), OP(StoreRows), OP(DifferentialLambda),                 \
      OP(DifferentialLambdaBackward), OP(SubtractShared), OP(SubtractSharedBackward), OP(Gated),   \
      OP(GatedBackward), OP(PolyNormGated), OP(PolyNormGatedBackward), OP(LinearCrossEntropy),     \
      OP(LinearCrossEntropyBackward), OP(SumSquares), OP(TreeSum), OP(Add), OP(Maximum), OP(Copy), \
      OP(Zero), OP(Scale), OP(ColumnMax), OP(AdamW), OP(Muon)

}  // namespace naite::kernels
