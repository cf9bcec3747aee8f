// SPDX-License-Identifier: Apache-2.0
#pragma once
// THE closed list of operations on tensor memory (NAITE_OPERATIONS, at the end), whose formulas
// stand family by family in operations/. An operation is one plain struct: its views, its numbers,
// and one enumeration of its operands, from which follow the checks of debug builds, the bytes of a
// profile, and what a test has to cover. Every backend implements all of them; reference/ is the
// slow, obvious twin whose bits the others must reproduce.
//
// Shape legend, used in the whole project:
//   B rows of a batch   T tokens (here: all tokens of a micro-batch, B rows flattened)
//   D hidden width      H query heads (K of them carry keys and values)
//   E experts           F feed-forward width      V vocabulary
// All views are dense and row-major [rows, cols]; token t is row t.
//
// Order of arithmetic (docs/NUMERICS.md has the whole contract; this is `chain-1`, and arithmetic.h
// has the others):
//   product   fp32 operands: acc = fma(a[k], b[k], acc), k ascending, one chain per output element.
//             bf16 operands: for every pair (2i, 2i+1) the odd element first, then the even one; an
//             odd count is padded with +0; accumulation in fp32. A chain starts at +0, or at the
//             stored value when a gradient accumulates; a finished chain gets `+ 0.0f`.
//   sum       blocks of 4096 consecutive elements; element i of a block goes to lane i mod 16
//             (fma(a, b, lane) for sums of products); lanes join as i += i+8, +4, +2, +1; blocks
//             join by a binary tree over the block index (neighbours first; an odd one passes
//             through). A finished sum gets `+ 0.0f`.
//   column    a sum over tokens for each column: tokens ascending in blocks of 64 consecutive
//             tokens, every block from +0, blocks joined by the same tree, `+ 0.0f`; when the
//             gradient accumulates, the finished sum is then added to the stored value.
//   max       a > b ? a : b, a being the running value.
//   Values are rounded to a view's dtype when they are stored in it, and only then.
#include "kernels/operations/attention.h"
#include "kernels/operations/differential.h"
#include "kernels/operations/elementwise.h"
#include "kernels/operations/linear.h"
#include "kernels/operations/update.h"

namespace naite::kernels {

// OP(A), OP(B), ...: what follows from the list is made by macros that it is handed, such as the
// declarations of a backend, so that a backend that lacks an operation does not build. Each family
// names its own.
#define NAITE_OPERATIONS(OP)                                                                     \
  NAITE_LINEAR_OPERATIONS(OP), NAITE_ELEMENTWISE_OPERATIONS(OP), NAITE_ATTENTION_OPERATIONS(OP), \
      NAITE_DIFFERENTIAL_OPERATIONS(OP), NAITE_UPDATE_OPERATIONS(OP)

}  // namespace naite::kernels
