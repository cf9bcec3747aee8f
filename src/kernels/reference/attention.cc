// SPDX-License-Identifier: Apache-2.0
// Attention, forward and backward, and rotary positions. Formulas and orders: operations.h.
#include <algorithm>
#include <vector>

#include "kernels/reference/reference.h"

namespace naite::kernels {

namespace {

// The keys that query t sees: rows [first, end) of k and v, positions counted from `begin`.
struct Visible {
  int64_t begin, first, end;
};

Visible visible_keys(const View& spans, int64_t t, int64_t window) {
  const int64_t begin = spans.as<int32_t>()[2 * t];
  const int64_t end = spans.as<int32_t>()[2 * t + 1];
  return {begin, window > 0 ? std::max(begin, end - window) : begin, end};
}

template <class Real>
Real score(const View& q, const View& k, int64_t t, int64_t u, int64_t head, int64_t kv_head,
           int64_t width) {
  Chain<Real> chain(q.dtype, Real{0});
  for (int64_t d = 0; d < width; ++d)
    chain.feed(load<Real>(q, t, head * width + d), load<Real>(k, u, kv_head * width + d));
  return chain.finish();
}

// Starts a chain whose pairs are formed by document position: a first key at an odd position is the
// second of its pair, whose first is +0.
template <class Real>
Chain<Real> chain_from(DType dtype, int64_t first_position) {
  Chain<Real> chain(dtype, Real{0});
  if (first_position % 2 != 0) chain.feed(Real{0}, Real{0});
  return chain;
}

}  // namespace

template <class Real>
void Reference<Real>::run(const Attention& op) const {
  const AttentionArguments& a = op.arguments;
  const Real c = static_cast<Real>(a.exponent_scale());
  for (int64_t t = 0; t < op.q.rows; ++t) {
    const Visible keys = visible_keys(op.spans, t, a.window);
    for (int64_t h = 0; h < a.num_heads; ++h) {
      const int64_t kv = h / (a.num_heads / a.num_kv_heads);
      std::vector<Real> p(keys.end - keys.first);
      for (int64_t u = keys.first; u < keys.end; ++u)
        p[u - keys.first] = score<Real>(op.q, op.k, t, u, h, kv, a.head_dim);
      Real m = p[0];
      for (Real s : p) m = m > s ? m : s;
      const Real mc = m * c;
      for (Real& s : p) s = exp2(fma(s, c, -mc));
      const Real l = sum<Real>(static_cast<int64_t>(p.size()),
                               [&](int64_t i, Real lane) { return lane + p[i]; });
      const Real inverse = Real{1} / l;
      store<Real>(op.lse, t, h, mc + log2(l));
      if (op.peaks) store<Real>(op.peaks, t, h, mc);
      for (int64_t d = 0; d < a.value_dim; ++d) {
        Chain<Real> chain = chain_from<Real>(op.q.dtype, keys.first - keys.begin);
        for (int64_t u = keys.first; u < keys.end; ++u)
          chain.feed(rounded<Real>(op.q.dtype, p[u - keys.first]),
                     load<Real>(op.v, u, kv * a.value_dim + d));
        store<Real>(op.y, t, h * a.value_dim + d, chain.finish() * inverse);
      }
    }
  }
}

template <class Real>
void Reference<Real>::run(const AttentionBackward& op) const {
  const AttentionArguments& a = op.arguments;
  const int64_t T = op.q.rows, group = a.num_heads / a.num_kv_heads;
  const Real c = static_cast<Real>(a.exponent_scale());
  const Real scale = static_cast<Real>(a.scale);
  // p and ds of head h for every (query, key), rounded as the products read them; 0 where
  // invisible.
  std::vector<Real> p(T * T), ds(T * T);
  std::vector<Chain<Real>> dk_chains, dv_chains;
  for (int64_t h = 0; h < a.num_heads; ++h) {
    const int64_t kv = h / group;
    std::fill(p.begin(), p.end(), Real{0});
    std::fill(ds.begin(), ds.end(), Real{0});
    for (int64_t t = 0; t < T; ++t) {
      const Visible keys = visible_keys(op.spans, t, a.window);
      const Real delta = sum<Real>(a.value_dim, [&](int64_t d, Real lane) {
        return fma(load<Real>(op.dy, t, h * a.value_dim + d),
                   load<Real>(op.y, t, h * a.value_dim + d), lane);
      });
      for (int64_t u = keys.first; u < keys.end; ++u) {
        const Real s = score<Real>(op.q, op.k, t, u, h, kv, a.head_dim);
        const Real weight = exp2(fma(s, c, -load<Real>(op.lse, t, h)));
        const Real dp = score<Real>(op.dy, op.v, t, u, h, kv, a.value_dim);
        p[t * T + u] = rounded<Real>(op.q.dtype, weight);
        ds[t * T + u] = rounded<Real>(op.q.dtype, weight * (dp - delta));
      }
      for (int64_t d = 0; d < a.head_dim && op.dq.wanted; ++d) {
        Chain<Real> chain = chain_from<Real>(op.q.dtype, keys.first - keys.begin);
        for (int64_t u = keys.first; u < keys.end; ++u)
          chain.feed(ds[t * T + u], load<Real>(op.k, u, kv * a.head_dim + d));
        put<Real>(op.dq, t * op.q.cols + h * a.head_dim + d, chain.finish() * scale);
      }
    }
    // One chain per key element over all heads of the group: it lives on from head to head.
    if (h % group == 0) {
      dk_chains.assign(T * a.head_dim, Chain<Real>(op.q.dtype, Real{0}));
      dv_chains.assign(T * a.value_dim, Chain<Real>(op.q.dtype, Real{0}));
    }
    for (int64_t u = 0; u < T; ++u) {
      const int64_t begin = op.spans.as<int32_t>()[2 * u];
      for (int64_t t = begin; t < T && op.spans.as<int32_t>()[2 * t] == begin; ++t) {
        for (int64_t d = 0; d < a.head_dim; ++d)
          dk_chains[u * a.head_dim + d].feed(ds[t * T + u],
                                             load<Real>(op.q, t, h * a.head_dim + d));
        for (int64_t d = 0; d < a.value_dim; ++d)
          dv_chains[u * a.value_dim + d].feed(p[t * T + u],
                                              load<Real>(op.dy, t, h * a.value_dim + d));
      }
      for (int64_t d = 0; d < a.head_dim; ++d) dk_chains[u * a.head_dim + d].pad();
      for (int64_t d = 0; d < a.value_dim; ++d) dv_chains[u * a.value_dim + d].pad();
      if (h % group != group - 1) continue;
      for (int64_t d = 0; d < a.head_dim; ++d)
        put<Real>(op.dk, u * op.k.cols + kv * a.head_dim + d,
                  dk_chains[u * a.head_dim + d].finish() * scale);
      for (int64_t d = 0; d < a.value_dim; ++d)
        put<Real>(op.dv, u * op.v.cols + kv * a.value_dim + d,
                  dv_chains[u * a.value_dim + d].finish());
    }
  }
}

template <class Real>
void Reference<Real>::run(const StoreRows& op) const {
  for (int64_t t = 0; t < op.x.rows; ++t)
    for (int64_t i = 0; i < op.x.cols; ++i)
      store<Real>(op.cache, op.slots.as<int32_t>()[t], i, load<Real>(op.x, t, i));
}

namespace {

// Turns every pair by its angle; `sign` is -1 for the inverse turn, whose result has all heads.
template <class Real, class Put>
void turn(const View& x, const View& positions, const View& table, const RopeArguments& a,
          Real sign, Put put_value) {
  const int64_t half = a.rotary_dim / 2;
  for (int64_t t = 0; t < x.rows; ++t) {
    const int64_t position = positions.as<int32_t>()[t];
    for (int64_t h = 0; h < a.num_picked(); ++h) {
      const int64_t whole = (t * a.num_heads + a.head(h)) * a.head_dim;
      const int64_t part = (t * a.num_picked() + h) * a.head_dim;
      const int64_t at = sign > 0 ? whole : part, to = sign > 0 ? part : whole;
      for (int64_t i = 0; i < half; ++i) {
        const Real x1 = load<Real>(x, at + i), x2 = load<Real>(x, at + half + i);
        const Real cos = load<Real>(table, position, i);
        const Real sin = sign * load<Real>(table, position, half + i);
        put_value(to + i, fma(x1, cos, -(x2 * sin)));
        put_value(to + half + i, fma(x2, cos, x1 * sin));
      }
      for (int64_t i = a.rotary_dim; i < a.head_dim; ++i) put_value(to + i, load<Real>(x, at + i));
    }
  }
}

}  // namespace

template <class Real>
void Reference<Real>::run(const Rope& op) const {
  const RopeArguments& a = op.arguments;
  turn<Real>(op.x, op.positions, op.table, a, Real{1},
             [&](int64_t index, Real value) { store<Real>(op.y, index, value); });
}

template <class Real>
void Reference<Real>::run(const RopeBackward& op) const {
  const RopeArguments& a = op.arguments;
  turn<Real>(op.dy, op.positions, op.table, a, Real{-1},
             [&](int64_t index, Real value) { put<Real>(op.dx, index, value); });
}

NAITE_REFERENCE(Attention)
NAITE_REFERENCE(AttentionBackward)
NAITE_REFERENCE(StoreRows)
NAITE_REFERENCE(Rope)
NAITE_REFERENCE(RopeBackward)

}  // namespace naite::kernels
