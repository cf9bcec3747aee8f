// SPDX-License-Identifier: Apache-2.0
// The sum of squares of a whole tensor, additions, and the optimizer's fused step (reads 16 and
// writes 12 bytes a parameter). Reduction order of the sum: operations.h, "sum".
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/update.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/streams-inl.h"

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

// Elements [begin, end), begin at a block of the sum rule, as one sub-tree.
float squares_of(const View& x, int64_t begin, int64_t end) {
  const Source source(x);
  return rule_sum(end - begin, [&](int64_t i, int count, const Lanes& lanes) NAITE_VECTORS {
    const Lanes value = source.read(begin + i, count);
    return lanes_fma(value, value, lanes);
  });
}

// y = a + b, or the greater of the two.
template <bool kGreater>
void join_range(const View& y, const View& a, const View& b, int64_t begin, int64_t end) {
  const Source a_source(a), b_source(b);
  const Sink<> sink(y);
  each_lanes(begin, end, [&](int64_t i, int count) NAITE_VECTORS {
    const Lanes left = a_source.read(i, count), right = b_source.read(i, count);
    sink.write(i, count, kGreater ? lanes_max(left, right) : left + right);
  });
}

void scale_range(const View& y, const View& x, float factor, int64_t begin, int64_t end) {
  const Source source(x);
  const Sink<> sink(y);
  each_lanes(begin, end, [&](int64_t i, int count) NAITE_VECTORS {
    sink.write(i, count, source.read(i, count) * lanes_set(factor));
  });
}

void column_max_range(const View& y, const View& x, int64_t begin, int64_t end) {
  const Source source(x);
  const Sink<> sink(y);
  each_lanes(begin, end, [&](int64_t i, int count) NAITE_VECTORS {
    Lanes most = source.read(i, count);
    for (int64_t t = 1; t < x.rows; ++t) most = lanes_max(most, source.read(t * x.cols + i, count));
    sink.write(i, count, most);
  });
}

void adamw_range(const View& parameter, const View& gradient, const View& m, const View& v,
                 const AdamWArguments& a, int64_t begin, int64_t end) {
  const Source p_source(parameter), g_source(gradient), m_source(m), v_source(v);
  const Sink<> p_sink(parameter), m_sink(m), v_sink(v);
  const Lanes scale = lanes_set(a.gradient_scale), beta1 = lanes_set(a.beta1),
              rest1 = lanes_set(a.one_minus_beta1), beta2 = lanes_set(a.beta2),
              rest2 = lanes_set(a.one_minus_beta2), correction1 = lanes_set(a.inverse_correction1),
              correction2 = lanes_set(a.inverse_correction2), epsilon = lanes_set(a.epsilon),
              minus_rate = lanes_set(-a.learning_rate), decay = lanes_set(a.decay);
  each_lanes(begin, end, [&](int64_t i, int count) NAITE_VECTORS {
    const Lanes g = g_source.read(i, count) * scale;
    const Lanes m_new = lanes_fma(beta1, m_source.read(i, count), rest1 * g);
    const Lanes v_new = lanes_fma(beta2, v_source.read(i, count), rest2 * (g * g));
    m_sink.write(i, count, m_new);
    v_sink.write(i, count, v_new);
    const Lanes u = (m_new * correction1) / (lanes_sqrt(v_new * correction2) + epsilon);
    p_sink.write(i, count, lanes_fma(minus_rate, u, p_source.read(i, count) * decay));
  });
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {

float sum_squares(const Context& context, const View& x) {
  // Pieces of a power of two blocks each are whole sub-trees, so joining them finishes the tree.
  constexpr int64_t kMaxPieces = 1024;
  const int64_t count = x.size();
  if (count == 0) return 0.0f;
  int64_t piece = kSumBlock;
  while ((count + piece - 1) / piece > kMaxPieces) piece *= 2;
  float sums[kMaxPieces];
  const auto squares = NAITE_CHOOSE(context.isa, squares_of);
  split(context, count, piece,
        [&](int64_t begin, int64_t end, int) { sums[begin / piece] = squares(x, begin, end); });
  const float total =
      tree_sum<float>(0, (count + piece - 1) / piece, [&](int64_t i) { return sums[i]; });
  return total + 0.0f;
}

void join_column(const Gradient& to, int64_t index, const float* parts, int64_t blocks,
                 int64_t stride) {
  if (!to.wanted || blocks == 0) return;
  const auto part = [&](int64_t block) { return parts[block * stride]; };
  const float total = tree_sum<float>(0, blocks, part) + 0.0f;
  float& value = to.view.as<float>()[index];
  value = to.accumulate ? value + total : total;
}

void run(const Context& context, const SumSquares& op) {
  op.y.as<float>()[0] = sum_squares(context, op.x);
}

void run(const Context&, const TreeSum& op) {
  const float* x = op.x.as<float>();
  op.y.as<float>()[0] = tree_sum<float>(0, op.x.cols, [&](int64_t i) { return x[i]; });
}

void run(const Context& context, const Add& op) {
  split_flat(context, op.y.size(), NAITE_CHOOSE(context.isa, join_range<false>), op.y, op.a, op.b);
}

void run(const Context& context, const Scale& op) {
  split_flat(context, op.y.size(), NAITE_CHOOSE(context.isa, scale_range), op.y, op.x, op.factor);
}

void run(const Context& context, const ColumnMax& op) {
  const auto range = NAITE_CHOOSE(context.isa, column_max_range);
  split(context, op.x.cols, 64,
        [&](int64_t begin, int64_t end, int) { range(op.y, op.x, begin, end); });
}

void run(const Context& context, const Maximum& op) {
  split_flat(context, op.y.size(), NAITE_CHOOSE(context.isa, join_range<true>), op.y, op.a, op.b);
}

void run(const Context& context, const Copy& op) {
  split(context, op.x.bytes(), 4 * kFlatGrain, [&](int64_t begin, int64_t end, int) {
    std::memcpy(op.y.as<std::byte>() + begin, op.x.as<std::byte>() + begin,
                static_cast<size_t>(end - begin));
  });
}

void run(const Context& context, const Zero& op) {
  auto* bytes = op.y.as<std::byte>();
  split(context, op.y.bytes(), 4 * kFlatGrain, [&](int64_t begin, int64_t end, int) {
    std::memset(bytes + begin, 0, static_cast<size_t>(end - begin));
  });
}

void run(const Context& context, const AdamW& op) {
  split_flat(context, op.parameter.size(), NAITE_CHOOSE(context.isa, adamw_range), op.parameter,
             op.gradient, op.m, op.v, op.arguments);
}

}  // namespace naite::kernels::cpu
#endif
