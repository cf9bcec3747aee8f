// SPDX-License-Identifier: Apache-2.0
#pragma once
// The oracle: every operation as its formula reads, one output at a time, on one thread. `Real` is
// float (exactly the contract's bits) or double (all views in double, to check derivatives).
// No workspace is used; the workspace functions answer 0.
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

// The column rule: row(t, part) adds this column's term of token t.
template <class Real, class Row>
Real column(int64_t tokens, Row row) {
  const int64_t blocks = (tokens + kColumnBlock - 1) / kColumnBlock;
  if (blocks == 0) return Real{0};
  const Real total = tree_sum<Real>(0, blocks, [&](int64_t block) {
    Real part = 0;
    const int64_t end = std::min(tokens, (block + 1) * kColumnBlock);
    for (int64_t t = block * kColumnBlock; t < end; ++t) part = row(t, part);
    return part;
  });
  return total + Real{0};
}

template <class Real>
class ReferenceKernels final : public Kernels {
 public:
  std::string name() const override { return sizeof(Real) == 4 ? "reference" : "reference double"; }

  void* allocate(int64_t bytes) override;
  void release(void* memory, int64_t bytes) override;
  void upload(void* to, const void* from_host, int64_t bytes) override;
  void download(void* to_host, const void* from, int64_t bytes) override;
  int64_t fixed_bytes() const override { return 0; }
  double measure_peak_flops(DType) override { return 0; }

  int64_t prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols) const override;
  void prepare(void* prepared, Use use, DType compute, View master) override;

  int64_t linear_workspace(DType, int64_t, int64_t, int64_t) const override { return 0; }
  void linear(std::span<const Projection> parts, View x, Workspace) override;
  void linear_backward_input(Gradient dx, std::span<const Projection> parts, Workspace) override;
  void linear_backward_weight(Gradient dw, View dy, View x, Workspace) override;
  void column_sum(Gradient dbias, View dy, Workspace) override;

  int64_t embed_workspace(int64_t, int64_t) const override { return 0; }
  void embed(View y, View ids, View table) override;
  void embed_backward(Gradient dtable, View dy, View ids, Workspace) override;

  int64_t rms_norm_workspace(int64_t, int64_t) const override { return 0; }
  void rms_norm(View y, View rstd, View sum, View x, View delta, View w,
                NormArguments arguments) override;
  void rms_norm_backward(Gradient dx, Gradient ddelta, Gradient dw, View dy, View dsum, View x,
                         View rstd, View w, NormArguments arguments, Workspace) override;

  void rope(View y, View x, View positions, View table, RopeArguments arguments) override;
  void rope_backward(Gradient dx, View dy, View positions, View table,
                     RopeArguments arguments) override;

  int64_t attention_workspace(DType, int64_t, int64_t, AttentionArguments) const override {
    return 0;
  }
  void attention(View y, View lse, View peaks, View q, View k, View v, View spans,
                 AttentionArguments arguments, Workspace) override;
  void attention_backward(Gradient dq, Gradient dk, Gradient dv, View dy, View y, View lse, View q,
                          View k, View v, View spans, AttentionArguments arguments,
                          Workspace) override;
  void store_rows(View cache, View x, View slots) override;

  void gated(View y, View gate, View up, Activation activation) override;
  void gated_backward(Gradient dgate, Gradient dup, View dy, View gate, View up,
                      Activation activation) override;

  int64_t poly_norm_gated_workspace(int64_t) const override { return 0; }
  void poly_norm_gated(View y, View rstd, View gate, View up, View w, View b,
                       double epsilon) override;
  void poly_norm_gated_backward(Gradient dgate, Gradient dup, Gradient dw, Gradient db, View dy,
                                View rstd, View gate, View up, View w, View b, Workspace) override;

  void differential_lambda(View lambda, LambdaVectors vectors, double initial) override;
  void differential_lambda_backward(LambdaGradients gradients, View dlambda,
                                    LambdaVectors vectors) override;
  int64_t subtract_shared_workspace(int64_t) const override { return 0; }
  void subtract_shared(View y, View x, View shared, View factor, int64_t head_dim) override;
  void subtract_shared_backward(Gradient dx, Gradient dshared, Gradient dfactor, View dy,
                                View shared, View factor, int64_t head_dim, Workspace) override;

  int64_t linear_cross_entropy_workspace(DType, int64_t, int64_t, int64_t, bool) const override {
    return 0;
  }
  void linear_cross_entropy(View loss, View x, View w, View targets, Workspace) override;
  void linear_cross_entropy_backward(View loss, Gradient dx, Gradient dw, View x, View w,
                                     View targets, View scale, Workspace) override;

  float sum_squares(View x) override;
  void add(View y, View a, View b) override;
  void zero(View y) override;
  void scale(View y, View x, float factor) override;
  void column_max(View y, View x) override;
  void adamw(View parameter, View gradient, View m, View v, AdamWArguments arguments) override;
  int64_t muon_workspace(int64_t, int64_t) const override { return 0; }
  void muon(View parameter, View gradient, View m, MuonArguments arguments, Workspace) override;
};

extern template class ReferenceKernels<float>;
extern template class ReferenceKernels<double>;

}  // namespace naite::kernels
