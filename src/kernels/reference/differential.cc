// SPDX-License-Identifier: Apache-2.0
// What differential attention adds to attention. Formulas and orders: kernels.h.
#include "kernels/reference/reference.h"

namespace naite::kernels {

namespace {

template <class Real>
Real exp_dot(const View& q, const View& k) {
  const Real dot = sum<Real>(q.cols, [&](int64_t i, Real lane) {
    return fma(load<Real>(q, i), load<Real>(k, i), lane);
  });
  return exp2(dot * static_cast<Real>(1.44269504088896340736));
}

}  // namespace

template <class Real>
void ReferenceKernels<Real>::differential_lambda(View lambda, LambdaVectors v, double initial) {
  const Real difference = exp_dot<Real>(v.q1, v.k1) - exp_dot<Real>(v.q2, v.k2);
  store<Real>(lambda, 0, difference + static_cast<Real>(initial));
}

template <class Real>
void ReferenceKernels<Real>::differential_lambda_backward(LambdaGradients gradients, View dlambda,
                                                          LambdaVectors v) {
  const Real d1 = load<Real>(dlambda, 0) * exp_dot<Real>(v.q1, v.k1);
  const Real d2 = -(load<Real>(dlambda, 0) * exp_dot<Real>(v.q2, v.k2));
  for (int64_t i = 0; i < v.q1.cols; ++i) {
    put<Real>(gradients.q1, i, d1 * load<Real>(v.k1, i));
    put<Real>(gradients.k1, i, d1 * load<Real>(v.q1, i));
    put<Real>(gradients.q2, i, d2 * load<Real>(v.k2, i));
    put<Real>(gradients.k2, i, d2 * load<Real>(v.q2, i));
  }
}

template <class Real>
void ReferenceKernels<Real>::subtract_shared(View y, View x, View shared, View factor,
                                             int64_t head_dim) {
  const int64_t group = x.cols / shared.cols;
  const Real minus_factor = -load<Real>(factor, 0);
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t i = 0; i < x.cols; ++i) {
      const int64_t from = i / head_dim / group * head_dim + i % head_dim;
      store<Real>(y, t, i, fma(minus_factor, load<Real>(shared, t, from), load<Real>(x, t, i)));
    }
}

template <class Real>
void ReferenceKernels<Real>::subtract_shared_backward(Gradient dx, Gradient dshared,
                                                      Gradient dfactor, View dy, View shared,
                                                      View factor, int64_t head_dim, Workspace) {
  const int64_t group = dy.cols / shared.cols;
  for (int64_t i = 0; i < dy.size(); ++i) put<Real>(dx, i, load<Real>(dy, i));
  auto added = [&](int64_t t, int64_t i) {
    const int64_t first = i / head_dim * group;
    Real u = 0;
    for (int64_t h = first; h < first + group; ++h)
      u = u + load<Real>(dy, t, h * head_dim + i % head_dim);
    return u;
  };
  for (int64_t t = 0; t < dy.rows; ++t)
    for (int64_t i = 0; i < shared.cols; ++i)
      put<Real>(dshared, t * shared.cols + i, -load<Real>(factor, 0) * added(t, i));
  put<Real>(dfactor, 0, column<Real>(dy.rows, [&](int64_t t, Real part) {
              return part + sum<Real>(shared.cols, [&](int64_t i, Real lane) {
                       return fma(-added(t, i), load<Real>(shared, t, i), lane);
                     });
            }));
}

#define NAITE_INSTANTIATE(Real)                                                                    \
  template void ReferenceKernels<Real>::differential_lambda(View, LambdaVectors, double);          \
  template void ReferenceKernels<Real>::differential_lambda_backward(LambdaGradients, View,        \
                                                                     LambdaVectors);               \
  template void ReferenceKernels<Real>::subtract_shared(View, View, View, View, int64_t);          \
  template void ReferenceKernels<Real>::subtract_shared_backward(Gradient, Gradient, Gradient,     \
                                                                 View, View, View, int64_t,        \
                                                                 Workspace);
NAITE_INSTANTIATE(float)
NAITE_INSTANTIATE(double)

}  // namespace naite::kernels
