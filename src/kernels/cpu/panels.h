// SPDX-License-Identifier: Apache-2.0
#pragma once
// The private layout of a prepared matrix (Use::kMatrix): the weight [out, in] twice, as panels of
// outputs over inputs for y = x w', then as panels of inputs over outputs for dx = dy w.
//
//   panels of N columns over a depth of K: units = fp32 elements, or bf16 pairs (K odd: the last
//   pair's odd element is +0). Panel j holds columns [j W, j W + width): W = panel_columns of the
//   tile set, width = W, or for the last panel what is left, rounded up to 16 and padded with +0.
//   Panel j begins at unit j W units(K) and is laid out [units(K)][width].
#include <algorithm>
#include <cstdint>

#include "kernels/cpu/split.h"

namespace naite::kernels::cpu {

inline int64_t depth_units(int64_t depth, bool is_bf16) {
  return is_bf16 ? (depth + 1) / 2 : depth;
}
inline int64_t panel_units(int64_t columns, int64_t depth, bool is_bf16) {
  return round_up(columns, 16) * depth_units(depth, is_bf16);
}

struct Panel {
  int64_t first_column, columns, width;
};
inline Panel panel_at(int64_t index, int64_t all_columns, int64_t panel_columns) {
  const int64_t first = index * panel_columns;
  const int64_t columns = std::min(panel_columns, all_columns - first);
  return {first, columns, round_up(columns, 16)};
}

}  // namespace naite::kernels::cpu
