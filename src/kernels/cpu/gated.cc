// SPDX-License-Identifier: Apache-2.0
// Gated units, forward and backward: element by element, memory-bound in fp32.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gated.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/streams-inl.h"

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

template <bool kPaired>
void gate_range(const View& y, const View& gate, const View& up, int64_t begin, int64_t end) {
  const Source g_source(gate), up_source(up);
  const Sink<kPaired> sink(y);
  each_lanes(begin, end, [&](int64_t i, int count) NAITE_VECTORS {
    const Lanes g = g_source.read(i, count);
    sink.write(i, count, (g * lanes_sigmoid(g)) * up_source.read(i, count));
  });
}

template <bool kPaired>
void gate_backward_range(const Gradient& dgate, const Gradient& dup, const View& dy,
                         const View& gate, const View& up, int64_t begin, int64_t end) {
  const Source d_source(dy), g_source(gate), up_source(up);
  const GradientSink<kPaired> dgate_sink(dgate), dup_sink(dup);
  const Lanes one = lanes_set(1.0f);
  each_lanes(begin, end, [&](int64_t i, int count) NAITE_VECTORS {
    const Lanes d = d_source.read(i, count), g = g_source.read(i, count);
    const Lanes s = lanes_sigmoid(g);
    dgate_sink.put(i, count, (d * up_source.read(i, count)) * (s * lanes_fma(g, one - s, one)));
    dup_sink.put(i, count, d * (g * s));
  });
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {

void run(const Context& context, const Gated& op) {
  split_flat(context, op.y.size(), NAITE_CHOOSE_PAIRED(context.isa, gate_range), op.y, op.gate,
             op.up);
}

void run(const Context& context, const GatedBackward& op) {
  split_flat(context, op.dy.size(), NAITE_CHOOSE_PAIRED(context.isa, gate_backward_range), op.dgate,
             op.dup, op.dy, op.gate, op.up);
}

}  // namespace naite::kernels::cpu
#endif
