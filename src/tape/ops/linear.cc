// SPDX-License-Identifier: Apache-2.0
// Linear layers, logits, and the output projection with its loss.
#include "tape/ops.h"

namespace naite::tape {

namespace {

using kernels::Projection;

constexpr int kWeightsMax = 8;  // parts of one linear operation; masks have room for 8 with biases

// Inputs: x, then for every part its matrix and, if has_bias, its bias.
struct Linear {
  std::vector<bool> has_bias;
  bool wide = false;  // results in fp32

  OpInfo infer(std::span<const TensorInfo> in) const {
    const TensorInfo& x = in[0];
    NAITE_CHECK(has_bias.size() <= kWeightsMax, "linear: {} weights at once", has_bias.size());
    OpInfo info;
    info.name = wide ? "logits" : "linear";
    info.uses = {Use::kActivation};
    info.reads_inputs = 1;
    for (size_t part = 0, j = 1; part < has_bias.size(); ++part) {
      NAITE_CHECK(in[j].cols == x.cols, "linear: {}", describe(in));
      const int64_t out = in[j].rows;
      info.uses.push_back(Use::kMatrix);
      info.reads_inputs |= 1u << j++;
      if (has_bias[part]) {
        NAITE_CHECK(in[j].rows == 1 && in[j].cols == out, "linear: {}", describe(in));
        info.uses.push_back(Use::kVector);
        ++j;
      }
      const DType dtype = wide && x.dtype == DType::kBf16 ? DType::kF32 : x.dtype;
      info.outputs.push_back({dtype, x.rows, out});
    }
    info.inference_only = wide;
    return info;
  }

  // The parts of a frame, with `y` or its gradient. Fixed storage: replay allocates nothing.
  struct Parts {
    Projection parts[kWeightsMax];
    int matrix[kWeightsMax], bias[kWeightsMax];  // input indices; -1: no bias
    size_t count = 0;
    std::span<const Projection> span() const { return {parts, count}; }
  };
  Parts parts(const Frame& f, const std::vector<View>& y) const {
    Parts out;
    int j = 1;
    for (size_t i = 0; i < has_bias.size(); ++i) {
      out.matrix[i] = j++;
      out.bias[i] = has_bias[i] ? j++ : -1;
      out.parts[i] = {y[i], f.in[out.matrix[i]], has_bias[i] ? f.in[out.bias[i]] : View{}};
    }
    out.count = has_bias.size();
    return out;
  }

  Status forward(Runner& k, const Frame& f) const {
    return k.submit(kernels::Linear{parts(f, f.out).span(), f.in[0], f.workspace});
  }

  // Weight gradients first: they read dy and x while both are warm, then x's gradient is written.
  Status backward(Runner& k, const Frame& f) const {
    const Parts p = parts(f, f.dout);
    for (size_t i = 0; i < p.count; ++i) {
      NAITE_TRY(k.submit(
          kernels::LinearBackwardWeight{f.din[p.matrix[i]], f.dout[i], f.in[0], f.workspace}));
      if (p.bias[i] >= 0)
        NAITE_TRY(k.submit(kernels::ColumnSum{f.din[p.bias[i]], f.dout[i], f.workspace}));
    }
    if (f.din[0].wanted)
      NAITE_TRY(k.submit(kernels::LinearBackwardInput{f.din[0], p.span(), f.workspace}));
    return {};
  }
};

std::vector<Tensor> record_linear(Tensor x, const std::vector<Weight>& weights, bool wide) {
  Linear op;
  op.wide = wide;
  std::vector<Tensor> inputs{x};
  for (const Weight& weight : weights) {
    inputs.push_back(weight.matrix);
    op.has_bias.push_back(weight.bias.tape != nullptr);
    if (op.has_bias.back()) inputs.push_back(weight.bias);
  }
  return x.tape->record(op, inputs);
}

// Inputs: x, head, targets, and in training scale.
struct LinearCrossEntropy {
  OpInfo infer(std::span<const TensorInfo> in) const {
    const TensorInfo &x = in[0], &head = in[1];
    NAITE_CHECK(head.cols == x.cols && in[2] == (TensorInfo{DType::kI32, x.rows, 1}) &&
                    (in.size() == 3 || (in[3].rows == x.rows && in[3].cols == 1)),
                "linear_cross_entropy: {}", describe(in));
    OpInfo info;
    info.name = "linear_cross_entropy";
    info.uses.assign(in.size(), Use::kActivation);
    info.uses[1] = Use::kMatrix;
    info.reads_inputs = 0b1111;
    info.is_loss = true;
    info.inference_only = in.size() == 3;
    info.outputs = {{wide_of(x.dtype), x.rows, 1}};
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(kernels::LinearCrossEntropy{f.out[0], f.in[0], f.in[1], f.in[2], f.workspace});
  }
  Status backward(Runner& k, const Frame& f) const {
    return k.submit(kernels::LinearCrossEntropyBackward{f.out[0], f.din[0], f.din[1], f.in[0],
                                                        f.in[1], f.in[2], f.in[3], f.workspace});
  }
};

}  // namespace

std::vector<Tensor> linear(Tensor x, const std::vector<Weight>& weights) {
  return record_linear(x, weights, false);
}

Tensor logits(Tensor x, Tensor head) { return record_linear(x, {{head}}, true)[0]; }

Tensor linear_cross_entropy(Tensor x, Tensor head, Tensor targets, Tensor scale) {
  return x.tape->record(LinearCrossEntropy{}, {x, head, targets, scale})[0];
}

Tensor token_losses(Tensor x, Tensor head, Tensor targets) {
  return x.tape->record(LinearCrossEntropy{}, {x, head, targets})[0];
}

}  // namespace naite::tape
