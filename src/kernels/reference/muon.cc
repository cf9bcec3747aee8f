// SPDX-License-Identifier: Apache-2.0
// Muon's step of one matrix. Formulas and orders: operations.h.
#include <cmath>
#include <vector>

#include "kernels/reference/reference.h"

namespace naite::kernels {

namespace {

template <class Real>
struct Matrix {
  Matrix(int64_t rows, int64_t cols) : rows(rows), cols(cols), values(rows * cols) {}
  Real& at(int64_t i, int64_t j) { return values[i * cols + j]; }
  Real at(int64_t i, int64_t j) const { return values[i * cols + j]; }
  int64_t rows, cols;
  std::vector<Real> values;
};

template <class Real>
Real to_bf16(Real value) {
  return rounded<Real>(DType::kBf16, value);
}

// x' x, each element one bf16 chain over the rows.
template <class Real>
Matrix<Real> gram(const Matrix<Real>& x) {
  Matrix<Real> out(x.cols, x.cols);
  for (int64_t i = 0; i < x.cols; ++i)
    for (int64_t j = 0; j < x.cols; ++j) {
      Chain<Real> chain(DType::kBf16, Real{0});
      for (int64_t k = 0; k < x.rows; ++k) chain.feed(x.at(k, i), x.at(k, j));
      out.at(i, j) = chain.finish();
    }
  return out;
}

template <class Real>
void newton_schulz_step(Matrix<Real>& z, const float (&coefficients)[3]) {
  const Real a = coefficients[0], b = coefficients[1], c = coefficients[2];
  Matrix<Real> A = gram(z);
  for (Real& value : A.values) value = to_bf16(value);
  Matrix<Real> B = gram(A);
  for (size_t i = 0; i < B.values.size(); ++i)
    B.values[i] = to_bf16(fma(c, B.values[i], b * A.values[i]));
  const Matrix<Real> old = z;
  for (int64_t i = 0; i < z.rows; ++i)
    for (int64_t j = 0; j < z.cols; ++j) {
      Chain<Real> chain(DType::kBf16, Real{0});
      for (int64_t k = 0; k < z.cols; ++k) chain.feed(old.at(i, k), B.at(j, k));
      z.at(i, j) = to_bf16(fma(a, old.at(i, j), chain.finish()));
    }
}

}  // namespace

template <class Real>
void Reference<Real>::run(const Muon& op) const {
  const MuonArguments& a = op.arguments;
  const int64_t rows = op.parameter.rows, cols = op.parameter.cols;
  const bool turned = rows < cols;
  std::vector<Real> u(op.parameter.size());
  for (int64_t i = 0; i < op.parameter.size(); ++i) {
    const Real g = load<Real>(op.gradient, i) * Real(a.gradient_scale);
    const Real m_new = fma(Real(a.momentum), load<Real>(op.m, i), g);
    store<Real>(op.m, i, m_new);
    u[i] = to_bf16(fma(Real(a.momentum), m_new, g));
  }
  const Real squares =
      sum<Real>(op.parameter.size(), [&](int64_t i, Real lane) { return fma(u[i], u[i], lane); });
  const Real inverse = Real{1} / (std::sqrt(squares) + Real(kMuonEpsilon));
  Matrix<Real> z(std::max(rows, cols), std::min(rows, cols));
  const auto place = [&](int64_t i) -> Real& {
    return turned ? z.at(i % cols, i / cols) : z.at(i / cols, i % cols);
  };
  for (int64_t i = 0; i < op.parameter.size(); ++i) place(i) = to_bf16(u[i] * inverse);
  for (const auto& coefficients : kNewtonSchulz) newton_schulz_step(z, coefficients);
  for (int64_t i = 0; i < op.parameter.size(); ++i) {
    const Real kept = load<Real>(op.parameter, i) * Real(a.decay);
    store<Real>(op.parameter, i, fma(-Real(a.learning_rate), place(i), kept));
  }
}

NAITE_REFERENCE(Muon)

}  // namespace naite::kernels
