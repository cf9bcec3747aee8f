// SPDX-License-Identifier: Apache-2.0
// Embedding, norms, gates, sums and updates. Formulas and orders: operations.h.
#include <cmath>
#include <cstring>

#include "kernels/reference/reference.h"

namespace naite::kernels {

template <class Real>
void Reference<Real>::run(const ColumnSum& op) const {
  for (int64_t o = 0; o < op.dy.cols; ++o)
    put<Real>(op.dbias, o, column<Real>(op.dy.rows, [&](int64_t t, Real part) {
                return part + load<Real>(op.dy, t, o);
              }));
}

template <class Real>
void Reference<Real>::run(const Embed& op) const {
  for (int64_t t = 0; t < op.y.rows; ++t)
    for (int64_t i = 0; i < op.y.cols; ++i)
      store<Real>(op.y, t, i, load<Real>(op.table, op.ids.as<int32_t>()[t], i));
}

template <class Real>
void Reference<Real>::run(const EmbedBackward& op) const {
  if (!op.dtable.wanted) return;
  if (!op.dtable.accumulate) run(Zero{op.dtable.view});
  for (int64_t t = 0; t < op.dy.rows; ++t) {
    const int64_t row = op.ids.as<int32_t>()[t];
    for (int64_t i = 0; i < op.dy.cols; ++i)
      store<Real>(op.dtable.view, row, i,
                  load<Real>(op.dtable.view, row, i) + load<Real>(op.dy, t, i));
  }
}

template <class Real>
void Reference<Real>::run(const RmsNorm& op) const {
  const NormArguments& a = op.arguments;
  const int64_t n = op.x.cols / a.heads;
  const View normed = op.delta ? op.sum : op.x;
  const Real factor = static_cast<Real>(a.scale);
  for (int64_t i = 0; op.delta && i < op.x.size(); ++i)
    store<Real>(op.sum, i, load<Real>(op.x, i) + load<Real>(op.delta, i));
  for (int64_t r = 0; r < op.x.rows * a.heads; ++r) {
    const Real squares = sum<Real>(n, [&](int64_t i, Real lane) {
      const Real value = load<Real>(normed, r * n + i);
      return fma(value, value, lane);
    });
    const Real mean = squares / static_cast<Real>(n);
    const Real scale = Real{1} / std::sqrt(mean + static_cast<Real>(a.epsilon));
    store<Real>(op.rstd, r, scale);
    for (int64_t i = 0; i < n; ++i)
      store<Real>(op.y, r * n + i,
                  (load<Real>(normed, r * n + i) * scale) * (load<Real>(op.w, i) * factor));
  }
}

template <class Real>
void Reference<Real>::run(const RmsNormBackward& op) const {
  const NormArguments& a = op.arguments;
  const int64_t n = op.x.cols / a.heads;
  const Real factor = static_cast<Real>(a.scale);
  auto xhat = [&](int64_t r, int64_t i) {
    return load<Real>(op.x, r * n + i) * load<Real>(op.rstd, r);
  };
  // Of the heads of one piece, as its rank would see them.
  auto dw = [&](int64_t i, int64_t piece) {
    const Range own = arithmetic.piece(piece, a.heads, 1);
    const int64_t heads = own.end - own.begin;
    return column<Real>(op.x.rows * heads, [&](int64_t row, Real part) {
      const int64_t r = row / heads * a.heads + own.begin + row % heads;
      return fma(load<Real>(op.dy, r * n + i), xhat(r, i), part);
    });
  };
  for (int64_t i = 0; op.dw.wanted && i < n; ++i)
    put<Real>(op.dw, i, factor * tree_sum<Real>(0, arithmetic.pieces, [&](int64_t piece) {
                          return dw(i, piece);
                        }));
  for (int64_t r = 0; r < op.x.rows * a.heads; ++r) {
    auto g = [&](int64_t i) {
      return load<Real>(op.dy, r * n + i) * (load<Real>(op.w, i) * factor);
    };
    const Real dot =
        sum<Real>(n, [&](int64_t i, Real lane) { return fma(g(i), xhat(r, i), lane); });
    const Real c = dot / static_cast<Real>(n);
    for (int64_t i = 0; i < n; ++i) {
      const Real norm = fma(-c, xhat(r, i), g(i)) * load<Real>(op.rstd, r);
      const Real total = op.dsum ? load<Real>(op.dsum, r * n + i) + norm : norm;
      put<Real>(op.dx, r * n + i, total);
      put<Real>(op.ddelta, r * n + i, total);
    }
  }
}

template <class Real>
void Reference<Real>::run(const Gated& op) const {
  for (int64_t i = 0; i < op.y.size(); ++i) {
    const Real g = load<Real>(op.gate, i);
    store<Real>(op.y, i, (g * sigmoid(g)) * load<Real>(op.up, i));
  }
}

template <class Real>
void Reference<Real>::run(const GatedBackward& op) const {
  for (int64_t i = 0; i < op.dy.size(); ++i) {
    const Real g = load<Real>(op.gate, i), s = sigmoid(g), d = load<Real>(op.dy, i);
    put<Real>(op.dgate, i, (d * load<Real>(op.up, i)) * (s * fma(g, Real{1} - s, Real{1})));
    put<Real>(op.dup, i, d * (g * s));
  }
}

namespace {

// s of the formula; g2 = g g.
template <class Real>
Real gelu_share(Real g, Real g2) {
  return sigmoid(g * fma(Real(GeluGated::kCubic), g2, Real(GeluGated::kLinear)));
}

}  // namespace

template <class Real>
void Reference<Real>::run(const GeluGated& op) const {
  for (int64_t i = 0; i < op.y.size(); ++i) {
    const Real g = load<Real>(op.gate, i);
    store<Real>(op.y, i, (g * gelu_share(g, g * g)) * load<Real>(op.up, i));
  }
}

template <class Real>
void Reference<Real>::run(const GeluGatedBackward& op) const {
  for (int64_t i = 0; i < op.dy.size(); ++i) {
    const Real g = load<Real>(op.gate, i), g2 = g * g, d = load<Real>(op.dy, i);
    const Real s = gelu_share(g, g2);
    const Real turn = fma(Real(3 * GeluGated::kCubic), g2, Real(GeluGated::kLinear));
    put<Real>(op.dgate, i,
              (d * load<Real>(op.up, i)) * (s * fma(g * (Real{1} - s), turn, Real{1})));
    put<Real>(op.dup, i, d * (g * s));
  }
}

namespace {

// The polynomial of one row of gates: coefficients c_n = a_n r_n, n = 1, 2, 3, and the bias.
template <class Real>
struct RowPolynomial {
  Real r[4], c[4], b;

  RowPolynomial(const View& rstd, int64_t t, const View& w, const View& bias)
      : b(load<Real>(bias, 0)) {
    for (int n = 1; n <= 3; ++n) {
      r[n] = load<Real>(rstd, t, n - 1);
      c[n] = load<Real>(w, 3 - n) * r[n];
    }
  }
  Real value(Real g) const { return fma(fma(fma(c[3], g, c[2]), g, c[1]), g, b); }
};

}  // namespace

template <class Real>
void Reference<Real>::run(const PolyNormGated& op) const {
  const int64_t n = op.gate.cols;
  for (int64_t t = 0; t < op.gate.rows; ++t) {
    for (int power = 1; power <= 3; ++power) {
      const Real squares = sum_in_pieces<Real>(arithmetic, n, 2, [&](int64_t i, Real lane) {
        const Real g = load<Real>(op.gate, t, i), g2 = g * g;
        const Real x = power == 1 ? g : power == 2 ? g2 : g2 * g;
        return fma(x, x, lane);
      });
      const Real mean = squares / static_cast<Real>(n);
      store<Real>(op.rstd, t, power - 1, Real{1} / std::sqrt(mean + static_cast<Real>(op.epsilon)));
    }
    const RowPolynomial<Real> p(op.rstd, t, op.w, op.b);
    for (int64_t i = 0; i < n; ++i)
      store<Real>(op.y, t, i, p.value(load<Real>(op.gate, t, i)) * load<Real>(op.up, t, i));
  }
}

template <class Real>
void Reference<Real>::run(const PolyNormGatedBackward& op) const {
  const int64_t width = op.gate.cols;
  auto d = [&](int64_t t, int64_t i) { return load<Real>(op.dy, t, i) * load<Real>(op.up, t, i); };
  // s_n of token t.
  auto dot = [&](int64_t t, int n) {
    return sum_in_pieces<Real>(arithmetic, width, 2, [&](int64_t i, Real lane) {
      const Real g = load<Real>(op.gate, t, i), g2 = g * g;
      if (n == 0) return lane + d(t, i);
      return fma(d(t, i), n == 1 ? g : n == 2 ? g2 : g2 * g, lane);
    });
  };
  for (int64_t t = 0; t < op.gate.rows; ++t) {
    const RowPolynomial<Real> p(op.rstd, t, op.w, op.b);
    Real k[4];
    for (int n = 1; n <= 3; ++n)
      k[n] = ((static_cast<Real>(n) * p.c[n]) * (p.r[n] * p.r[n])) *
             (dot(t, n) / static_cast<Real>(width));
    const Real c2 = Real{2} * p.c[2], c3 = Real{3} * p.c[3];
    for (int64_t i = 0; i < width; ++i) {
      const Real g = load<Real>(op.gate, t, i), g2 = g * g;
      const Real slope = fma(fma(c3, g, c2), g, p.c[1]);
      const Real pull = g * fma(fma(k[3], g2, k[2]), g2, k[1]);
      put<Real>(op.dgate, t * width + i, fma(d(t, i), slope, -pull));
      put<Real>(op.dup, t * width + i, load<Real>(op.dy, t, i) * p.value(g));
    }
  }
  for (int n = 1; n <= 3; ++n)
    put<Real>(op.dw, 3 - n, column<Real>(op.gate.rows, [&](int64_t t, Real part) {
                return fma(load<Real>(op.rstd, t, n - 1), dot(t, n), part);
              }));
  put<Real>(op.db, 0,
            column<Real>(op.gate.rows, [&](int64_t t, Real part) { return part + dot(t, 0); }));
}

template <class Real>
void Reference<Real>::run(const SumSquares& op) const {
  store<Real>(op.y, 0, sum<Real>(op.x.size(), [&](int64_t i, Real lane) {
                return fma(load<Real>(op.x, i), load<Real>(op.x, i), lane);
              }));
}

template <class Real>
void Reference<Real>::run(const TreeSum& op) const {
  store<Real>(op.y, 0,
              tree_sum<Real>(0, op.x.cols, [&](int64_t i) { return load<Real>(op.x, i); }));
}

template <class Real>
void Reference<Real>::run(const Add& op) const {
  for (int64_t i = 0; i < op.y.size(); ++i)
    store<Real>(op.y, i, load<Real>(op.a, i) + load<Real>(op.b, i));
}

template <class Real>
void Reference<Real>::run(const Maximum& op) const {
  for (int64_t i = 0; i < op.y.size(); ++i) {
    const Real a = load<Real>(op.a, i), b = load<Real>(op.b, i);
    store<Real>(op.y, i, a > b ? a : b);
  }
}

template <class Real>
void Reference<Real>::run(const Copy& op) const {
  std::memcpy(op.y.data, op.x.data, static_cast<size_t>(op.x.bytes()));
}

template <class Real>
void Reference<Real>::run(const Zero& op) const {
  std::memset(op.y.data, 0, static_cast<size_t>(op.y.bytes()));
}

template <class Real>
void Reference<Real>::run(const Scale& op) const {
  for (int64_t i = 0; i < op.y.size(); ++i)
    store<Real>(op.y, i, load<Real>(op.x, i) * Real(op.factor));
}

template <class Real>
void Reference<Real>::run(const ColumnMax& op) const {
  for (int64_t i = 0; i < op.x.cols; ++i) {
    Real most = load<Real>(op.x, i);
    for (int64_t t = 1; t < op.x.rows; ++t) {
      const Real value = load<Real>(op.x, t, i);
      most = most > value ? most : value;
    }
    store<Real>(op.y, i, most);
  }
}

template <class Real>
void Reference<Real>::run(const AdamW& op) const {
  const AdamWArguments& a = op.arguments;
  for (int64_t i = 0; i < op.parameter.size(); ++i) {
    const Real g = load<Real>(op.gradient, i) * Real(a.gradient_scale);
    const Real m_new = fma(Real(a.beta1), load<Real>(op.m, i), Real(a.one_minus_beta1) * g);
    const Real v_new = fma(Real(a.beta2), load<Real>(op.v, i), Real(a.one_minus_beta2) * (g * g));
    store<Real>(op.m, i, m_new);
    store<Real>(op.v, i, v_new);
    const Real root = std::sqrt(v_new * Real(a.inverse_correction2));
    const Real u = (m_new * Real(a.inverse_correction1)) / (root + Real(a.epsilon));
    const Real kept = load<Real>(op.parameter, i) * Real(a.decay);
    store<Real>(op.parameter, i, fma(-Real(a.learning_rate), u, kept));
  }
}

NAITE_REFERENCE(ColumnSum)
NAITE_REFERENCE(Embed)
NAITE_REFERENCE(EmbedBackward)
NAITE_REFERENCE(RmsNorm)
NAITE_REFERENCE(RmsNormBackward)
NAITE_REFERENCE(Gated)
NAITE_REFERENCE(GatedBackward)
NAITE_REFERENCE(GeluGated)
NAITE_REFERENCE(GeluGatedBackward)
NAITE_REFERENCE(PolyNormGated)
NAITE_REFERENCE(PolyNormGatedBackward)
NAITE_REFERENCE(SumSquares)
NAITE_REFERENCE(TreeSum)
NAITE_REFERENCE(Add)
NAITE_REFERENCE(Maximum)
NAITE_REFERENCE(Copy)
NAITE_REFERENCE(Zero)
NAITE_REFERENCE(Scale)
NAITE_REFERENCE(ColumnMax)
NAITE_REFERENCE(AdamW)

}  // namespace naite::kernels
