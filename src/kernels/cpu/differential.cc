// SPDX-License-Identifier: Apache-2.0
// What differential attention adds to attention: lambda, and the subtraction of a noise head from
// every signal head of its group. Reduction order: operations.h. Memory-bound: in bf16 and with g
// signal heads to a noise head, forward reads 2 + 2/g and writes 2 bytes an element, backward reads
// as much and writes as much.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/differential.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/streams-inl.h"

#ifndef NAITE_KERNELS_CPU_DIFFERENTIAL_CC_
#define NAITE_KERNELS_CPU_DIFFERENTIAL_CC_
namespace naite::kernels::cpu {

struct Subtraction {
  View y, x, shared;
  float factor;
  int64_t head_dim;
};

struct SubtractionBackward {
  Gradient dx, dshared;
  View dy, shared;
  float factor;
  int64_t head_dim;
};

}  // namespace naite::kernels::cpu
#endif

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

float exp_dot(const View& q, const View& k) {
  const Source q_source(q), k_source(k);
  const float dot = rule_sum(q.cols, [&](int64_t i, int count, const Lanes& lanes) NAITE_VECTORS {
    return lanes_fma(q_source.read(i, count), k_source.read(i, count), lanes);
  });
  return kernels::exp2(dot * static_cast<float>(kLog2E));
}

// to = factor x
void scale_vector(const Gradient& to, const View& x, float factor) {
  const Source source(x);
  const GradientSink<> sink(to);
  each_lanes(0, x.cols, [&](int64_t i, int count) NAITE_VECTORS {
    sink.put(i, count, lanes_set(factor) * source.read(i, count));
  });
}

template <bool kPaired>
void subtract_rows(const cpu::Subtraction& s, int64_t begin, int64_t end) {
  const Source x(s.x), shared(s.shared);
  const Sink<kPaired> y(s.y);
  const int64_t heads = s.x.cols / s.head_dim, group = s.x.cols / s.shared.cols;
  const Lanes minus_factor = lanes_set(-s.factor);
  for (int64_t t = begin; t < end; ++t)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t at = t * s.x.cols + h * s.head_dim;
      const int64_t from = t * s.shared.cols + h / group * s.head_dim;
      each_lanes(0, s.head_dim, [&](int64_t i, int count) NAITE_VECTORS {
        y.write(at + i, count,
                lanes_fma(minus_factor, shared.read(from + i, count), x.read(at + i, count)));
      });
    }
}

// Tokens [begin, end), one block of the column rule; returns the block's part of the factor's
// gradient. `u` has room for one row of the shared heads.
template <bool kPaired>
float subtract_backward_rows(const cpu::SubtractionBackward& s, int64_t begin, int64_t end,
                             float* u) {
  const int64_t cols = s.shared.cols, heads = cols / s.head_dim, group = s.dy.cols / cols;
  const Source dy(s.dy), shared(s.shared);
  const View row{u, DType::kF32, 1, cols};
  const Source added(row);
  const Sink<> sums(row);
  const GradientSink<kPaired> dx(s.dx), dshared(s.dshared);
  const Lanes minus_factor = lanes_set(-s.factor);
  float part = 0.0f;
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t at = t * s.dy.cols + h * group * s.head_dim, to = t * cols + h * s.head_dim;
      each_lanes(0, s.head_dim, [&](int64_t i, int count) NAITE_VECTORS {
        Lanes sum = lanes_set(0.0f);
        for (int64_t g = 0; g < group; ++g) {
          const Lanes d = dy.read(at + g * s.head_dim + i, count);
          dx.put(at + g * s.head_dim + i, count, d);
          sum = sum + d;
        }
        sums.write(h * s.head_dim + i, count, sum);
        dshared.put(to + i, count, minus_factor * sum);
      });
    }
    part = part + rule_sum(cols, [&](int64_t i, int count, const Lanes& lanes) NAITE_VECTORS {
             return lanes_fma(-added.read(i, count), shared.read(t * cols + i, count), lanes);
           });
  }
  return part;
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {

void run(const Context& context, const DifferentialLambda& op) {
  const LambdaVectors& v = op.vectors;
  const auto exp_of = NAITE_CHOOSE(context.isa, exp_dot);
  op.lambda.as<float>()[0] =
      (exp_of(v.q1, v.k1) - exp_of(v.q2, v.k2)) + static_cast<float>(op.initial);
}

void run(const Context& context, const DifferentialLambdaBackward& op) {
  const LambdaVectors& v = op.vectors;
  const auto exp_of = NAITE_CHOOSE(context.isa, exp_dot);
  const auto scale = NAITE_CHOOSE(context.isa, scale_vector);
  const float d = op.dlambda.as<float>()[0];
  const float d1 = d * exp_of(v.q1, v.k1), d2 = -(d * exp_of(v.q2, v.k2));
  scale(op.gradients.q1, v.k1, d1);
  scale(op.gradients.k1, v.q1, d1);
  scale(op.gradients.q2, v.k2, d2);
  scale(op.gradients.k2, v.q2, d2);
}

int64_t workspace_bytes(const Context&, const SubtractSharedBackward& op) {
  return column_blocks(op.dy.rows) * static_cast<int64_t>(sizeof(float));
}

void run(const Context& context, const SubtractShared& op) {
  const Subtraction s{op.y, op.x, op.shared, op.factor.as<float>()[0], op.head_dim};
  const auto rows = NAITE_CHOOSE_PAIRED(context.isa, subtract_rows);
  split(context, op.x.rows, row_grain(op.x.cols),
        [&](int64_t begin, int64_t end, int) { rows(s, begin, end); });
}

void run(const Context& context, const SubtractSharedBackward& op) {
  NAITE_CHECK(op.shared.cols * static_cast<int64_t>(sizeof(float)) <= context.thread_bytes,
              "{} shared columns", op.shared.cols);
  const SubtractionBackward s{op.dx,      op.dshared, op.dy, op.shared, op.factor.as<float>()[0],
                              op.head_dim};
  const auto rows = NAITE_CHOOSE_PAIRED(context.isa, subtract_backward_rows);
  auto* parts = reinterpret_cast<float*>(op.workspace.data());
  split(context, op.dy.rows, kColumnBlock, [&](int64_t begin, int64_t end, int thread) {
    parts[begin / kColumnBlock] =
        rows(s, begin, end, reinterpret_cast<float*>(context.scratch(thread)));
  });
  join_column(op.dfactor, 0, parts, column_blocks(op.dy.rows), 1);
}

}  // namespace naite::kernels::cpu
#endif
