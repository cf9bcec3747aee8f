// SPDX-License-Identifier: Apache-2.0
// What differential attention adds to attention: its lambda, and the subtraction of shared heads.
#include "tape/ops.h"

namespace naite::tape {

namespace {

// Inputs: q1, k1, q2, k2. Output: lambda.
struct DifferentialLambda {
  double initial;

  OpInfo infer(std::span<const TensorInfo> in) const {
    NAITE_CHECK(in[0].rows == 1 && in[0] == in[1] && in[0] == in[2] && in[0] == in[3],
                "differential_lambda: {}", describe(in));
    OpInfo info;
    info.name = "differential_lambda";
    info.uses.assign(4, Use::kVector);
    info.reads_inputs = 0b1111;
    info.outputs = {{wide_of(in[0].dtype), 1, 1}};
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(
        kernels::DifferentialLambda{f.out[0], {f.in[0], f.in[1], f.in[2], f.in[3]}, initial});
  }
  Status backward(Runner& k, const Frame& f) const {
    return k.submit(kernels::DifferentialLambdaBackward{
        {f.din[0], f.din[1], f.din[2], f.din[3]}, f.dout[0], {f.in[0], f.in[1], f.in[2], f.in[3]}});
  }
};

// Inputs: x, shared, factor.
struct SubtractShared {
  int64_t head_dim;

  OpInfo infer(std::span<const TensorInfo> in) const {
    NAITE_CHECK(in[0].rows == in[1].rows && in[0].cols % in[1].cols == 0 &&
                    in[1].cols % head_dim == 0 && in[2].rows == 1 && in[2].cols == 1,
                "subtract_shared: {}, heads of {}", describe(in), head_dim);
    OpInfo info;
    info.name = "subtract_shared";
    info.reads_inputs = 0b110;
    info.outputs = {in[0]};
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(kernels::SubtractShared{f.out[0], f.in[0], f.in[1], f.in[2], head_dim});
  }
  Status backward(Runner& k, const Frame& f) const {
    return k.submit(kernels::SubtractSharedBackward{f.din[0], f.din[1], f.din[2], f.dout[0],
                                                    f.in[1], f.in[2], head_dim, f.workspace});
  }
};

}  // namespace

Tensor differential_lambda(Tensor q1, Tensor k1, Tensor q2, Tensor k2, double initial) {
  return q1.tape->record(DifferentialLambda{initial}, {q1, k1, q2, k2})[0];
}

Tensor subtract_shared(Tensor x, Tensor shared, Tensor factor, int64_t head_dim) {
  return x.tape->record(SubtractShared{head_dim}, {x, shared, factor})[0];
}

}  // namespace naite::tape
