// SPDX-License-Identifier: Apache-2.0
// What differential attention adds to attention. Formulas and orders: operations.h.
#include "kernels/reference/reference.h"

namespace naite::kernels {

namespace {

template <class Real>
Real exp_dot(const View& q, const View& k) {
  const Real dot = sum<Real>(
      q.cols, [&](int64_t i, Real lane) { return fma(load<Real>(q, i), load<Real>(k, i), lane); });
  return exp2(dot * static_cast<Real>(kLog2E));
}

}  // namespace

template <class Real>
void Reference<Real>::run(const DifferentialLambda& op) const {
  const LambdaVectors& v = op.vectors;
  const Real difference = exp_dot<Real>(v.q1, v.k1) - exp_dot<Real>(v.q2, v.k2);
  store<Real>(op.lambda, 0, difference + static_cast<Real>(op.initial));
}

template <class Real>
void Reference<Real>::run(const DifferentialLambdaBackward& op) const {
  const LambdaVectors& v = op.vectors;
  const Real d1 = load<Real>(op.dlambda, 0) * exp_dot<Real>(v.q1, v.k1);
  const Real d2 = -(load<Real>(op.dlambda, 0) * exp_dot<Real>(v.q2, v.k2));
  for (int64_t i = 0; i < v.q1.cols; ++i) {
    put<Real>(op.gradients.q1, i, d1 * load<Real>(v.k1, i));
    put<Real>(op.gradients.k1, i, d1 * load<Real>(v.q1, i));
    put<Real>(op.gradients.q2, i, d2 * load<Real>(v.k2, i));
    put<Real>(op.gradients.k2, i, d2 * load<Real>(v.q2, i));
  }
}

template <class Real>
void Reference<Real>::run(const SubtractShared& op) const {
  const int64_t group = op.x.cols / op.shared.cols;
  const Real minus_factor = -load<Real>(op.factor, 0);
  for (int64_t t = 0; t < op.x.rows; ++t)
    for (int64_t i = 0; i < op.x.cols; ++i) {
      const int64_t from = i / op.head_dim / group * op.head_dim + i % op.head_dim;
      store<Real>(op.y, t, i,
                  fma(minus_factor, load<Real>(op.shared, t, from), load<Real>(op.x, t, i)));
    }
}

template <class Real>
void Reference<Real>::run(const SubtractSharedBackward& op) const {
  const int64_t group = op.dy.cols / op.shared.cols;
  for (int64_t i = 0; i < op.dy.size(); ++i) put<Real>(op.dx, i, load<Real>(op.dy, i));
  auto added = [&](int64_t t, int64_t i) {
    const int64_t first = i / op.head_dim * group;
    Real u = 0;
    for (int64_t h = first; h < first + group; ++h)
      u = u + load<Real>(op.dy, t, h * op.head_dim + i % op.head_dim);
    return u;
  };
  for (int64_t t = 0; t < op.dy.rows; ++t)
    for (int64_t i = 0; i < op.shared.cols; ++i)
      put<Real>(op.dshared, t * op.shared.cols + i, -load<Real>(op.factor, 0) * added(t, i));
  put<Real>(op.dfactor, 0, column<Real>(op.dy.rows, [&](int64_t t, Real part) {
              const auto term = [&](int64_t i, Real lane) {
                return fma(-added(t, i), load<Real>(op.shared, t, i), lane);
              };
              return part + sum_in_pieces<Real>(arithmetic, op.shared.cols, op.head_dim, term);
            }));
}

NAITE_REFERENCE(DifferentialLambda)
NAITE_REFERENCE(DifferentialLambdaBackward)
NAITE_REFERENCE(SubtractShared)
NAITE_REFERENCE(SubtractSharedBackward)

}  // namespace naite::kernels
