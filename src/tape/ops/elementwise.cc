// SPDX-License-Identifier: Apache-2.0
// Embedding, norms and gates.
#include "tape/ops.h"

namespace naite::tape {

namespace {

// Inputs: ids, table.
struct Embedding {
  OpInfo infer(std::span<const TensorInfo> in) const {
    NAITE_CHECK(in[0].dtype == DType::kI32 && in[0].cols == 1, "embedding: {}", describe(in));
    OpInfo info;
    info.name = "embedding";
    info.uses = {Use::kActivation, Use::kTable};
    info.reads_inputs = 0b01;
    info.outputs = {{wide_of(in[1].dtype), in[0].rows, in[1].cols}};
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(kernels::Embed{f.out[0], f.in[0], f.in[1]});
  }
  Status backward(Runner& k, const Frame& f) const {
    return k.submit(kernels::EmbedBackward{f.din[1], f.dout[0], f.in[0], f.workspace});
  }
};

// Inputs: x, weight, and with an add delta. Outputs: y, rstd, and with an add sum.
struct RmsNorm {
  kernels::NormArguments a;
  DType compute;
  bool with_add = false;

  OpInfo infer(std::span<const TensorInfo> in) const {
    const TensorInfo& x = in[0];
    NAITE_CHECK(in[1].rows == 1 && in[1].cols * a.heads == x.cols, "rms_norm: {}", describe(in));
    NAITE_CHECK(!with_add || (in[2].rows == x.rows && in[2].cols == x.cols && a.heads == 1),
                "add_rms_norm: {}", describe(in));
    OpInfo info;
    info.name = with_add ? "add_rms_norm" : "rms_norm";
    info.uses = {Use::kActivation, Use::kVector};
    info.reads_inputs = with_add ? 0b010 : 0b011;  // with an add, sum stands for x
    info.reads_outputs = with_add ? 0b110 : 0b010;
    const DType wide = wide_of(compute);
    info.outputs = {{compute, x.rows, x.cols}, {wide, x.rows, a.heads}};
    if (with_add) {
      info.uses.push_back(Use::kActivation);
      info.outputs.push_back({wide, x.rows, x.cols});
    }
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(kernels::RmsNorm{f.out[0], f.out[1], with_add ? f.out[2] : View{}, f.in[0],
                                     with_add ? f.in[2] : View{}, f.in[1], a});
  }
  Status backward(Runner& k, const Frame& f) const {
    return k.submit(kernels::RmsNormBackward{f.din[0], with_add ? f.din[2] : Gradient{}, f.din[1],
                                             f.dout[0], with_add ? f.dout[2] : View{},
                                             with_add ? f.out[2] : f.in[0], f.out[1], f.in[1], a,
                                             f.workspace});
  }
};

// Inputs: gate, up. What the activation is, the two kernels know.
template <class Forward, class Backward>
struct GatedUnit {
  OpInfo infer(std::span<const TensorInfo> in) const {
    NAITE_CHECK(in[0] == in[1], "{}: {}", Forward::kName, describe(in));
    OpInfo info;
    info.name = Forward::kName;
    info.reads_inputs = 0b11;
    info.outputs = {in[0]};
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(Forward{{f.out[0], f.in[0], f.in[1]}});
  }
  Status backward(Runner& k, const Frame& f) const {
    return k.submit(Backward{{f.din[0], f.din[1], f.dout[0], f.in[0], f.in[1]}});
  }
};
using Gated = GatedUnit<kernels::Gated, kernels::GatedBackward>;
using GeluGated = GatedUnit<kernels::GeluGated, kernels::GeluGatedBackward>;

// Inputs: gate, up, weight, bias. Outputs: y, rstd.
struct PolyNormGated {
  double epsilon;

  OpInfo infer(std::span<const TensorInfo> in) const {
    NAITE_CHECK(
        in[0] == in[1] && in[2].rows == 1 && in[2].cols == 3 && in[3].rows == 1 && in[3].cols == 1,
        "poly_norm_gated: {}", describe(in));
    OpInfo info;
    info.name = "poly_norm_gated";
    info.uses = {Use::kActivation, Use::kActivation, Use::kVector, Use::kVector};
    info.reads_inputs = 0b1111;
    info.reads_outputs = 0b10;
    info.outputs = {in[0], {wide_of(in[0].dtype), in[0].rows, 3}};
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(
        kernels::PolyNormGated{f.out[0], f.out[1], f.in[0], f.in[1], f.in[2], f.in[3], epsilon});
  }
  Status backward(Runner& k, const Frame& f) const {
    return k.submit(kernels::PolyNormGatedBackward{f.din[0], f.din[1], f.din[2], f.din[3],
                                                   f.dout[0], f.out[1], f.in[0], f.in[1], f.in[2],
                                                   f.in[3], f.workspace});
  }
};

}  // namespace

Tensor embedding(Tensor ids, Tensor table) {
  return ids.tape->record(Embedding{}, {ids, table})[0];
}

Tensor rms_norm(Tensor x, Tensor weight, double epsilon, int64_t heads, double scale) {
  return x.tape->record(RmsNorm{{epsilon, heads, scale}, x.tape->compute()}, {x, weight})[0];
}

Normed add_rms_norm(Tensor x, Tensor delta, Tensor weight, double epsilon) {
  const std::vector<Tensor> out =
      x.tape->record(RmsNorm{{.epsilon = epsilon}, x.tape->compute(), true}, {x, weight, delta});
  return {out[2], out[0]};
}

Tensor silu_mul(Tensor gate, Tensor up) { return gate.tape->record(Gated{}, {gate, up})[0]; }

Tensor gelu_mul(Tensor gate, Tensor up) { return gate.tape->record(GeluGated{}, {gate, up})[0]; }

Tensor poly_norm_mul(Tensor gate, Tensor up, Tensor weight, Tensor bias, double epsilon) {
  return gate.tape->record(PolyNormGated{epsilon}, {gate, up, weight, bias})[0];
}

}  // namespace naite::tape
