// SPDX-License-Identifier: Apache-2.0
// Grouped differential attention against plain attention with the same query heads, key/value heads
// and width of the values: from rotated projections to what the output projection reads, and back.
// Both rows count the products of the attentions alone, so their rates compare their times.
#include "bench/measure.h"

namespace naite::bench {

namespace {

using kernels::AttentionArguments;
using kernels::DType;
using kernels::Gradient;
using kernels::RopeArguments;
using kernels::View;

constexpr int64_t kTokens = 4096, kHeadDim = 64, kValueDim = 128;
constexpr int64_t kGroup = 4, kNoise = 2, kSignal = kGroup * kNoise, kHeads = kSignal + kNoise;
constexpr int64_t kPairs = 2;

// Activations of T tokens; a gradient is written into a buffer of its own.
struct Bench {
  explicit Bench(int64_t context) : k(machine().kernels("")), buffers(k) {
    table = buffers.random(context, kHeadDim, DType::kF32);
    positions = buffers.zeros(kTokens, 1, DType::kI32);
    spans = buffers.zeros(kTokens, 2, DType::kI32);
    for (int64_t t = 0; t < kTokens; ++t) {
      positions.as<int32_t>()[t] = static_cast<int32_t>(t % context);
      spans.as<int32_t>()[2 * t] = static_cast<int32_t>(t / context * context);
      spans.as<int32_t>()[2 * t + 1] = static_cast<int32_t>(t + 1);
    }
  }
  View activation(int64_t cols) { return buffers.random(kTokens, cols, DType::kBf16); }
  View wide(int64_t cols) { return buffers.zeros(kTokens, cols, DType::kF32); }

  kernels::Kernels& k;
  Buffers buffers;
  View table, positions, spans;
};

Gradient write(const View& view) { return {view, true, false}; }

AttentionArguments arguments_of(int64_t heads) {
  return {heads, kPairs, kHeadDim, kValueDim, 1.0 / 8, 0};
}

double flops_of(int64_t context) {
  const auto n = static_cast<double>(context);
  const double pairs = static_cast<double>(kTokens) / n * n * (n + 1) / 2;
  return 3 * 2 * pairs * static_cast<double>(kHeads * (kHeadDim + kValueDim));
}

// One attention with its gradients.
struct Attention {
  Attention(Bench& b, const AttentionArguments& a, View v)
      : b(b),
        a(a),
        v(v),
        q(b.activation(a.num_heads * kHeadDim)),
        key(b.activation(kPairs * kHeadDim)),
        y(b.activation(a.num_heads * kValueDim)),
        lse(b.wide(a.num_heads)),
        dq(b.activation(q.cols)),
        dk(b.activation(key.cols)),
        dy(b.activation(y.cols)),
        call(b.buffers.ready(kernels::Attention{y, lse, {}, q, key, v, b.spans, a})),
        backward_call(b.buffers.ready(kernels::AttentionBackward{
            write(dq), write(dk), {}, dy, y, lse, q, key, v, b.spans, a})) {}
  void forward() { submit(b.k, call); }
  void backward(Gradient dv) {
    backward_call.dv = dv;
    submit(b.k, backward_call);
  }
  Bench& b;
  AttentionArguments a;
  View v, q, key, y, lse, dq, dk, dy;
  kernels::Attention call;
  kernels::AttentionBackward backward_call;
};

void plain(benchmark::State& state, int64_t context) {
  Bench b(context);
  const View v = b.activation(kPairs * kValueDim), dv = b.activation(v.cols);
  const View q = b.activation(kHeads * kHeadDim), key = b.activation(kPairs * kHeadDim);
  Attention attention(b, arguments_of(kHeads), v);
  const RopeArguments heads{kHeads, kHeadDim, kHeadDim}, keys{kPairs, kHeadDim, kHeadDim};
  measure_flops(state, Instruction::kBf16Dot, flops_of(context), [&] {
    submit(b.k, kernels::Rope{attention.q, q, b.positions, b.table, heads});
    submit(b.k, kernels::Rope{attention.key, key, b.positions, b.table, keys});
    attention.forward();
    attention.backward(write(dv));
    submit(b.k, kernels::RopeBackward{write(q), attention.dq, b.positions, b.table, heads});
    submit(b.k, kernels::RopeBackward{write(key), attention.dk, b.positions, b.table, keys});
  });
}

void differential(benchmark::State& state, int64_t context) {
  Bench b(context);
  const View v = b.activation(kPairs * kValueDim), dv = b.activation(v.cols);
  const View q = b.activation(kHeads * kHeadDim), key = b.activation(2 * kPairs * kHeadDim);
  Attention signal(b, arguments_of(kSignal), v), noise(b, arguments_of(kNoise), v);
  const View lambda = b.buffers.random(1, 1, DType::kF32);
  const View dlambda = b.buffers.zeros(1, 1, DType::kF32);
  const auto like_signal = [&] { return b.activation(signal.y.cols); };
  const View difference = like_signal(), o = like_signal(), ddifference = like_signal();
  const View rstd = b.wide(kSignal), w = b.buffers.random(1, kValueDim, DType::kBf16);
  const View dw = b.buffers.zeros(1, kValueDim, DType::kF32);
  const kernels::NormArguments norm{1e-5, kSignal, 0.4};
  const RopeArguments q_signal{kHeads, kHeadDim, kHeadDim, kGroup + 1, 0, kGroup};
  const RopeArguments q_noise{kHeads, kHeadDim, kHeadDim, kGroup + 1, kGroup, 1};
  const RopeArguments k_signal{2 * kPairs, kHeadDim, kHeadDim, 2, 0, 1};
  const RopeArguments k_noise{2 * kPairs, kHeadDim, kHeadDim, 2, 1, 1};
  const auto norm_backward = b.buffers.ready(kernels::RmsNormBackward{
      write(ddifference), {}, write(dw), o, {}, difference, rstd, w, norm});
  const auto subtract_backward = b.buffers.ready(kernels::SubtractSharedBackward{
      write(signal.dy), write(noise.dy), write(dlambda), ddifference, noise.y, lambda, kValueDim});
  measure_flops(state, Instruction::kBf16Dot, flops_of(context), [&] {
    submit(b.k, kernels::Rope{signal.q, q, b.positions, b.table, q_signal});
    submit(b.k, kernels::Rope{noise.q, q, b.positions, b.table, q_noise});
    submit(b.k, kernels::Rope{signal.key, key, b.positions, b.table, k_signal});
    submit(b.k, kernels::Rope{noise.key, key, b.positions, b.table, k_noise});
    signal.forward();
    noise.forward();
    submit(b.k, kernels::SubtractShared{difference, signal.y, noise.y, lambda, kValueDim});
    submit(b.k, kernels::RmsNorm{o, rstd, {}, difference, {}, w, norm});
    submit(b.k, norm_backward);
    submit(b.k, subtract_backward);
    noise.backward(write(dv));
    signal.backward({dv, true, true});
    submit(b.k, kernels::RopeBackward{write(q), signal.dq, b.positions, b.table, q_signal});
    submit(b.k, kernels::RopeBackward{write(q), noise.dq, b.positions, b.table, q_noise});
    submit(b.k, kernels::RopeBackward{write(key), signal.dk, b.positions, b.table, k_signal});
    submit(b.k, kernels::RopeBackward{write(key), noise.dk, b.positions, b.table, k_noise});
  });
}

}  // namespace

void register_differential_rows() {
  for (const int64_t context : {512, 2048}) {
    add_row(fmt::format("block/plain attention/context {}", context),
            [context](benchmark::State& s) { plain(s, context); });
    add_row(fmt::format("block/grouped differential 4:1/context {}", context),
            [context](benchmark::State& s) { differential(s, context); });
  }
}

}  // namespace naite::bench
