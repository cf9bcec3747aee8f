// SPDX-License-Identifier: Apache-2.0
// The output projection with its loss, 256 tokens at a time: their logits (fp32) are the only ones
// in memory, and the gradient of the logits takes their place. The weight's gradient continues its
// chains from one block of tokens to the next.
#include <algorithm>

#include "kernels/cpu/loss_rows.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/row_products.h"

namespace naite::kernels::cpu {

namespace {

constexpr int64_t kBlockTokens = 256;  // even: pairs of tokens never straddle two blocks

int64_t logits_stride(int64_t vocabulary) { return round_up(vocabulary, 16); }

int64_t logits_bytes(int64_t tokens, int64_t vocabulary) {
  return 4 * logits_stride(vocabulary) * std::min(kBlockTokens, tokens);
}

class TokenBlocks {
 public:
  TokenBlocks(const Context& context, View x, View w, View targets, Workspace workspace)
      : context_(context),
        x_(x),
        w_(w),
        targets_(targets),
        bf16_(x.dtype == DType::kBf16),
        stride_(logits_stride(w.rows)),
        logits_(reinterpret_cast<float*>(workspace.data())) {}

  bool next() {
    first_ += count_;
    count_ = std::min(kBlockTokens, x_.rows - first_);
    return count_ > 0;
  }

  // The block's logits, then e and the losses.
  void losses(View loss) {
    const Factor factor = {rows_of(x_), x_.cols, w_.as<const uint32_t>()};
    const RowProduct product = {
        .factors = {&factor, 1}, .columns = w_.rows, .start = {}, .out = {logits_, stride_, false}};
    multiply_rows(context_, {&product, 1}, count_, bf16_);
    const LossRows rows = loss_rows(context_.isa);
    context_.pool.run(count_, [&](int64_t t, int) {
      const LossRow row = rows.softmax(logits_ + t * stride_, w_.rows, target(t));
      loss.as<float>()[first_ + t] = row.loss;
      inverse_[t] = row.inverse;
    });
  }

  // e becomes the gradient of the logits.
  void gradient(View scale) {
    const LossRows rows = loss_rows(context_.isa);
    context_.pool.run(count_, [&](int64_t t, int) {
      rows.gradient(logits_ + t * stride_, w_.rows, target(t), inverse_[t],
                    scale.as<float>()[first_ + t], bf16_);
    });
  }

  void input_gradient(Gradient dx) {
    const uint32_t* transposed = w_.as<const uint32_t>() + panel_units(w_.rows, w_.cols, bf16_);
    const Factor factor = {logits_, w_.rows, transposed, gradient_stride()};
    const Block out = {rows_of(dx.view), dx.view.cols, dx.view.dtype == DType::kBf16};
    const RowProduct product = product_onto({&factor, 1}, dx, out);
    multiply_rows(context_, {&product, 1}, count_, bf16_);
  }

  void weight_gradient(Gradient dw) {
    multiply_columns(context_, {.a = logits_,
                                .a_columns = w_.rows,
                                .a_stride = gradient_stride(),
                                .b = rows_of(x_),
                                .b_columns = x_.cols,
                                .b_stride = x_.cols,
                                .rows = count_,
                                .is_bf16 = bf16_,
                                .out = dw.view.as<float>(),
                                .accumulate = dw.accumulate || first_ > 0});
  }

 private:
  int32_t target(int64_t t) const { return targets_.as<int32_t>()[first_ + t]; }
  int64_t gradient_stride() const { return bf16_ ? 2 * stride_ : stride_; }
  void* rows_of(const View& view) const {
    return view.as<char>() + first_ * view.cols * dtype_bytes(view.dtype);
  }

  const Context& context_;
  const View x_, w_, targets_;
  const bool bf16_;
  const int64_t stride_;
  float* const logits_;
  float inverse_[kBlockTokens];
  int64_t first_ = 0, count_ = 0;
};

}  // namespace

int64_t workspace_bytes(const Context&, const LinearCrossEntropy& op) {
  return logits_bytes(op.x.rows, op.w.rows);
}

int64_t workspace_bytes(const Context&, const LinearCrossEntropyBackward& op) {
  return logits_bytes(op.x.rows, op.w.rows);
}

void run(const Context& context, const LinearCrossEntropy& op) {
  TokenBlocks blocks(context, op.x, op.w, op.targets, op.workspace);
  while (blocks.next()) blocks.losses(op.loss);
}

void run(const Context& context, const LinearCrossEntropyBackward& op) {
  TokenBlocks blocks(context, op.x, op.w, op.targets, op.workspace);
  while (blocks.next()) {
    blocks.losses(op.loss);
    blocks.gradient(op.scale);
    if (op.dx.wanted) blocks.input_gradient(op.dx);
    if (op.dw.wanted) blocks.weight_gradient(op.dw);
  }
}

}  // namespace naite::kernels::cpu
