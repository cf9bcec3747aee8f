// SPDX-License-Identifier: Apache-2.0
// Attention: shares of the product peak, counting the two products of the forward pass and the four
// of the backward pass over pairs of a query and a key that it sees (the backward pass executes a
// fifth, the scores, again). And decoding, whose ceiling is reading the cache.
#include <fmt/format.h>

#include "bench/measure.h"

namespace naite::bench {

namespace {

using kernels::AttentionArguments;
using kernels::DType;
using kernels::Gradient;
using kernels::View;

struct Shape {
  int64_t tokens, context;  // tokens in documents of `context`
  AttentionArguments a;
};

AttentionArguments heads(int64_t query, int64_t kv, int64_t width, int64_t value) {
  return {query, kv, width, value, 1.0 / 8, 0};
}

double visible_pairs(const Shape& s) {
  const auto n = static_cast<double>(s.context);
  return static_cast<double>(s.tokens) / n * static_cast<double>(s.a.num_heads) * n * (n + 1) / 2;
}

View integers(Buffers& buffers, const std::vector<int32_t>& values, int64_t cols) {
  const View view = buffers.zeros(static_cast<int64_t>(values.size()) / cols, cols, DType::kI32);
  std::copy(values.begin(), values.end(), view.as<int32_t>());
  return view;
}

enum class Pass : uint8_t { kForward, kBackward, kBoth };

void train(benchmark::State& state, std::string_view isa, DType compute, Instruction ceiling,
           const Shape& s, Pass pass) {
  kernels::Kernels& k = machine().kernels(isa);
  Buffers buffers(k);
  const AttentionArguments& a = s.a;
  auto activation = [&](int64_t heads, int64_t width) {
    return buffers.random(s.tokens, heads * width, compute, 2);
  };
  const View query = activation(a.num_heads, a.head_dim);
  const View key = activation(a.num_kv_heads, a.head_dim);
  const View value = activation(a.num_kv_heads, a.value_dim);
  const View y = activation(a.num_heads, a.value_dim), dy = activation(a.num_heads, a.value_dim);
  const View lse = buffers.zeros(s.tokens, a.num_heads, DType::kF32);
  const Gradient dq{activation(a.num_heads, a.head_dim), true, false};
  const Gradient dk{activation(a.num_kv_heads, a.head_dim), true, false};
  const Gradient dv{activation(a.num_kv_heads, a.value_dim), true, false};
  std::vector<int32_t> ends;
  for (int64_t t = 0; t < s.tokens; ++t) {
    ends.push_back(static_cast<int32_t>(t / s.context * s.context));
    ends.push_back(static_cast<int32_t>(t + 1));
  }
  const View spans = integers(buffers, ends, 2);
  const auto forward_call =
      buffers.ready(kernels::Attention{y, lse, {}, query, key, value, spans, a});
  const auto backward_call = buffers.ready(
      kernels::AttentionBackward{dq, dk, dv, dy, y, lse, query, key, value, spans, a});
  submit(k, forward_call);
  const double forward = visible_pairs(s) * 2 * static_cast<double>(a.head_dim + a.value_dim);
  const double flops = forward * (pass == Pass::kForward ? 1 : pass == Pass::kBackward ? 2 : 3);
  measure_flops(state, ceiling, flops, [&] {
    if (pass != Pass::kBackward) submit(k, forward_call);
    if (pass != Pass::kForward) submit(k, backward_call);
  });
}

// `batch` sequences of `context` keys in one cache, one query each.
void decode(benchmark::State& state, int64_t batch, int64_t context, const AttentionArguments& a) {
  kernels::Kernels& k = machine().kernels("");
  Buffers buffers(k);
  const int64_t capacity = batch * context;
  const View query = buffers.random(batch, a.num_heads * a.head_dim, DType::kBf16, 2);
  const View key = buffers.random(capacity, a.num_kv_heads * a.head_dim, DType::kBf16, 2);
  const View value = buffers.random(capacity, a.num_kv_heads * a.value_dim, DType::kBf16, 2);
  const View y = buffers.zeros(batch, a.num_heads * a.value_dim, DType::kBf16);
  const View lse = buffers.zeros(batch, a.num_heads, DType::kF32);
  std::vector<int32_t> ends;
  for (int64_t t = 0; t < batch; ++t) {
    ends.push_back(static_cast<int32_t>(t * context));
    ends.push_back(static_cast<int32_t>((t + 1) * context));
  }
  const View spans = integers(buffers, ends, 2);
  AttentionArguments arguments = a;
  arguments.cached = true;
  const auto call =
      buffers.ready(kernels::Attention{y, lse, {}, query, key, value, spans, arguments});
  const auto bytes = static_cast<double>(key.bytes() + value.bytes());
  measure_bytes(state, 1, 0, false, bytes, [&] { submit(k, call); });
}

}  // namespace

void register_attention_rows() {
  const struct {
    const char* name;
    Shape shape;
  } shapes[] = {
      {"width 64 context 512", {4096, 512, heads(6, 6, 64, 64)}},
      {"width 64 context 2048", {4096, 2048, heads(6, 6, 64, 64)}},
      {"width 64 context 8192", {8192, 8192, heads(6, 6, 64, 64)}},
      {"width 128 context 512", {4096, 512, heads(8, 2, 128, 128)}},
      {"width 128 context 2048", {4096, 2048, heads(8, 2, 128, 128)}},
      {"width 128 context 8192", {8192, 8192, heads(4, 2, 128, 128)}},
      {"width 64 values 128 context 2048", {4096, 2048, heads(6, 6, 64, 128)}},
  };
  const struct {
    const char* name;
    Pass pass;
  } passes[] = {{"forward", Pass::kForward},
                {"backward", Pass::kBackward},
                {"forward+backward", Pass::kBoth}};
  for (const auto& [shape_name, shape] : shapes)
    for (const auto& [pass_name, pass] : passes)
      add_row(fmt::format("attention bf16 {} {}", shape_name, pass_name),
              [shape = shape, pass = pass](benchmark::State& state) {
                train(state, "", DType::kBf16, Instruction::kBf16Dot, shape, pass);
              });
  const Shape shape = shapes[1].shape;
  add_row("attention fp32 width 64 context 2048 forward+backward",
          [shape](benchmark::State& state) {
            train(state, "", DType::kF32, Instruction::kFma512, shape, Pass::kBoth);
          });
  for (const DType compute : {DType::kF32, DType::kBf16})
    add_row(fmt::format("attention {} avx2 width 64 context 2048 forward+backward",
                        kernels::dtype_name(compute)),
            [shape, compute](benchmark::State& state) {
              train(state, "avx2", compute, Instruction::kFma256, shape, Pass::kBoth);
            });
  for (const int64_t batch : {1, 8, 64})
    add_row(fmt::format("attention bf16 decode batch {}", batch), [batch](benchmark::State& state) {
      decode(state, batch, batch == 1 ? 65536 : 262144 / batch, heads(16, 4, 128, 128));
    });
}

}  // namespace naite::bench
