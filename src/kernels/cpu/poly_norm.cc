// SPDX-License-Identifier: Apache-2.0
// The gated unit with PolyNorm, two passes over each row both ways, the second one in cache.
// Reduction order: operations.h, "sum" within a row and "column" over rows. In bf16 forward reads 4
// and writes 2 bytes an element, backward reads 6 and writes 4.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/poly_norm.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/streams-inl.h"

#ifndef NAITE_KERNELS_CPU_POLY_NORM_CC_
#define NAITE_KERNELS_CPU_POLY_NORM_CC_
namespace naite::kernels::cpu {

inline constexpr int64_t kPolyParts = 4;  // sums over tokens: cubic, square, linear, bias

struct PolyNorm {
  View rstd, gate, up;
  float a[4], b;  // a[n] is the coefficient of power n
};

}  // namespace naite::kernels::cpu
#endif

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

// The polynomial of one row of gates.
struct RowPolynomial {
  HWY_INLINE RowPolynomial(const cpu::PolyNorm& f, int64_t t) : b(f.b) {
    for (int n = 1; n <= 3; ++n) {
      r[n] = f.rstd.as<float>()[3 * t + n - 1];
      c[n] = f.a[n] * r[n];
    }
  }
  HWY_INLINE Lanes value(const Lanes& g) const {
    const Lanes square = lanes_fma(lanes_set(c[3]), g, lanes_set(c[2]));
    return lanes_fma(lanes_fma(square, g, lanes_set(c[1])), g, lanes_set(b));
  }
  float r[4], c[4], b;
};

template <bool kPaired>
void poly_norm_rows(const cpu::PolyNorm& f, const View& y_view, float epsilon, int64_t begin,
                    int64_t end) {
  const int64_t n = f.gate.cols;
  const Source gate(f.gate), up(f.up);
  const Sink<kPaired> y(y_view);
  for (int64_t t = begin; t < end; ++t) {
    const int64_t at = t * n;
    float squares[3];
    rule_sums<3>(n, squares, [&](int64_t i, int count, Lanes* lanes) NAITE_VECTORS {
      const Lanes g = gate.read(at + i, count);
      const Lanes g2 = g * g, g3 = g2 * g;
      lanes[0] = lanes_fma(g, g, lanes[0]);
      lanes[1] = lanes_fma(g2, g2, lanes[1]);
      lanes[2] = lanes_fma(g3, g3, lanes[2]);
    });
    for (int power = 0; power < 3; ++power) {
      const float mean = squares[power] / static_cast<float>(n);
      f.rstd.as<float>()[3 * t + power] = 1.0f / std::sqrt(mean + epsilon);
    }
    const RowPolynomial p(f, t);
    each_lanes(0, n, [&](int64_t i, int count) NAITE_VECTORS {
      y.write(at + i, count, p.value(gate.read(at + i, count)) * up.read(at + i, count));
    });
  }
}

// Tokens [begin, end), one block of the column rule, whose sums go to `parts` [kPolyParts].
template <bool kPaired>
void poly_norm_backward_rows(const cpu::PolyNorm& f, const Gradient& dgate_to,
                             const Gradient& dup_to, const View& dy_view, int64_t begin,
                             int64_t end, float* parts) {
  const int64_t n = f.gate.cols;
  const Source gate(f.gate), up(f.up), dy(dy_view);
  const GradientSink<kPaired> dgate(dgate_to), dup(dup_to);
  std::fill(parts, parts + cpu::kPolyParts, 0.0f);
  for (int64_t t = begin; t < end; ++t) {
    const int64_t at = t * n;
    const RowPolynomial p(f, t);
    float s[4];
    rule_sums<4>(n, s, [&](int64_t i, int count, Lanes* lanes) NAITE_VECTORS {
      const Lanes g = gate.read(at + i, count);
      const Lanes d = dy.read(at + i, count) * up.read(at + i, count);
      const Lanes g2 = g * g;
      lanes[0] = lanes[0] + d;
      lanes[1] = lanes_fma(d, g, lanes[1]);
      lanes[2] = lanes_fma(d, g2, lanes[2]);
      lanes[3] = lanes_fma(d, g2 * g, lanes[3]);
    });
    float k[4];
    for (int power = 1; power <= 3; ++power) {
      k[power] = ((static_cast<float>(power) * p.c[power]) * (p.r[power] * p.r[power])) *
                 (s[power] / static_cast<float>(n));
      parts[3 - power] = kernels::fma(p.r[power], s[power], parts[3 - power]);
    }
    parts[3] = parts[3] + s[0];
    const Lanes c1 = lanes_set(p.c[1]), c2 = lanes_set(2.0f * p.c[2]),
                c3 = lanes_set(3.0f * p.c[3]), k1 = lanes_set(k[1]), k2 = lanes_set(k[2]),
                k3 = lanes_set(k[3]);
    each_lanes(0, n, [&](int64_t i, int count) NAITE_VECTORS {
      const Lanes g = gate.read(at + i, count), dout = dy.read(at + i, count);
      const Lanes d = dout * up.read(at + i, count), g2 = g * g;
      const Lanes slope = lanes_fma(lanes_fma(c3, g, c2), g, c1);
      const Lanes pull = g * lanes_fma(lanes_fma(k3, g2, k2), g2, k1);
      dgate.put(at + i, count, lanes_fma(d, slope, -pull));
      dup.put(at + i, count, dout * p.value(g));
    });
  }
}

// The coefficients by power.
cpu::PolyNorm poly_norm_of(const View& rstd, const View& gate, const View& up, const View& w,
                           const View& b) {
  cpu::PolyNorm f{rstd, gate, up, {}, 0.0f};
  float values[kLanes];
  lanes_store(values, Source(w).read(0, 3));
  for (int n = 1; n <= 3; ++n) f.a[n] = values[3 - n];
  lanes_store(values, Source(b).read(0, 1));
  f.b = values[0];
  return f;
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {

int64_t workspace_bytes(const Context&, const PolyNormGatedBackward& op) {
  return column_blocks(op.gate.rows) * kPolyParts * static_cast<int64_t>(sizeof(float));
}

void run(const Context& context, const PolyNormGated& op) {
  const PolyNorm f = NAITE_CHOOSE(context.isa, poly_norm_of)(op.rstd, op.gate, op.up, op.w, op.b);
  const auto rows = NAITE_CHOOSE_PAIRED(context.isa, poly_norm_rows);
  split(context, op.gate.rows, row_grain(op.gate.cols), [&](int64_t begin, int64_t end, int) {
    rows(f, op.y, static_cast<float>(op.epsilon), begin, end);
  });
}

void run(const Context& context, const PolyNormGatedBackward& op) {
  const PolyNorm f = NAITE_CHOOSE(context.isa, poly_norm_of)(op.rstd, op.gate, op.up, op.w, op.b);
  const auto rows = NAITE_CHOOSE_PAIRED(context.isa, poly_norm_backward_rows);
  auto* parts = reinterpret_cast<float*>(op.workspace.data());
  split(context, op.gate.rows, kColumnBlock, [&](int64_t begin, int64_t end, int) {
    rows(f, op.dgate, op.dup, op.dy, begin, end, parts + begin / kColumnBlock * kPolyParts);
  });
  for (int64_t i = 0; i < kPolyParts; ++i)
    join_column(i < 3 ? op.dw : op.db, i % 3, parts + i, column_blocks(op.gate.rows), kPolyParts);
}

}  // namespace naite::kernels::cpu
#endif
