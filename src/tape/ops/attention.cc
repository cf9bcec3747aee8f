// SPDX-License-Identifier: Apache-2.0
// Attention, rotary positions, and the rows of a key/value cache.
#include "tape/ops.h"

namespace naite::tape {

namespace {

// Inputs: q, k, v, spans. Outputs: y, lse, and if asked for, peaks.
struct Attention {
  kernels::AttentionArguments a;
  bool with_peaks = false;

  OpInfo infer(std::span<const TensorInfo> in) const {
    const TensorInfo &q = in[0], &k = in[1], &v = in[2];
    NAITE_CHECK(a.num_heads % a.num_kv_heads == 0, "attention: {} heads for {} key/value heads",
                a.num_heads, a.num_kv_heads);
    NAITE_CHECK(q.cols == a.num_heads * a.head_dim && k.cols == a.num_kv_heads * a.head_dim &&
                    v.cols == a.num_kv_heads * a.value_dim && k.rows == v.rows &&
                    in[3] == (TensorInfo{DType::kI32, q.rows, 2}),
                "attention: {}", describe(in));
    OpInfo info;
    info.name = "attention";
    info.reads_inputs = 0b1111;
    info.reads_outputs = 0b11;
    const DType wide = wide_of(q.dtype);
    info.outputs = {{q.dtype, q.rows, a.num_heads * a.value_dim}, {wide, q.rows, a.num_heads}};
    if (with_peaks) info.outputs.push_back({wide, q.rows, a.num_heads});
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(kernels::Attention{f.out[0], f.out[1], with_peaks ? f.out[2] : View{}, f.in[0],
                                       f.in[1], f.in[2], f.in[3], a, f.workspace});
  }
  Status backward(Runner& k, const Frame& f) const {
    return k.submit(kernels::AttentionBackward{f.din[0], f.din[1], f.din[2], f.dout[0], f.out[0],
                                               f.out[1], f.in[0], f.in[1], f.in[2], f.in[3], a,
                                               f.workspace});
  }
};

// Input: x. A statistic that nothing differentiable reads, so its backward is never asked for.
struct ColumnMax {
  OpInfo infer(std::span<const TensorInfo> in) const {
    OpInfo info;
    info.name = "column_max";
    info.outputs = {{in[0].dtype, 1, in[0].cols}};
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(kernels::ColumnMax{f.out[0], f.in[0]});
  }
  Status backward(Runner&, const Frame&) const { return fail("column_max has no gradient"); }
};

// Inputs: x, positions, table.
struct Rope {
  kernels::RopeArguments a;

  OpInfo infer(std::span<const TensorInfo> in) const {
    const TensorInfo& x = in[0];
    NAITE_CHECK(x.cols == a.num_heads * a.head_dim && a.rotary_dim <= a.head_dim &&
                    a.rotary_dim % 2 == 0 && in[1] == (TensorInfo{DType::kI32, x.rows, 1}),
                "rope: {}", describe(in));
    OpInfo info;
    info.name = "rope";
    info.reads_inputs = 0b110;
    info.outputs = {x};
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(kernels::Rope{f.out[0], f.in[0], f.in[1], f.in[2], a});
  }
  Status backward(Runner& k, const Frame& f) const {
    return k.submit(kernels::RopeBackward{f.din[0], f.dout[0], f.in[1], f.in[2], a});
  }
};

// Inputs: x, positions, table. Outputs: signal, noise. The two turns write different heads of x's
// gradient, and together all of it.
struct RopeParted {
  kernels::RopeArguments signal, noise;

  OpInfo infer(std::span<const TensorInfo> in) const {
    const TensorInfo& x = in[0];
    NAITE_CHECK(signal.num_heads % signal.period == 0 &&
                    x.cols == signal.num_heads * signal.head_dim &&
                    signal.rotary_dim <= signal.head_dim && signal.rotary_dim % 2 == 0 &&
                    in[1] == (TensorInfo{DType::kI32, x.rows, 1}),
                "rope_parted: {}", describe(in));
    OpInfo info;
    info.name = "rope_parted";
    info.reads_inputs = 0b110;
    info.outputs = {{x.dtype, x.rows, signal.num_picked() * signal.head_dim},
                    {x.dtype, x.rows, noise.num_picked() * noise.head_dim}};
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    NAITE_TRY(k.submit(kernels::Rope{f.out[0], f.in[0], f.in[1], f.in[2], signal}));
    return k.submit(kernels::Rope{f.out[1], f.in[0], f.in[1], f.in[2], noise});
  }
  Status backward(Runner& k, const Frame& f) const {
    NAITE_TRY(k.submit(kernels::RopeBackward{f.din[0], f.dout[0], f.in[1], f.in[2], signal}));
    return k.submit(kernels::RopeBackward{f.din[0], f.dout[1], f.in[1], f.in[2], noise});
  }
};

// Inputs: state, x, slots. Writes into the state and passes it on, so that readers come after.
struct StoreRows {
  OpInfo infer(std::span<const TensorInfo> in) const {
    NAITE_CHECK(in[0].cols == in[1].cols && in[0].dtype == in[1].dtype &&
                    in[2] == (TensorInfo{DType::kI32, in[1].rows, 1}),
                "store_rows: {}", describe(in));
    OpInfo info;
    info.name = "store_rows";
    info.inference_only = true;
    return info;
  }
  Status forward(Runner& k, const Frame& f) const {
    return k.submit(kernels::StoreRows{f.in[0], f.in[1], f.in[2]});
  }
  Status backward(Runner&, const Frame&) const { return {}; }
};

}  // namespace

Tensor attention(Tensor q, Tensor k, Tensor v, Tensor spans,
                 kernels::AttentionArguments arguments) {
  arguments.cached = k.tape->buffers()[k.id].kind == Kind::kState;
  return q.tape->record(Attention{arguments}, {q, k, v, spans})[0];
}

Attended attention_with_peaks(Tensor q, Tensor k, Tensor v, Tensor spans,
                              kernels::AttentionArguments arguments) {
  const std::vector<Tensor> out = q.tape->record(Attention{arguments, true}, {q, k, v, spans});
  return {out[0], q.tape->record(ColumnMax{}, {out[2]})[0]};
}

Tensor rope(Tensor x, Tensor positions, Tensor table, int64_t num_heads) {
  const kernels::RopeArguments arguments{num_heads, x.cols() / num_heads, table.cols()};
  return x.tape->record(Rope{arguments}, {x, positions, table})[0];
}

Parted rope_parted(Tensor x, Tensor positions, Tensor table, int64_t num_heads, int64_t group) {
  kernels::RopeArguments signal{num_heads, x.cols() / num_heads, table.cols()};
  signal.period = group + 1;
  signal.picked = group;
  kernels::RopeArguments noise = signal;
  noise.first = group;
  noise.picked = 1;
  const std::vector<Tensor> out = x.tape->record(RopeParted{signal, noise}, {x, positions, table});
  return {out[0], out[1]};
}

Tensor store_rows(Tensor state, Tensor x, Tensor slots) {
  x.tape->record(StoreRows{}, {state, x, slots});
  return state;
}

}  // namespace naite::tape
