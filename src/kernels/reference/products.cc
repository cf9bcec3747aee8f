// SPDX-License-Identifier: Apache-2.0
// Products, and the output projection with its loss. Reduction order: kernels.h, "product" and
// "sum".
#include <vector>

#include "kernels/reference/reference.h"

namespace naite::kernels {

template <class Real>
int64_t ReferenceKernels<Real>::prepared_bytes(Use, DType compute, int64_t rows,
                                               int64_t cols) const {
  return compute == DType::kBf16 ? rows * cols * 2 : 0;
}

template <class Real>
void ReferenceKernels<Real>::prepare(void* prepared, Use, DType compute, View master) {
  const View copy{prepared, compute, master.rows, master.cols};
  for (int64_t i = 0; i < master.size(); ++i) store<Real>(copy, i, load<Real>(master, i));
}

template <class Real>
void ReferenceKernels<Real>::linear(std::span<const Projection> parts, View x, Workspace) {
  for (const Projection& part : parts) {
    for (int64_t t = 0; t < x.rows; ++t) {
      for (int64_t o = 0; o < part.w.rows; ++o) {
        Chain<Real> chain(x.dtype, Real{0});
        for (int64_t i = 0; i < x.cols; ++i)
          chain.feed(load<Real>(x, t, i), load<Real>(part.w, o, i));
        Real y = chain.finish();
        if (part.bias) y = y + load<Real>(part.bias, o);
        store<Real>(part.y, t, o, y);
      }
    }
  }
}

template <class Real>
void ReferenceKernels<Real>::linear_backward_input(Gradient dx, std::span<const Projection> parts,
                                                   Workspace) {
  if (!dx.wanted) return;
  for (int64_t t = 0; t < dx.view.rows; ++t) {
    for (int64_t i = 0; i < dx.view.cols; ++i) {
      const Real start = dx.accumulate ? load<Real>(dx.view, t, i) : Real{0};
      Chain<Real> chain(parts.front().y.dtype, start);
      for (const Projection& part : parts) {
        for (int64_t o = 0; o < part.w.rows; ++o)
          chain.feed(load<Real>(part.y, t, o), load<Real>(part.w, o, i));
        chain.pad();
      }
      store<Real>(dx.view, t, i, chain.finish());
    }
  }
}

template <class Real>
void ReferenceKernels<Real>::linear_backward_weight(Gradient dw, View dy, View x, Workspace) {
  if (!dw.wanted) return;
  for (int64_t o = 0; o < dy.cols; ++o) {
    for (int64_t i = 0; i < x.cols; ++i) {
      const Real start = dw.accumulate ? load<Real>(dw.view, o, i) : Real{0};
      Chain<Real> chain(dy.dtype, start);
      for (int64_t t = 0; t < dy.rows; ++t) chain.feed(load<Real>(dy, t, o), load<Real>(x, t, i));
      store<Real>(dw.view, o, i, chain.finish());
    }
  }
}

namespace {

// What one row of logits gives: e_j, 1 / l, and the loss for `target`.
template <class Real>
struct RowSoftmax {
  std::vector<Real> e;
  Real inverse = 0, loss = 0;
};

template <class Real>
RowSoftmax<Real> row_softmax(const View& x, const View& w, int64_t t, int64_t target) {
  const Real c = static_cast<Real>(1.44269504088896340736);
  std::vector<Real> z(w.rows);
  for (int64_t j = 0; j < w.rows; ++j) {
    Chain<Real> chain(x.dtype, Real{0});
    for (int64_t i = 0; i < x.cols; ++i) chain.feed(load<Real>(x, t, i), load<Real>(w, j, i));
    z[j] = chain.finish();
  }
  Real m = z[0];
  for (Real value : z) m = m > value ? m : value;
  const Real mc = m * c;
  RowSoftmax<Real> row;
  row.e.resize(w.rows);
  for (int64_t j = 0; j < w.rows; ++j) row.e[j] = exp2(fma(z[j], c, -mc));
  const Real l = sum<Real>(w.rows, [&](int64_t j, Real lane) { return lane + row.e[j]; });
  row.inverse = Real{1} / l;
  const Real lse = mc + log2(l);
  const Real minus_ln2 = static_cast<Real>(-0.693147180559945309417);
  if (target >= 0) row.loss = minus_ln2 * fma(z[target], c, -lse);
  return row;
}

}  // namespace

template <class Real>
void ReferenceKernels<Real>::linear_cross_entropy(View loss, View x, View w, View targets,
                                                  Workspace) {
  for (int64_t t = 0; t < x.rows; ++t)
    store<Real>(loss, t, row_softmax<Real>(x, w, t, targets.as<int32_t>()[t]).loss);
}

template <class Real>
void ReferenceKernels<Real>::linear_cross_entropy_backward(View loss, Gradient dx, Gradient dw,
                                                           View x, View w, View targets, View scale,
                                                           Workspace workspace) {
  std::vector<Real> dz(x.rows * w.rows);
  const Real factor = load<Real>(scale, 0);
  for (int64_t t = 0; t < x.rows; ++t) {
    const int32_t target = targets.as<int32_t>()[t];
    const RowSoftmax<Real> row = row_softmax<Real>(x, w, t, target);
    store<Real>(loss, t, row.loss);
    for (int64_t j = 0; j < w.rows; ++j) {
      const Real p = row.e[j] * row.inverse;
      const Real one_hot = j == target ? Real{1} : Real{0};
      const Real value = target >= 0 ? (p - one_hot) * factor : Real{0};
      dz[t * w.rows + j] = rounded<Real>(x.dtype, value);
    }
  }
  // The rest is two ordinary products; dz is already rounded to the compute dtype.
  const DType wide = sizeof(Real) == 4 ? DType::kF32 : DType::kF64;
  const View exact{dz.data(), wide, x.rows, w.rows};
  std::vector<uint16_t> narrow;
  View dlogits = exact;
  if (x.dtype == DType::kBf16) {
    narrow.resize(dz.size());
    dlogits = View{narrow.data(), DType::kBf16, x.rows, w.rows};
    for (int64_t i = 0; i < exact.size(); ++i) store<Real>(dlogits, i, dz[i]);
  }
  const Projection part{dlogits, w, {}};
  linear_backward_input(dx, std::span(&part, 1), workspace);
  linear_backward_weight(dw, dlogits, x, workspace);
}

#define NAITE_INSTANTIATE(Real)                                                                  \
  template int64_t ReferenceKernels<Real>::prepared_bytes(Use, DType, int64_t, int64_t) const;   \
  template void ReferenceKernels<Real>::prepare(void*, Use, DType, View);                        \
  template void ReferenceKernels<Real>::linear(std::span<const Projection>, View, Workspace);    \
  template void ReferenceKernels<Real>::linear_backward_input(                                   \
      Gradient, std::span<const Projection>, Workspace);                                         \
  template void ReferenceKernels<Real>::linear_backward_weight(Gradient, View, View, Workspace); \
  template void ReferenceKernels<Real>::linear_cross_entropy(View, View, View, View, Workspace); \
  template void ReferenceKernels<Real>::linear_cross_entropy_backward(                           \
      View, Gradient, Gradient, View, View, View, View, Workspace);
NAITE_INSTANTIATE(float)
NAITE_INSTANTIATE(double)

}  // namespace naite::kernels
