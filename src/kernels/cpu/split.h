// SPDX-License-Identifier: Apache-2.0
#pragma once
// Loops over the outputs of an operation, shared out to the team in pieces of a size that keeps
// every thread busy and the cost of handing out small.
#include <algorithm>
#include <cstdint>

#include "kernels/cpu/context.h"

namespace naite::kernels::cpu {

// body(begin, end, thread) over [0, count) in pieces of `grain`.
template <class Body>
void split(const Context& context, int64_t count, int64_t grain, Body body) {
  grain = std::max<int64_t>(1, grain);
  context.pool.run((count + grain - 1) / grain, [&](int64_t task, int thread) {
    body(task * grain, std::min(count, (task + 1) * grain), thread);
  });
}

// Elements of a flat array that make one piece: a multiple of every vector and cache line.
inline constexpr int64_t kFlatGrain = 16384;

// Rows of the given width that make one piece.
inline int64_t row_grain(int64_t cols) { return std::max<int64_t>(1, kFlatGrain / (cols + 1)); }

}  // namespace naite::kernels::cpu
