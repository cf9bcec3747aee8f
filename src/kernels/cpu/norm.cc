// SPDX-License-Identifier: Apache-2.0
// RMS norm with the residual add, its backward in one pass over the rows, and column sums.
// Reduction order: operations.h, "sum" within a row and "column" over rows. Memory-bound: forward
// with add reads 6 and writes 6 bytes an element in bf16, backward reads 10 and writes 6.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/split.h"
#include "kernels/cpu/streams-inl.h"

#ifndef NAITE_KERNELS_CPU_NORM_CC_
#define NAITE_KERNELS_CPU_NORM_CC_
namespace naite::kernels::cpu {

struct NormForward {
  View y, rstd, sum, x, delta, w;
  int64_t width;  // of one normed vector
  float epsilon, scale;
};

struct NormBackward {
  Gradient dx, ddelta;
  View dy, dsum, x, rstd, w;
  int64_t width;
  float scale;
};

}  // namespace naite::kernels::cpu
#endif

NAITE_BEFORE_VECTORS();
namespace naite::kernels::HWY_NAMESPACE {

template <bool kPaired>
void norm_vectors(const cpu::NormForward& f, int64_t begin, int64_t end) {
  const int64_t n = f.width;
  const Source x(f.x), delta(f.delta), w(f.w), normed(f.delta ? f.sum : f.x);
  const Sink<kPaired> y(f.y), sum(f.sum);
  const bool adds = static_cast<bool>(f.delta);
  const Lanes w_scale = lanes_set(f.scale);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t at = r * n;
    const float squares = rule_sum(n, [&](int64_t i, int count, const Lanes& lanes) NAITE_VECTORS {
      Lanes value = x.read(at + i, count);
      if (adds) {
        value = value + delta.read(at + i, count);
        sum.write(at + i, count, value);
      }
      return lanes_fma(value, value, lanes);
    });
    const float mean = squares / static_cast<float>(n);
    const float scale = 1.0f / std::sqrt(mean + f.epsilon);
    f.rstd.as<float>()[r] = scale;
    const Lanes factor = lanes_set(scale);
    each_lanes(0, n, [&](int64_t i, int count) NAITE_VECTORS {
      y.write(at + i, count, (normed.read(at + i, count) * factor) * (w.read(i, count) * w_scale));
    });
  }
}

// Vectors [begin, end), at most one block of the column rule; `dw` [width] receives the block's
// part of the weight gradient, or is null.
template <bool kPaired>
void norm_backward_vectors(const cpu::NormBackward& f, int64_t begin, int64_t end, float* dw) {
  const int64_t n = f.width;
  const Source dy(f.dy), dsum(f.dsum), x(f.x), w(f.w);
  const GradientSink<kPaired> dx(f.dx), ddelta(f.ddelta);
  const View part{dw, DType::kF32, 1, n};
  const Source old_parts(part);
  const Sink<> parts(part);
  const bool adds = static_cast<bool>(f.dsum);
  const Lanes w_scale = lanes_set(f.scale);
  if (dw != nullptr) std::memset(dw, 0, static_cast<size_t>(n) * sizeof(float));
  for (int64_t r = begin; r < end; ++r) {
    const int64_t at = r * n;
    const Lanes rstd = lanes_set(f.rstd.as<float>()[r]);
    const float dot = rule_sum(n, [&](int64_t i, int count, const Lanes& lanes) NAITE_VECTORS {
      const Lanes xhat = x.read(at + i, count) * rstd;
      return lanes_fma(dy.read(at + i, count) * (w.read(i, count) * w_scale), xhat, lanes);
    });
    const Lanes minus_c = lanes_set(-(dot / static_cast<float>(n)));
    each_lanes(0, n, [&](int64_t i, int count) NAITE_VECTORS {
      const Lanes d = dy.read(at + i, count);
      const Lanes xhat = x.read(at + i, count) * rstd;
      Lanes total = lanes_fma(minus_c, xhat, d * (w.read(i, count) * w_scale)) * rstd;
      if (adds) total = dsum.read(at + i, count) + total;
      dx.put(at + i, count, total);
      ddelta.put(at + i, count, total);
      if (dw != nullptr) parts.write(i, count, lanes_fma(d, xhat, old_parts.read(i, count)));
    });
  }
}

// One block of the column rule: part [cols] = rows [begin, end) of dy, added in order. Four rows at
// a time, so that memory is read as it lies and the running sums, which stay near, are visited
// less.
void column_block(const View& dy, int64_t begin, int64_t end, float* part) {
  const View sums{part, DType::kF32, 1, dy.cols};
  const Source rows(dy), old(sums);
  const Sink<> out(sums);
  std::memset(part, 0, static_cast<size_t>(dy.cols) * sizeof(float));
  int64_t r = begin;
  for (; r + 4 <= end; r += 4) {
    const int64_t at = r * dy.cols;
    each_lanes(0, dy.cols, [&](int64_t i, int count) NAITE_VECTORS {
      Lanes sum = old.read(i, count) + rows.read(at + i, count);
      sum = sum + rows.read(at + dy.cols + i, count);
      sum = sum + rows.read(at + 2 * dy.cols + i, count);
      out.write(i, count, sum + rows.read(at + 3 * dy.cols + i, count));
    });
  }
  for (; r < end; ++r)
    each_lanes(0, dy.cols, [&](int64_t i, int count) NAITE_VECTORS {
      out.write(i, count, old.read(i, count) + rows.read(r * dy.cols + i, count));
    });
}

// Joins parts [blocks][cols] for columns [begin, end) by the tree and delivers the finished sums,
// times `scale`.
void join_columns(const Gradient& to, float* parts, int64_t blocks, int64_t cols, float scale,
                  int64_t begin, int64_t end) {
  const View view{parts, DType::kF32, blocks, cols};
  const Source from(view);
  const Sink<> sums(view);
  const GradientSink<> out(to);
  for (int64_t step = 1; step < blocks; step *= 2)
    for (int64_t b = 0; b + step < blocks; b += 2 * step)
      for (int64_t i = begin; i < end; i += kLanes) {
        const int count = lanes_left(i, end);
        sums.write(b * cols + i, count,
                   from.read(b * cols + i, count) + from.read((b + step) * cols + i, count));
      }
  for (int64_t i = begin; i < end; i += kLanes) {
    const int count = lanes_left(i, end);
    out.put(i, count, lanes_set(scale) * (from.read(i, count) + lanes_set(0.0f)));
  }
}

}  // namespace naite::kernels::HWY_NAMESPACE
NAITE_AFTER_VECTORS();

#if HWY_ONCE
namespace naite::kernels::cpu {

namespace {

void join(const Context& context, const Gradient& to, float* parts, int64_t blocks, int64_t cols,
          float scale) {
  const auto join_range = NAITE_CHOOSE(context.isa, join_columns);
  split(context, cols, 256, [&](int64_t begin, int64_t end, int) {
    join_range(to, parts, blocks, cols, scale, begin, end);
  });
}

int64_t parts_bytes(int64_t rows, int64_t cols) {
  return column_blocks(rows) * cols * static_cast<int64_t>(sizeof(float));
}
float* parts_of(Workspace workspace) { return reinterpret_cast<float*>(workspace.data()); }

}  // namespace

int64_t workspace_bytes(const Context&, const RmsNormBackward& op) {
  return parts_bytes(op.x.rows * op.arguments.heads, op.x.cols / op.arguments.heads);
}

void run(const Context& context, const RmsNorm& op) {
  NAITE_CHECK(!op.delta || op.sum.dtype == DType::kF32, "a residual sum in {}",
              dtype_name(op.sum.dtype));
  const NormForward forward{.y = op.y,
                            .rstd = op.rstd,
                            .sum = op.sum,
                            .x = op.x,
                            .delta = op.delta,
                            .w = op.w,
                            .width = op.x.cols / op.arguments.heads,
                            .epsilon = static_cast<float>(op.arguments.epsilon),
                            .scale = static_cast<float>(op.arguments.scale)};
  const auto norm = NAITE_CHOOSE_PAIRED(context.isa, norm_vectors);
  split(context, op.x.rows * op.arguments.heads, row_grain(forward.width),
        [&](int64_t begin, int64_t end, int) { norm(forward, begin, end); });
}

void run(const Context& context, const RmsNormBackward& op) {
  const NormBackward backward{.dx = op.dx,
                              .ddelta = op.ddelta,
                              .dy = op.dy,
                              .dsum = op.dsum,
                              .x = op.x,
                              .rstd = op.rstd,
                              .w = op.w,
                              .width = op.x.cols / op.arguments.heads,
                              .scale = static_cast<float>(op.arguments.scale)};
  const int64_t vectors = op.x.rows * op.arguments.heads, blocks = column_blocks(vectors);
  float* parts = op.dw.wanted ? parts_of(op.workspace) : nullptr;
  const auto norm = NAITE_CHOOSE_PAIRED(context.isa, norm_backward_vectors);
  split(context, vectors, kColumnBlock, [&](int64_t begin, int64_t end, int) {
    float* part = parts == nullptr ? nullptr : parts + begin / kColumnBlock * backward.width;
    norm(backward, begin, end, part);
  });
  if (op.dw.wanted && blocks > 0)
    join(context, op.dw, parts, blocks, backward.width, backward.scale);
}

int64_t workspace_bytes(const Context&, const ColumnSum& op) {
  return parts_bytes(op.dy.rows, op.dy.cols);
}

void run(const Context& context, const ColumnSum& op) {
  const int64_t blocks = column_blocks(op.dy.rows);
  if (!op.dbias.wanted || blocks == 0) return;
  float* parts = parts_of(op.workspace);
  const auto sum_block = NAITE_CHOOSE(context.isa, column_block);
  split(context, op.dy.rows, kColumnBlock, [&](int64_t begin, int64_t end, int) {
    sum_block(op.dy, begin, end, parts + begin / kColumnBlock * op.dy.cols);
  });
  join(context, op.dbias, parts, blocks, op.dy.cols, 1.0f);
}

}  // namespace naite::kernels::cpu
#endif
