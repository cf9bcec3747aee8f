// SPDX-License-Identifier: Apache-2.0
#pragma once
// Loops over the outputs of an operation, shared out to the team in pieces of a size that keeps
// every thread busy and the cost of handing out small.
#include <algorithm>
#include <cstdint>

#include "kernels/cpu/context.h"

namespace naite::kernels::cpu {

inline int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }
inline int64_t divide_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }

// body(begin, end, thread) over [0, count) in pieces of `grain`.
template <class Body>
void split(const Context& context, int64_t count, int64_t grain, Body body) {
  grain = std::max<int64_t>(1, grain);
  context.pool.run(divide_up(count, grain), [&](int64_t task, int thread) {
    body(task * grain, std::min(count, (task + 1) * grain), thread);
  });
}

// Elements of a flat array that make one piece: a multiple of every vector and cache line.
inline constexpr int64_t kFlatGrain = 16384;

// run(task, thread) for every task; on the calling thread alone where all of them together are less
// work than waking another one.
template <class Run>
void run_tasks(const Context& context, int64_t count, double multiply_adds, Run run) {
  constexpr double kSmallWork = 1e5;
  if (multiply_adds >= kSmallWork) return context.pool.run(count, run);
  for (int64_t task = 0; task < count; ++task) run(task, 0);
}

// range(operands..., begin, end) over a flat array of `count` elements.
template <class Range, class... Operands>
void split_flat(const Context& context, int64_t count, Range range, const Operands&... operands) {
  split(context, count, kFlatGrain,
        [&](int64_t begin, int64_t end, int) { range(operands..., begin, end); });
}

// Rows of the given width that make one piece.
inline int64_t row_grain(int64_t cols) { return std::max<int64_t>(1, kFlatGrain / (cols + 1)); }

}  // namespace naite::kernels::cpu
