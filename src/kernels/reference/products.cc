// SPDX-License-Identifier: Apache-2.0
// Products, and the output projection with its loss. Reduction order: operations.h, "product" and
// "sum".
#include <vector>

#include "kernels/reference/reference.h"

namespace naite::kernels {

template <class Real>
void Reference<Real>::run(const Prepare& op) const {
  for (int64_t i = 0; i < op.master.size(); ++i)
    store<Real>(op.prepared, i, load<Real>(op.master, i));
}

namespace {

// Row t of x times row o of w.
template <class Real>
Real row_product(const Arithmetic& arithmetic, const View& x, const View& w, int64_t t, int64_t o) {
  return product<Real>(arithmetic, x.dtype, Real{0}, [&](Chain<Real>& chain, int64_t piece) {
    const auto [begin, end] = arithmetic.piece(piece, x.cols);
    for (int64_t i = begin; i < end; ++i) chain.feed(load<Real>(x, t, i), load<Real>(w, o, i));
  });
}

}  // namespace

template <class Real>
void Reference<Real>::run(const Linear& op) const {
  for (const Projection& part : op.parts) {
    for (int64_t t = 0; t < op.x.rows; ++t) {
      for (int64_t o = 0; o < part.w.rows; ++o) {
        Real y = row_product<Real>(arithmetic, op.x, part.w, t, o);
        if (part.bias) y = y + load<Real>(part.bias, o);
        store<Real>(part.y, t, o, y);
      }
    }
  }
}

template <class Real>
void Reference<Real>::run(const LinearBackwardInput& op) const {
  if (!op.dx.wanted) return;
  for (int64_t t = 0; t < op.dx.view.rows; ++t) {
    for (int64_t i = 0; i < op.dx.view.cols; ++i) {
      const Real start = op.dx.accumulate ? load<Real>(op.dx.view, t, i) : Real{0};
      const auto feed = [&](Chain<Real>& chain, int64_t piece) {
        for (const Projection& part : op.parts) {
          const auto [begin, end] = arithmetic.piece(piece, part.w.rows);
          for (int64_t o = begin; o < end; ++o)
            chain.feed(load<Real>(part.y, t, o), load<Real>(part.w, o, i));
          chain.pad();
        }
      };
      const DType operands = op.parts.front().y.dtype;
      store<Real>(op.dx.view, t, i, product<Real>(arithmetic, operands, start, feed));
    }
  }
}

template <class Real>
void Reference<Real>::run(const LinearBackwardWeight& op) const {
  if (!op.dw.wanted) return;
  for (int64_t o = 0; o < op.dy.cols; ++o) {
    for (int64_t i = 0; i < op.x.cols; ++i) {
      const Real start = op.dw.accumulate ? load<Real>(op.dw.view, o, i) : Real{0};
      Chain<Real> chain(op.dy.dtype, start);
      for (int64_t t = 0; t < op.dy.rows; ++t)
        chain.feed(load<Real>(op.dy, t, o), load<Real>(op.x, t, i));
      store<Real>(op.dw.view, o, i, chain.finish());
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
RowSoftmax<Real> row_softmax(const Arithmetic& arithmetic, const View& x, const View& w, int64_t t,
                             int64_t target) {
  const Real c = static_cast<Real>(kLog2E);
  std::vector<Real> z(w.rows);
  for (int64_t j = 0; j < w.rows; ++j) z[j] = row_product<Real>(arithmetic, x, w, t, j);
  Real m = z[0];
  for (Real value : z) m = m > value ? m : value;
  const Real mc = m * c;
  RowSoftmax<Real> row;
  row.e.resize(w.rows);
  for (int64_t j = 0; j < w.rows; ++j) row.e[j] = exp2(fma(z[j], c, -mc));
  const Real l = sum_in_pieces<Real>(arithmetic, w.rows, 2,
                                     [&](int64_t j, Real lane) { return lane + row.e[j]; });
  row.inverse = Real{1} / l;
  const Real lse = mc + log2(l);
  const Real minus_ln2 = static_cast<Real>(-kLn2);
  if (target >= 0) row.loss = minus_ln2 * fma(z[target], c, -lse);
  return row;
}

}  // namespace

template <class Real>
void Reference<Real>::run(const LinearCrossEntropy& op) const {
  for (int64_t t = 0; t < op.x.rows; ++t) {
    const int32_t target = op.targets.as<int32_t>()[t];
    store<Real>(op.loss, t, row_softmax<Real>(arithmetic, op.x, op.w, t, target).loss);
  }
}

template <class Real>
void Reference<Real>::run(const LinearCrossEntropyBackward& op) const {
  std::vector<Real> dz(op.x.rows * op.w.rows);
  for (int64_t t = 0; t < op.x.rows; ++t) {
    const int32_t target = op.targets.as<int32_t>()[t];
    const RowSoftmax<Real> row = row_softmax<Real>(arithmetic, op.x, op.w, t, target);
    store<Real>(op.loss, t, row.loss);
    const Real factor = load<Real>(op.scale, t);
    for (int64_t j = 0; j < op.w.rows; ++j) {
      const Real p = row.e[j] * row.inverse;
      const Real one_hot = j == target ? Real{1} : Real{0};
      const Real value = target >= 0 ? (p - one_hot) * factor : Real{0};
      dz[t * op.w.rows + j] = rounded<Real>(op.x.dtype, value);
    }
  }
  // The rest is two ordinary products; dz is already rounded to the compute dtype.
  const DType wide = sizeof(Real) == 4 ? DType::kF32 : DType::kF64;
  const View exact{dz.data(), wide, op.x.rows, op.w.rows};
  std::vector<uint16_t> narrow;
  View dlogits = exact;
  if (op.x.dtype == DType::kBf16) {
    narrow.resize(dz.size());
    dlogits = View{narrow.data(), DType::kBf16, op.x.rows, op.w.rows};
    for (int64_t i = 0; i < exact.size(); ++i) store<Real>(dlogits, i, dz[i]);
  }
  const Projection part{dlogits, op.w, {}};
  run(LinearBackwardInput{op.dx, {&part, 1}, {}});
  run(LinearBackwardWeight{op.dw, dlogits, op.x, {}});
}

NAITE_REFERENCE(Prepare)
NAITE_REFERENCE(Linear)
NAITE_REFERENCE(LinearBackwardInput)
NAITE_REFERENCE(LinearBackwardWeight)
NAITE_REFERENCE(LinearCrossEntropy)
NAITE_REFERENCE(LinearCrossEntropyBackward)

}  // namespace naite::kernels
