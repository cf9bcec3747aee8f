// SPDX-License-Identifier: Apache-2.0
#pragma once
// Row-major activations times prepared panels, and products over the rows themselves (weight
// gradients): how a product is cut into tasks, depth blocks and tiles.
#include <span>

#include "kernels/cpu/context.h"
#include "kernels/cpu/tiles.h"
#include "kernels/views.h"

namespace naite::kernels::cpu {

inline constexpr size_t kMaxParts = 8;

// Left operand [rows, depth] in the compute dtype, right operand as panels over the same depth.
// stride: elements from one row to the next, 0 for depth.
struct Factor {
  const void* a = nullptr;
  int64_t depth = 0;
  const uint32_t* panels = nullptr;
  int64_t stride = 0;
};

// out [rows, columns] = one chain over the depths of all factors in order, from `start`.
struct RowProduct {
  std::span<const Factor> factors;
  int64_t columns = 0;
  Block start;  // data null: +0; may be out
  Block out;
  Block bias = {};
};
inline RowProduct product_onto(std::span<const Factor> factors, const Gradient& to,
                               const Block& out) {
  return {factors, to.view.cols, to.accumulate ? out : Block{}, out};
}

// All products share the row count; each has its own factors and output.
void multiply_rows(const Context& context, std::span<const RowProduct> products, int64_t rows,
                   bool is_bf16);

// Whether every product of nonzero numbers with these exponents is a normal fp32 number.
bool products_stay_normal(ExponentRange a, ExponentRange b);

// out [a_columns, b_columns] fp32 (+)= a' b over `rows` rows; strides in elements.
struct ColumnProduct {
  const void* a = nullptr;
  int64_t a_columns = 0, a_stride = 0;
  const void* b = nullptr;
  int64_t b_columns = 0, b_stride = 0;
  int64_t rows = 0;
  bool is_bf16 = false;
  float* out = nullptr;
  bool accumulate = false;
};
void multiply_columns(const Context& context, const ColumnProduct& product);

}  // namespace naite::kernels::cpu
