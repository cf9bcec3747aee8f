// SPDX-License-Identifier: Apache-2.0
// Rotary positions, both ways. No sum anywhere: every pair turns on its own. Memory-bound.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/streams-inl.h"

#ifndef NAITE_KERNELS_CPU_ROPE_CC_
#define NAITE_KERNELS_CPU_ROPE_CC_
namespace naite::kernels::cpu {

struct Turn {
  Gradient to;  // the output, or the gradient of the input
  View x, positions, table;
  RopeArguments arguments;
  float sign;  // -1: the inverse turn, whose result has all heads
};

}  // namespace naite::kernels::cpu
#endif

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

// x and the output may be the same memory: both elements of a pair are read before one is written.
template <bool kPaired>
void turn_rows(const cpu::Turn& turn, int64_t begin, int64_t end) {
  const RopeArguments& a = turn.arguments;
  const int64_t half = a.rotary_dim / 2;
  const Source x(turn.x), table(turn.table);
  const GradientSink<kPaired> y(turn.to);
  const Lanes sign = lanes_set(turn.sign);
  for (int64_t t = begin; t < end; ++t) {
    const int64_t angles = turn.positions.as<int32_t>()[t] * a.rotary_dim;
    for (int64_t h = 0; h < a.num_picked(); ++h) {
      const int64_t whole = (t * a.num_heads + a.head(h)) * a.head_dim;
      const int64_t part = (t * a.num_picked() + h) * a.head_dim;
      const int64_t at = turn.sign > 0 ? whole : part, to = turn.sign > 0 ? part : whole;
      each_lanes(0, half, [&](int64_t i, int count) NAITE_VECTORS {
        const Lanes x1 = x.read(at + i, count), x2 = x.read(at + half + i, count);
        const Lanes cos = table.read(angles + i, count);
        const Lanes sin = sign * table.read(angles + half + i, count);
        y.put(to + i, count, lanes_fma(x1, cos, -(x2 * sin)));
        y.put(to + half + i, count, lanes_fma(x2, cos, x1 * sin));
      });
      each_lanes(a.rotary_dim, a.head_dim, [&](int64_t i, int count) NAITE_VECTORS {
        y.put(to + i, count, x.moved(at + i, count));
      });
    }
  }
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {

namespace {

void turn_all(const Context& context, const Turn& turn) {
  const auto rows = NAITE_CHOOSE_PAIRED(context.isa, turn_rows);
  split(context, turn.x.rows, row_grain(turn.x.cols),
        [&](int64_t begin, int64_t end, int) { rows(turn, begin, end); });
}

}  // namespace

void run(const Context& context, const Rope& op) {
  turn_all(context,
           {Gradient{op.y, true, false}, op.x, op.positions, op.table, op.arguments, 1.0f});
}

void run(const Context& context, const RopeBackward& op) {
  if (op.dx.wanted) turn_all(context, {op.dx, op.dy, op.positions, op.table, op.arguments, -1.0f});
}

}  // namespace naite::kernels::cpu
#endif
