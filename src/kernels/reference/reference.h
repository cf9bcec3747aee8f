// SPDX-License-Identifier: Apache-2.0
#pragma once
// The oracle: every operation as its formula reads, one output at a time, on one thread. `Real` is
// float (exactly the contract's bits) or double (all views in double, to check derivatives).
// No workspace is used.
#include <algorithm>

#include "kernels/kernels.h"
#include "kernels/numerics.h"

namespace naite::kernels {

// Element access with the conversions of the contract.
template <class Real>
Real load(const View& view, int64_t index) {
  switch (view.dtype) {
    case DType::kF32:
      return static_cast<Real>(view.as<float>()[index]);
    case DType::kBf16:
      return static_cast<Real>(bf16_to_float(view.as<uint16_t>()[index]));
    case DType::kF64:
      return static_cast<Real>(view.as<double>()[index]);
    case DType::kI32:
      break;
  }
  NAITE_CHECK(false, "load of {}", dtype_name(view.dtype));
}

template <class Real>
Real load(const View& view, int64_t row, int64_t col) {
  return load<Real>(view, row * view.cols + col);
}

template <class Real>
void store(const View& view, int64_t index, Real value) {
  switch (view.dtype) {
    case DType::kF32:
      view.as<float>()[index] = static_cast<float>(value);
      return;
    case DType::kBf16:
      view.as<uint16_t>()[index] = float_to_bf16(static_cast<float>(value));
      return;
    case DType::kF64:
      view.as<double>()[index] = static_cast<double>(value);
      return;
    case DType::kI32:
      break;
  }
  NAITE_CHECK(false, "store to {}", dtype_name(view.dtype));
}

template <class Real>
void store(const View& view, int64_t row, int64_t col, Real value) {
  store<Real>(view, row * view.cols + col, value);
}

// The value after being stored in `dtype` and read back.
template <class Real>
Real rounded(DType dtype, Real value) {
  if (dtype != DType::kBf16) return value;
  return static_cast<Real>(bf16_to_float(float_to_bf16(static_cast<float>(value))));
}

// Writes or adds a finished value.
template <class Real>
void put(const Gradient& gradient, int64_t index, Real value) {
  if (!gradient.wanted) return;
  const Real old = gradient.accumulate ? load<Real>(gradient.view, index) : Real{0};
  store<Real>(gradient.view, index, gradient.accumulate ? old + value : value);
}

// A product chain that is fed element by element: ascending for fp32 operands, odd before even
// within a pair for bf16 operands.
template <class Real>
class Chain {
 public:
  Chain(DType operands, Real start) : sum_(start), pairwise_(operands == DType::kBf16) {}

  void feed(Real a, Real b) {
    if (!pairwise_) {
      sum_ = fma(a, b, sum_);
    } else if (!has_even_) {
      even_a_ = a;
      even_b_ = b;
      has_even_ = true;
    } else {
      sum_ = fma(a, b, sum_);
      sum_ = fma(even_a_, even_b_, sum_);
      has_even_ = false;
    }
  }
  // Ends a pair that has no odd element: the missing one is +0.
  void pad() {
    if (has_even_) feed(Real{0}, Real{0});
  }
  Real finish() {
    pad();
    return sum_ + Real{0};
  }

 private:
  Real sum_, even_a_{}, even_b_{};
  bool pairwise_, has_even_ = false;
};

// A product: one chain for every piece of k, joined by the tree. feed(chain, piece) feeds the terms
// of one piece; the first chain starts at `start`.
template <class Real, class Feed>
Real product(const Arithmetic& arithmetic, DType operands, Real start, Feed feed) {
  return tree_sum<Real>(0, arithmetic.pieces, [&](int64_t piece) {
    Chain<Real> chain(operands, piece == 0 ? start : Real{0});
    feed(chain, piece);
    return chain.finish();
  });
}

// The sum rule over a width that ranks may divide: a sum for every piece, joined by the tree.
template <class Real, class Term>
Real sum_in_pieces(const Arithmetic& arithmetic, int64_t count, int64_t unit, Term term) {
  return tree_sum<Real>(0, arithmetic.pieces, [&](int64_t piece) {
    const Range own = arithmetic.piece(piece, count, unit);
    return sum<Real>(own.end - own.begin,
                     [&](int64_t i, Real lane) { return term(own.begin + i, lane); });
  });
}

// The column rule: row(t, part) adds this column's term of token t.
template <class Real, class Row>
Real column(int64_t tokens, Row row) {
  const int64_t blocks = column_blocks(tokens);
  if (blocks == 0) return Real{0};
  const Real total = tree_sum<Real>(0, blocks, [&](int64_t block) {
    Real part = 0;
    const int64_t end = std::min(tokens, (block + 1) * kColumnBlock);
    for (int64_t t = block * kColumnBlock; t < end; ++t) part = row(t, part);
    return part;
  });
  return total + Real{0};
}

// One function for every operation of the list.
template <class Real>
struct Reference {
  const Arithmetic arithmetic;
#define NAITE_RUN(Op) run(const Op& op) const
  void NAITE_OPERATIONS(NAITE_RUN);
#undef NAITE_RUN
};

// Stands behind the definition of Reference<Real>::run(const Op&) const.
#define NAITE_REFERENCE(Op)                                \
  template void Reference<float>::run(const Op& op) const; \
  template void Reference<double>::run(const Op& op) const;

}  // namespace naite::kernels
