// SPDX-License-Identifier: Apache-2.0
#pragma once
// Embedding, norms and gated units. Shapes and orders: operations.h.
#include "kernels/operations/operand.h"

namespace naite::kernels {

// --- embedding -----------------------------------------------------------------------------------

// y [T, D] fp32 = table[ids]; ids [T, 1] int32; table [V, D] prepared as kTable.
struct Embed {
  static constexpr std::string_view kName = "embed";
  View y, ids, table;

  NAITE_OPERANDS(out("y", y, ids.rows, table.cols, kWide),
                 in("ids", ids, ids.rows, 1, kIndex).within(0, table.rows),
                 in("table", table, table.rows, table.cols, kFloat))
};

// dtable [V, D] fp32: for every id its rows of dy added in ascending position, one chain of
// additions that starts at the stored value (accumulate) or at +0.
struct EmbedBackward {
  static constexpr std::string_view kName = "embed_backward";
  Gradient dtable;
  View dy, ids;
  Workspace workspace = {};

  NAITE_OPERANDS(gradient("dtable", dtable, dtable.view.rows, dy.cols, kWide),
                 in("dy", dy, ids.rows, dy.cols, kWide),
                 in("ids", ids, ids.rows, 1, kIndex).within(0, dtable.view.rows))
};

// --- RMS norm ------------------------------------------------------------------------------------

struct NormArguments {
  double epsilon = 1e-6;
  int64_t heads = 1;  // a row holds `heads` vectors that are normed one by one with the same weight
  double scale = 1;   // factor on the weight
};

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

  NAITE_OPERANDS(gradient("dx", dx, x.rows, x.cols, kFloat),
                 gradient("ddelta", ddelta, x.rows, x.cols, kCompute),
                 gradient("dw", dw, 1, x.cols / arguments.heads, kWide),
                 in("dy", dy, x.rows, x.cols, kCompute),
                 in("dsum", dsum, x.rows, x.cols, kWide).or_absent(),
                 in("x", x, x.rows, x.cols, kFloat),
                 in("rstd", rstd, x.rows, arguments.heads, kWide),
                 in("w", w, 1, x.cols / arguments.heads, kCompute))
};

// --- gated units ---------------------------------------------------------------------------------

// What units have in common that are gated element by element: y = act(gate) up.
struct GatedUnit {
  View y, gate, up;

  NAITE_OPERANDS(out("y", y, gate.rows, gate.cols, kCompute),
                 in("gate", gate, gate.rows, gate.cols, kCompute),
                 in("up", up, gate.rows, gate.cols, kCompute))
};
struct GatedUnitBackward {
  Gradient dgate, dup;
  View dy, gate, up;

  NAITE_OPERANDS(gradient("dgate", dgate, gate.rows, gate.cols, kCompute),
                 gradient("dup", dup, gate.rows, gate.cols, kCompute),
                 in("dy", dy, gate.rows, gate.cols, kCompute),
                 in("gate", gate, gate.rows, gate.cols, kCompute),
                 in("up", up, gate.rows, gate.cols, kCompute))
};

// Shazeer, "GLU variants improve transformer", 2020: y = silu(gate) up, silu(g) = g sigmoid(g),
// sigmoid(g) = 1 / (1 + exp2(-g log2 e)).
struct Gated : GatedUnit {
  static constexpr std::string_view kName = "gated";
};
// With s = sigmoid(g), a = g s: dgate = (dy up) (s fma(g, 1 - s, 1)),  dup = dy a.
struct GatedBackward : GatedUnitBackward {
  static constexpr std::string_view kName = "gated_backward";
};

// Hendrycks and Gimpel, "Gaussian error linear units", 2016, in the form with tanh, as a gate:
// y = gelu(gate) up, gelu(g) = g s, s = sigmoid(g fma(cubic, g2, linear)), g2 = g g. It is
// g (1 + tanh(z)) / 2 with z = sqrt(2 / pi) (g + 0.044715 g^3), and (1 + tanh(z)) / 2 = sigmoid(2
// z).
struct GeluGated : GatedUnit {
  static constexpr std::string_view kName = "gelu_gated";
  static constexpr double kLinear = 1.5957691216057308;  // 2 sqrt(2 / pi)
  static constexpr double kCubic = 0.044715 * kLinear;   // these, and 3 cubic, rounded to fp32
};
// dgate = (dy up) (s fma(g (1 - s), fma(3 cubic, g2, linear), 1)),  dup = dy (g s).
struct GeluGatedBackward : GatedUnitBackward {
  static constexpr std::string_view kName = "gelu_gated_backward";
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

  NAITE_OPERANDS(out("y", y, gate.rows, gate.cols, kCompute),
                 out("rstd", rstd, gate.rows, 3, kWide),
                 in("gate", gate, gate.rows, gate.cols, kCompute),
                 in("up", up, gate.rows, gate.cols, kCompute), in("w", w, 1, 3, kCompute),
                 in("b", b, 1, 1, kCompute))
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

  NAITE_OPERANDS(gradient("dgate", dgate, gate.rows, gate.cols, kCompute),
                 gradient("dup", dup, gate.rows, gate.cols, kCompute),
                 gradient("dw", dw, 1, 3, kWide), gradient("db", db, 1, 1, kWide),
                 in("dy", dy, gate.rows, gate.cols, kCompute),
                 in("rstd", rstd, gate.rows, 3, kWide),
                 in("gate", gate, gate.rows, gate.cols, kCompute),
                 in("up", up, gate.rows, gate.cols, kCompute), in("w", w, 1, 3, kCompute),
                 in("b", b, 1, 1, kCompute))
};

#define NAITE_ELEMENTWISE_OPERATIONS(OP)                                                        \
  OP(Embed), OP(EmbedBackward), OP(RmsNorm), OP(RmsNormBackward), OP(Gated), OP(GatedBackward), \
      OP(GeluGated), OP(GeluGatedBackward), OP(PolyNormGated), OP(PolyNormGatedBackward)

}  // namespace naite::kernels
