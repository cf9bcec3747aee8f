// SPDX-License-Identifier: Apache-2.0
#pragma once
// What differential attention adds to attention. Shapes and orders: operations.h.
#include "kernels/operations/operand.h"

namespace naite::kernels {

// The vectors of lambda = exp(q1 k1) - exp(q2 k2) + initial, [1, d] each, prepared as kVector.
struct LambdaVectors {
  View q1, k1, q2, k2;
};
struct LambdaGradients {
  Gradient q1, k1, q2, k2;
};

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

  NAITE_OPERANDS(out("y", y, x.rows, x.cols, kCompute), in("x", x, x.rows, x.cols, kCompute),
                 in("shared", shared, x.rows, shared.cols, kCompute),
                 in("factor", factor, 1, 1, kWide))
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

  NAITE_OPERANDS(gradient("dx", dx, dy.rows, dy.cols, kCompute),
                 gradient("dshared", dshared, dy.rows, shared.cols, kCompute),
                 gradient("dfactor", dfactor, 1, 1, kWide),
                 in("dy", dy, dy.rows, dy.cols, kCompute),
                 in("shared", shared, dy.rows, shared.cols, kCompute),
                 in("factor", factor, 1, 1, kWide))
};

#define NAITE_DIFFERENTIAL_OPERATIONS(OP)                                     \
  OP(DifferentialLambda), OP(DifferentialLambdaBackward), OP(SubtractShared), \
      OP(SubtractSharedBackward)

}  // namespace naite::kernels
