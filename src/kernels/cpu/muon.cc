// SPDX-License-Identifier: Apache-2.0
// Muon's step of one matrix: momentum, five Newton-Schulz steps on products of products.cc, update.
// Reduction order: operations.h. 10 (l s s + s s s) fused operations each for three products a
// step; everything between them is memory-bound.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/muon.cc"
#include <hwy/foreach_target.h>

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

// y = x factor
void rounded_scale_range(const View& y, const View& x, float factor, int64_t begin, int64_t end) {
  const Source source(x);
  const Sink<> sink(y);
  each_lanes(begin, end, [&](int64_t i, int count) NAITE_VECTORS {
    sink.write(i, count, source.read(i, count) * lanes_set(factor));
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

// Takes aligned pieces of a workspace; without memory it only counts.
class Pieces {
 public:
  explicit Pieces(std::byte* memory) : memory_(memory) {}
  View take(DType dtype, int64_t rows, int64_t cols) {
    return {take(rows * cols * dtype_bytes(dtype)), dtype, rows, cols};
  }
  std::byte* take(int64_t bytes) {
    std::byte* const piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (bytes + 63) / 64 * 64;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  std::byte* memory_;
  int64_t used_ = 0;
};

struct MuonMemory {
  MuonMemory(Pieces& pieces, int64_t rows, int64_t cols) {
    const int64_t l = std::max(rows, cols), s = std::min(rows, cols);
    u = pieces.take(DType::kBf16, rows, cols);
    z = rows < cols ? pieces.take(DType::kBf16, l, s) : u;
    y = pieces.take(DType::kF32, l, s);
    gram = pieces.take(DType::kF32, s, s);
    gram_rounded = pieces.take(DType::kBf16, s, s);
    factor =
        View{pieces.take(prepared_bytes(Use::kMatrix, DType::kBf16, s, s)), DType::kBf16, s, s};
  }
  View u, z, y, gram, gram_rounded, factor;
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
  const auto scale = NAITE_CHOOSE(context.isa, rounded_scale_range);
  const Gradient gram{at.gram, true, false};
  run(context, LinearBackwardWeight{gram, at.z, at.z, {}});
  split(context, at.gram.size(), kFlatGrain, [&](int64_t begin, int64_t end, int) {
    scale(at.gram_rounded, at.gram, 1.0f, begin, end);
  });
  run(context, LinearBackwardWeight{gram, at.gram_rounded, at.gram_rounded, {}});
  split(context, at.gram.size(), kFlatGrain, [&](int64_t begin, int64_t end, int) {
    combine(at.gram, abc[2], at.gram, abc[1], at.gram_rounded, begin, end);
  });
  run(context, Prepare{at.factor, at.gram, Use::kMatrix});
  const Projection product{at.y, at.factor, {}};
  run(context, Linear{{&product, 1}, at.z, {}});
  split(context, at.z.size(), kFlatGrain, [&](int64_t begin, int64_t end, int) {
    combine(at.z, abc[0], at.z, 1.0f, at.y, begin, end);
  });
}

}  // namespace

int64_t workspace_bytes(const Context&, const Muon& op) {
  Pieces pieces(nullptr);
  MuonMemory(pieces, op.gradient.rows, op.gradient.cols);
  return pieces.used();
}

void run(const Context& context, const Muon& op) {
  const MuonArguments& a = op.arguments;
  const int64_t rows = op.parameter.rows, cols = op.parameter.cols;
  Pieces pieces(op.workspace.data());
  const MuonMemory at(pieces, rows, cols);
  const auto momentum = NAITE_CHOOSE(context.isa, momentum_range);
  const auto scale = NAITE_CHOOSE(context.isa, rounded_scale_range);
  const auto combine = NAITE_CHOOSE(context.isa, combine_range);
  split(context, op.parameter.size(), kFlatGrain,
        [&](int64_t begin, int64_t end, int) { momentum(at.u, op.m, op.gradient, a, begin, end); });
  const float inverse = 1.0f / (std::sqrt(sum_squares(context, at.u)) + kMuonEpsilon);
  split(context, op.parameter.size(), kFlatGrain,
        [&](int64_t begin, int64_t end, int) { scale(at.u, at.u, inverse, begin, end); });
  const bool turned = rows < cols;
  if (turned) transpose(context, at.z, at.u);
  for (const auto& coefficients : kNewtonSchulz) newton_schulz_step(context, at, coefficients);
  if (turned) transpose(context, at.u, at.z);
  split(context, op.parameter.size(), kFlatGrain, [&](int64_t begin, int64_t end, int) {
    combine(op.parameter, -a.learning_rate, at.u, a.decay, op.parameter, begin, end);
  });
}

}  // namespace naite::kernels::cpu
#endif
