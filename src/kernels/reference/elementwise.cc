// SPDX-License-Identifier: Apache-2.0
// Memory, embedding, norms, gates, sums and updates. Formulas and orders: kernels.h.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/reference/reference.h"

namespace naite::kernels {

template <class Real>
void* ReferenceKernels<Real>::allocate(int64_t bytes) {
  const size_t padded = (static_cast<size_t>(bytes) + 63) / 64 * 64;
  void* memory = std::aligned_alloc(64, padded == 0 ? 64 : padded);
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, padded);
  return memory;
}

template <class Real>
void ReferenceKernels<Real>::release(void* memory, int64_t) {
  std::free(memory);
}

template <class Real>
void ReferenceKernels<Real>::upload(void* to, const void* from_host, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from_host, static_cast<size_t>(bytes));
}

template <class Real>
void ReferenceKernels<Real>::download(void* to_host, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to_host, from, static_cast<size_t>(bytes));
}

template <class Real>
void ReferenceKernels<Real>::column_sum(Gradient dbias, View dy, Workspace) {
  for (int64_t o = 0; o < dy.cols; ++o)
    put<Real>(dbias, o, column<Real>(dy.rows, [&](int64_t t, Real part) {
                return part + load<Real>(dy, t, o);
              }));
}

template <class Real>
void ReferenceKernels<Real>::embed(View y, View ids, View table) {
  for (int64_t t = 0; t < y.rows; ++t)
    for (int64_t i = 0; i < y.cols; ++i)
      store<Real>(y, t, i, load<Real>(table, ids.as<int32_t>()[t], i));
}

template <class Real>
void ReferenceKernels<Real>::embed_backward(Gradient dtable, View dy, View ids, Workspace) {
  if (!dtable.wanted) return;
  if (!dtable.accumulate) zero(dtable.view);
  for (int64_t t = 0; t < dy.rows; ++t) {
    const int64_t row = ids.as<int32_t>()[t];
    for (int64_t i = 0; i < dy.cols; ++i)
      store<Real>(dtable.view, row, i, load<Real>(dtable.view, row, i) + load<Real>(dy, t, i));
  }
}

template <class Real>
void ReferenceKernels<Real>::rms_norm(View y, View rstd, View sum_out, View x, View delta, View w,
                                      NormArguments a) {
  const int64_t n = x.cols / a.heads;
  const View normed = delta ? sum_out : x;
  const Real factor = static_cast<Real>(a.scale);
  for (int64_t i = 0; delta && i < x.size(); ++i)
    store<Real>(sum_out, i, load<Real>(x, i) + load<Real>(delta, i));
  for (int64_t r = 0; r < x.rows * a.heads; ++r) {
    const Real squares = sum<Real>(n, [&](int64_t i, Real lane) {
      const Real value = load<Real>(normed, r * n + i);
      return fma(value, value, lane);
    });
    const Real mean = squares / static_cast<Real>(n);
    const Real scale = Real{1} / std::sqrt(mean + static_cast<Real>(a.epsilon));
    store<Real>(rstd, r, scale);
    for (int64_t i = 0; i < n; ++i)
      store<Real>(y, r * n + i,
                  (load<Real>(normed, r * n + i) * scale) * (load<Real>(w, i) * factor));
  }
}

template <class Real>
void ReferenceKernels<Real>::rms_norm_backward(Gradient dx, Gradient ddelta, Gradient dw, View dy,
                                               View dsum, View x, View rstd, View w,
                                               NormArguments a, Workspace) {
  const int64_t n = x.cols / a.heads, rows = x.rows * a.heads;
  const Real factor = static_cast<Real>(a.scale);
  auto xhat = [&](int64_t r, int64_t i) { return load<Real>(x, r * n + i) * load<Real>(rstd, r); };
  if (dw.wanted) {
    for (int64_t i = 0; i < n; ++i)
      put<Real>(dw, i, factor * column<Real>(rows, [&](int64_t r, Real part) {
                         return fma(load<Real>(dy, r * n + i), xhat(r, i), part);
                       }));
  }
  for (int64_t r = 0; r < rows; ++r) {
    auto g = [&](int64_t i) { return load<Real>(dy, r * n + i) * (load<Real>(w, i) * factor); };
    const Real dot =
        sum<Real>(n, [&](int64_t i, Real lane) { return fma(g(i), xhat(r, i), lane); });
    const Real c = dot / static_cast<Real>(n);
    for (int64_t i = 0; i < n; ++i) {
      const Real norm = fma(-c, xhat(r, i), g(i)) * load<Real>(rstd, r);
      const Real total = dsum ? load<Real>(dsum, r * n + i) + norm : norm;
      put<Real>(dx, r * n + i, total);
      put<Real>(ddelta, r * n + i, total);
    }
  }
}

template <class Real>
void ReferenceKernels<Real>::gated(View y, View gate, View up, Activation) {
  for (int64_t i = 0; i < y.size(); ++i) {
    const Real g = load<Real>(gate, i);
    store<Real>(y, i, (g * sigmoid(g)) * load<Real>(up, i));
  }
}

template <class Real>
void ReferenceKernels<Real>::gated_backward(Gradient dgate, Gradient dup, View dy, View gate,
                                            View up, Activation) {
  for (int64_t i = 0; i < dy.size(); ++i) {
    const Real g = load<Real>(gate, i), s = sigmoid(g), d = load<Real>(dy, i);
    put<Real>(dgate, i, (d * load<Real>(up, i)) * (s * fma(g, Real{1} - s, Real{1})));
    put<Real>(dup, i, d * (g * s));
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
void ReferenceKernels<Real>::poly_norm_gated(View y, View rstd, View gate, View up, View w, View b,
                                             double epsilon) {
  const int64_t n = gate.cols;
  for (int64_t t = 0; t < gate.rows; ++t) {
    for (int power = 1; power <= 3; ++power) {
      const Real squares = sum<Real>(n, [&](int64_t i, Real lane) {
        const Real g = load<Real>(gate, t, i), g2 = g * g;
        const Real x = power == 1 ? g : power == 2 ? g2 : g2 * g;
        return fma(x, x, lane);
      });
      const Real mean = squares / static_cast<Real>(n);
      store<Real>(rstd, t, power - 1, Real{1} / std::sqrt(mean + static_cast<Real>(epsilon)));
    }
    const RowPolynomial<Real> p(rstd, t, w, b);
    for (int64_t i = 0; i < n; ++i)
      store<Real>(y, t, i, p.value(load<Real>(gate, t, i)) * load<Real>(up, t, i));
  }
}

template <class Real>
void ReferenceKernels<Real>::poly_norm_gated_backward(Gradient dgate, Gradient dup, Gradient dw,
                                                      Gradient db, View dy, View rstd, View gate,
                                                      View up, View w, View b, Workspace) {
  const int64_t width = gate.cols;
  auto d = [&](int64_t t, int64_t i) { return load<Real>(dy, t, i) * load<Real>(up, t, i); };
  // s_n of token t.
  auto dot = [&](int64_t t, int n) {
    return sum<Real>(width, [&](int64_t i, Real lane) {
      const Real g = load<Real>(gate, t, i), g2 = g * g;
      if (n == 0) return lane + d(t, i);
      return fma(d(t, i), n == 1 ? g : n == 2 ? g2 : g2 * g, lane);
    });
  };
  for (int64_t t = 0; t < gate.rows; ++t) {
    const RowPolynomial<Real> p(rstd, t, w, b);
    Real k[4];
    for (int n = 1; n <= 3; ++n)
      k[n] = ((static_cast<Real>(n) * p.c[n]) * (p.r[n] * p.r[n])) *
             (dot(t, n) / static_cast<Real>(width));
    const Real c2 = Real{2} * p.c[2], c3 = Real{3} * p.c[3];
    for (int64_t i = 0; i < width; ++i) {
      const Real g = load<Real>(gate, t, i), g2 = g * g;
      const Real slope = fma(fma(c3, g, c2), g, p.c[1]);
      const Real pull = g * fma(fma(k[3], g2, k[2]), g2, k[1]);
      put<Real>(dgate, t * width + i, fma(d(t, i), slope, -pull));
      put<Real>(dup, t * width + i, load<Real>(dy, t, i) * p.value(g));
    }
  }
  for (int n = 1; n <= 3; ++n)
    put<Real>(dw, 3 - n, column<Real>(gate.rows, [&](int64_t t, Real part) {
                return fma(load<Real>(rstd, t, n - 1), dot(t, n), part);
              }));
  put<Real>(db, 0, column<Real>(gate.rows,
                                [&](int64_t t, Real part) { return part + dot(t, 0); }));
}

template <class Real>
float ReferenceKernels<Real>::sum_squares(View x) {
  return static_cast<float>(sum<Real>(x.size(), [&](int64_t i, Real lane) {
    return fma(load<Real>(x, i), load<Real>(x, i), lane);
  }));
}

template <class Real>
void ReferenceKernels<Real>::add(View y, View a, View b) {
  for (int64_t i = 0; i < y.size(); ++i) store<Real>(y, i, load<Real>(a, i) + load<Real>(b, i));
}

template <class Real>
void ReferenceKernels<Real>::zero(View y) {
  std::memset(y.data, 0, static_cast<size_t>(y.bytes()));
}

template <class Real>
void ReferenceKernels<Real>::scale(View y, View x, float factor) {
  for (int64_t i = 0; i < y.size(); ++i) store<Real>(y, i, load<Real>(x, i) * Real(factor));
}

template <class Real>
void ReferenceKernels<Real>::column_max(View y, View x) {
  for (int64_t i = 0; i < x.cols; ++i) {
    Real most = load<Real>(x, i);
    for (int64_t t = 1; t < x.rows; ++t) {
      const Real value = load<Real>(x, t, i);
      most = most > value ? most : value;
    }
    store<Real>(y, i, most);
  }
}

template <class Real>
void ReferenceKernels<Real>::adamw(View parameter, View gradient, View m, View v,
                                   AdamWArguments a) {
  for (int64_t i = 0; i < parameter.size(); ++i) {
    const Real g = load<Real>(gradient, i) * Real(a.gradient_scale);
    const Real m_new = fma(Real(a.beta1), load<Real>(m, i), Real(a.one_minus_beta1) * g);
    const Real v_new = fma(Real(a.beta2), load<Real>(v, i), Real(a.one_minus_beta2) * (g * g));
    store<Real>(m, i, m_new);
    store<Real>(v, i, v_new);
    const Real root = std::sqrt(v_new * Real(a.inverse_correction2));
    const Real u = (m_new * Real(a.inverse_correction1)) / (root + Real(a.epsilon));
    const Real kept = load<Real>(parameter, i) * Real(a.decay);
    store<Real>(parameter, i, fma(-Real(a.learning_rate), u, kept));
  }
}

// The explicit instantiation of the whole class; the other files instantiate their own members.
template class ReferenceKernels<float>;
template class ReferenceKernels<double>;

std::unique_ptr<Kernels> make_reference(DType real) {
  NAITE_CHECK(real == DType::kF32 || real == DType::kF64, "a reference in {}", dtype_name(real));
  if (real == DType::kF32) return std::make_unique<ReferenceKernels<float>>();
  return std::make_unique<ReferenceKernels<double>>();
}

}  // namespace naite::kernels
