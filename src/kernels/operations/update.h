// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sums, maxima, copies, and what an optimizer does to a parameter. Shapes and orders: operations.h.
#include <algorithm>

#include "kernels/operations/operand.h"

namespace naite::kernels {

// y [1, 1] fp32 = sum of x x: sum rule, fma.
struct SumSquares {
  static constexpr std::string_view kName = "sum_squares";
  View y, x;

  NAITE_OPERANDS(out("y", y, 1, 1, kWide), in("x", x, x.rows, x.cols, kFloat))
};

// y [1, 1] fp32 = the elements of x [1, n], n > 0, joined by the binary tree of the sum rule.
struct TreeSum {
  static constexpr std::string_view kName = "tree_sum";
  View y, x;

  NAITE_OPERANDS(out("y", y, 1, 1, kWide), in("x", x, 1, x.cols, kWide))
};

// Of two tensors of one shape, element by element in fp32; y may be a or b.
struct OfTwo {
  static constexpr bool kInPlace = true;
  View y, a, b;

  NAITE_OPERANDS(out("y", y, a.rows, a.cols, kWide), in("a", a, a.rows, a.cols, kWide),
                 in("b", b, a.rows, a.cols, kWide))
};
// y = a + b.
struct Add : OfTwo {
  static constexpr std::string_view kName = "add";
};
// y = the greater of a and b, max rule.
struct Maximum : OfTwo {
  static constexpr std::string_view kName = "maximum";
};

// y = x, to the bit.
struct Copy {
  static constexpr std::string_view kName = "copy";
  View y, x;

  NAITE_OPERANDS(out("y", y, x.rows, x.cols, kAny), in("x", x, x.rows, x.cols, kAny))
};

struct Zero {
  static constexpr std::string_view kName = "zero";
  View y;

  NAITE_OPERANDS(out("y", y, y.rows, y.cols, kAny))
};

// y = x factor, fp32; y may be x.
struct Scale {
  static constexpr std::string_view kName = "scale";
  static constexpr bool kInPlace = true;
  View y, x;
  float factor = 1;

  NAITE_OPERANDS(out("y", y, x.rows, x.cols, kWide), in("x", x, x.rows, x.cols, kWide))
};

// y [1, cols] = the greatest of each column of x [T, cols], fp32: max over the tokens ascending.
struct ColumnMax {
  static constexpr std::string_view kName = "column_max";
  View y, x;

  NAITE_OPERANDS(out("y", y, 1, x.cols, kWide), in("x", x, x.rows, x.cols, kWide))
};

struct AdamWArguments {  // Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019
  float gradient_scale = 1;  // global-norm clip
  float beta1 = 0, one_minus_beta1 = 0, beta2 = 0, one_minus_beta2 = 0;
  float inverse_correction1 = 0, inverse_correction2 = 0;  // 1 / (1 - beta^step)
  float epsilon = 0;
  float learning_rate = 0;
  float decay = 1;  // 1 - learning_rate * weight_decay
};

// g = gradient gradient_scale;  m = fma(beta1, m, (1 - beta1) g)
// v = fma(beta2, v, (1 - beta2) (g g));  u = (m correction1) / (sqrt(v correction2) + epsilon)
// parameter = fma(-learning_rate, u, parameter decay).  All fp32, same shape.
struct AdamW {
  static constexpr std::string_view kName = "adamw";
  View parameter, gradient, m, v;
  AdamWArguments arguments;

  NAITE_OPERANDS(updated("parameter", parameter, gradient.rows, gradient.cols, kWide),
                 in("gradient", gradient, gradient.rows, gradient.cols, kWide),
                 updated("m", m, gradient.rows, gradient.cols, kWide),
                 updated("v", v, gradient.rows, gradient.cols, kWide))
};

// Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, with the size of
// the step that Liu et al., "Muon is scalable for LLM training", 2025, give it.
struct MuonArguments {
  float gradient_scale = 1;  // global-norm clip
  float momentum = 0;
  float learning_rate = 0;  // of this matrix: 0.2 sqrt(max(rows, cols)) is in it
  float decay = 1;          // 1 - learning rate * weight_decay
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

  NAITE_OPERANDS(updated("parameter", parameter, gradient.rows, gradient.cols, kWide),
                 in("gradient", gradient, gradient.rows, gradient.cols, kWide),
                 updated("m", m, gradient.rows, gradient.cols, kWide))
  // Five times the two symmetric products and the one that applies them.
  double flops() const {
    const auto l = static_cast<double>(std::max(parameter.rows, parameter.cols));
    const auto s = static_cast<double>(std::min(parameter.rows, parameter.cols));
    return 5 * 2 * (2 * l * s * s + s * s * s);
  }
};

#define NAITE_UPDATE_OPERATIONS(OP)                                                                \
  OP(SumSquares), OP(TreeSum), OP(Add), OP(Maximum), OP(Copy), OP(Zero), OP(Scale), OP(ColumnMax), \
      OP(AdamW), OP(Muon)

}  // namespace naite::kernels
