// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters as operations read them, products with them, and the output projection with its loss.
// Shapes and orders: operations.h.
#include "kernels/operations/operand.h"

namespace naite::kernels {

// --- parameters ----------------------------------------------------------------------------------

// Rounds a [rows, cols] fp32 master to the compute dtype and lays it out for its use. `prepared`
// has Kernels::prepared_bytes() bytes; where that is 0, the master is read in place and nobody
// calls.
struct Prepare {
  static constexpr std::string_view kName = "prepare";
  View prepared, master;
  Use use = Use::kMatrix;

  NAITE_OPERANDS(out("prepared", prepared, master.rows, master.cols, kCompute),
                 in("master", master, master.rows, master.cols, kWide))
};

// --- products ------------------------------------------------------------------------------------

// One weight of a linear layer that shares its input with others: y = x w' + bias.
struct Projection {
  View y;     // [T, out]; its gradient in the backward functions
  View w;     // [out, in], prepared as kMatrix
  View bias;  // [1, out] prepared as kVector, or absent; added once to the finished chain
};

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

  NAITE_OPERANDS(gradient("dw", dw, dy.cols, x.cols, kWide),
                 in("dy", dy, x.rows, dy.cols, kCompute), in("x", x, x.rows, x.cols, kCompute))
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

  NAITE_OPERANDS(gradient("dbias", dbias, 1, dy.cols, kWide),
                 in("dy", dy, dy.rows, dy.cols, kFloat))
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

  NAITE_OPERANDS(out("loss", loss, x.rows, 1, kWide), in("x", x, x.rows, x.cols, kCompute),
                 in("w", w, w.rows, x.cols, kCompute),
                 in("targets", targets, x.rows, 1, kIndex).within(-1, w.rows))
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

  NAITE_OPERANDS(out("loss", loss, x.rows, 1, kWide), gradient("dx", dx, x.rows, x.cols, kFloat),
                 gradient("dw", dw, w.rows, x.cols, kWide), in("x", x, x.rows, x.cols, kCompute),
                 in("w", w, w.rows, x.cols, kCompute),
                 in("targets", targets, x.rows, 1, kIndex).within(-1, w.rows),
                 in("scale", scale, x.rows, 1, kWide))
  double flops() const { return 6.0 * static_cast<double>(x.size()) * static_cast<double>(w.rows); }
};

#define NAITE_LINEAR_OPERATIONS(OP)                                                          \
  OP(Prepare), OP(Linear), OP(LinearBackwardInput), OP(LinearBackwardWeight), OP(ColumnSum), \
      OP(LinearCrossEntropy), OP(LinearCrossEntropyBackward)

}  // namespace naite::kernels
