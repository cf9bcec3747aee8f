// SPDX-License-Identifier: Apache-2.0
// Muon's step of one matrix: momentum, five Newton-Schulz steps on products of products.cc, update.
// Reduction order: operations.h. 10 (l s s + s s s) fused operations each for three products a
// step; everything between them is memory-bound.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/muon.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/carver.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/streams-inl.h"

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

// m = fma(momentum, m, g), u = fma(momentum, m, g)
void momentum_range(const View& u, const View& m, const View& gradient, const MuonArguments& a,
                    int64_t begin, int64_t end) {
  const Source g_source(gradient), m_source(m);
  const Sink<> u_sink(u), m_sink(m);
  const Lanes scale = lanes_set(a.gradient_scale), momentum = lanes_set(a.momentum);
  each_lanes(begin, end, [&](int64_t i, int count) NAITE_VECTORS {
    const Lanes g = g_source.read(i, count) * scale;
    const Lanes m_new = lanes_fma(momentum, m_source.read(i, count), g);
    m_sink.write(i, count, m_new);
    u_sink.write(i, count, lanes_fma(momentum, m_new, g));
  });
}

// y = fma(p, x, q z)
void combine_range(const View& y, float p, const View& x, float q, const View& z, int64_t begin,
                   int64_t end) {
  const Source x_source(x), z_source(z);
  const Sink<> sink(y);
  each_lanes(begin, end, [&](int64_t i, int count) NAITE_VECTORS {
    sink.write(
        i, count,
        lanes_fma(lanes_set(p), x_source.read(i, count), lanes_set(q) * z_source.read(i, count)));
  });
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {

namespace {

struct MuonMemory {
  MuonMemory(std::byte* workspace, int64_t rows, int64_t cols) {
    Carver carver(workspace);
    const auto take = [&](DType dtype, int64_t r, int64_t c) -> View {
      return {carver.take<std::byte>(r * c * dtype_bytes(dtype)), dtype, r, c};
    };
    const int64_t l = std::max(rows, cols), s = std::min(rows, cols);
    u = take(DType::kBf16, rows, cols);
    z = rows < cols ? take(DType::kBf16, l, s) : u;
    y = take(DType::kF32, l, s);
    gram = take(DType::kF32, s, s);
    gram_rounded = take(DType::kBf16, s, s);
    const int64_t prepared = prepared_bytes(Use::kMatrix, DType::kBf16, s, s);
    factor = {carver.take<std::byte>(prepared), DType::kBf16, s, s};
    bytes = carver.used();
  }
  View u, z, y, gram, gram_rounded, factor;
  int64_t bytes;
};

void transpose(const Context& context, const View& to, const View& from) {
  constexpr int64_t kTile = 32;
  const auto* source = from.as<const uint16_t>();
  auto* target = to.as<uint16_t>();
  split(context, to.rows, kTile, [&](int64_t begin, int64_t end, int) {
    for (int64_t j = 0; j < to.cols; j += kTile)
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = j; c < std::min(to.cols, j + kTile); ++c)
          target[r * to.cols + c] = source[c * from.cols + r];
  });
}

void newton_schulz_step(const Context& context, const MuonMemory& at, const float (&abc)[3]) {
  const auto combine = NAITE_CHOOSE(context.isa, combine_range);
  const Gradient gram{at.gram, true, false};
  run(context, LinearBackwardWeight{gram, at.z, at.z, {}});
  run(context, Scale{at.gram_rounded, at.gram});
  run(context, LinearBackwardWeight{gram, at.gram_rounded, at.gram_rounded, {}});
  split_flat(context, at.gram.size(), combine, at.gram, abc[2], at.gram, abc[1], at.gram_rounded);
  run(context, Prepare{at.factor, at.gram, Use::kMatrix});
  const Projection product{at.y, at.factor, {}};
  run(context, Linear{{&product, 1}, at.z, {}});
  split_flat(context, at.z.size(), combine, at.z, abc[0], at.z, 1.0f, at.y);
}

}  // namespace

int64_t workspace_bytes(const Context&, const Muon& op) {
  return MuonMemory(nullptr, op.gradient.rows, op.gradient.cols).bytes;
}

void run(const Context& context, const Muon& op) {
  const MuonArguments& a = op.arguments;
  const int64_t rows = op.parameter.rows, cols = op.parameter.cols;
  const MuonMemory at(op.workspace.data(), rows, cols);
  const auto combine = NAITE_CHOOSE(context.isa, combine_range);
  split_flat(context, op.parameter.size(), NAITE_CHOOSE(context.isa, momentum_range), at.u, op.m,
             op.gradient, a);
  const float inverse = 1.0f / (std::sqrt(sum_squares(context, at.u)) + kMuonEpsilon);
  run(context, Scale{at.u, at.u, inverse});
  const bool turned = rows < cols;
  if (turned) transpose(context, at.z, at.u);
  for (const auto& coefficients : kNewtonSchulz) newton_schulz_step(context, at, coefficients);
  if (turned) transpose(context, at.u, at.z);
  split_flat(context, op.parameter.size(), combine, op.parameter, -a.learning_rate, at.u, a.decay,
             op.parameter);
}

}  // namespace naite::kernels::cpu
#endif
