// SPDX-License-Identifier: Apache-2.0
// Everything that memory paces, against a stream with the same number of arrays read and written.
// The arrays of a row are together at least four times as large as a 32 MiB cache.
#include <fmt/format.h>

#include "bench/measure.h"

namespace naite::bench {

namespace {

using kernels::DType;
using kernels::Gradient;
using kernels::View;

constexpr int64_t kTokens = 32768;

Gradient write(const View& view) { return {view, true, false}; }

double total(std::initializer_list<View> views) {
  double bytes = 0;
  for (const View& view : views) bytes += static_cast<double>(view.bytes());
  return bytes;
}

View token_positions(Buffers& buffers, int64_t tokens) {
  const View positions = buffers.zeros(tokens, 1, DType::kI32);
  for (int64_t t = 0; t < tokens; ++t) positions.as<int32_t>()[t] = static_cast<int32_t>(t % 2048);
  return positions;
}

void norm(benchmark::State& state, DType compute, bool backward) {
  kernels::Kernels& k = machine().kernels("");
  Buffers b(k);
  constexpr int64_t kWidth = 768;
  const View x = b.random(kTokens, kWidth, DType::kF32),
             sum = b.zeros(kTokens, kWidth, DType::kF32);
  const View delta = b.random(kTokens, kWidth, compute), y = b.zeros(kTokens, kWidth, compute);
  const View w = b.random(1, kWidth, compute), rstd = b.zeros(kTokens, 1, DType::kF32);
  const View dw = b.zeros(1, kWidth, DType::kF32);
  submit(k, kernels::RmsNorm{y, rstd, sum, x, delta, w, {}});
  if (!backward)
    return measure_bytes(state, 2, 2, false, total({x, delta, sum, y}), [&] {
      submit(k, kernels::RmsNorm{y, rstd, sum, x, delta, w, {}});
    });
  // Reads dy (here y), dsum (x) and the normed input (sum); writes dx and ddelta.
  const View dx = b.zeros(kTokens, kWidth, DType::kF32);
  measure_bytes(
      state, 3, 2, false, total({y, x, sum, dx, delta}),
      [&, op = b.ready(kernels::RmsNormBackward{
              write(dx), write(delta), write(dw), y, x, sum, rstd, w, {}})] { submit(k, op); });
}

void rope(benchmark::State& state, DType compute, bool backward) {
  kernels::Kernels& k = machine().kernels("");
  Buffers b(k);
  const kernels::RopeArguments arguments{12, 64, 64};
  const View x = b.random(2 * kTokens, 768, compute), y = b.zeros(2 * kTokens, 768, compute);
  const View table = b.random(2048, 64, DType::kF32), positions = token_positions(b, 2 * kTokens);
  measure_bytes(state, 1, 1, false, total({x, y}), [&] {
    if (backward) return submit(k, kernels::RopeBackward{write(y), x, positions, table, arguments});
    submit(k, kernels::Rope{y, x, positions, table, arguments});
  });
}

void gated(benchmark::State& state, DType compute, bool backward) {
  kernels::Kernels& k = machine().kernels("");
  Buffers b(k);
  constexpr int64_t kWidth = 1024;
  const View gate = b.random(kTokens, kWidth, compute, 4), up = b.random(kTokens, kWidth, compute);
  const View y = b.random(kTokens, kWidth, compute);
  if (!backward)
    return measure_bytes(state, 2, 1, false, total({gate, up, y}), [&] {
      submit(k, kernels::Gated{{y, gate, up}});
    });
  const View dgate = b.zeros(kTokens, kWidth, compute), dup = b.zeros(kTokens, kWidth, compute);
  measure_bytes(state, 3, 2, false, total({gate, up, y, dgate, dup}), [&] {
    submit(k, kernels::GatedBackward{{write(dgate), write(dup), y, gate, up}});
  });
}

void poly_norm(benchmark::State& state, DType compute, bool backward) {
  kernels::Kernels& k = machine().kernels("");
  Buffers b(k);
  constexpr int64_t kWidth = 1024;
  const View gate = b.random(kTokens, kWidth, compute, 4), up = b.random(kTokens, kWidth, compute);
  const View y = b.random(kTokens, kWidth, compute), rstd = b.zeros(kTokens, 3, DType::kF32);
  const View w = b.random(1, 3, compute), bias = b.random(1, 1, compute);
  submit(k, kernels::PolyNormGated{y, rstd, gate, up, w, bias, 1e-6});
  if (!backward)
    return measure_bytes(state, 2, 1, false, total({gate, up, y}), [&] {
      submit(k, kernels::PolyNormGated{y, rstd, gate, up, w, bias, 1e-6});
    });
  const View dgate = b.zeros(kTokens, kWidth, compute), dup = b.zeros(kTokens, kWidth, compute);
  const View dw = b.zeros(1, 3, DType::kF32), db = b.zeros(1, 1, DType::kF32);
  measure_bytes(state, 3, 2, false, total({gate, up, y, dgate, dup}),
                [&, op = b.ready(kernels::PolyNormGatedBackward{write(dgate), write(dup), write(dw),
                                                                write(db), y, rstd, gate, up, w,
                                                                bias})] { submit(k, op); });
}

// Four signal heads to a noise head, as wide as two heads of 64.
void subtract_shared(benchmark::State& state, DType compute, bool backward) {
  kernels::Kernels& k = machine().kernels("");
  Buffers b(k);
  constexpr int64_t kHead = 128, kShared = 2 * kHead, kWidth = 4 * kShared;
  const View x = b.random(kTokens, kWidth, compute), y = b.zeros(kTokens, kWidth, compute);
  const View shared = b.random(kTokens, kShared, compute), factor = b.random(1, 1, DType::kF32);
  if (!backward)
    return measure_bytes(state, 1, 1, false, total({x, shared, y}), [&] {
      submit(k, kernels::SubtractShared{y, x, shared, factor, kHead});
    });
  const View dshared = b.zeros(kTokens, kShared, compute), dfactor = b.zeros(1, 1, DType::kF32);
  measure_bytes(
      state, 1, 1, false, total({x, shared, y, dshared}),
      [&, op = b.ready(kernels::SubtractSharedBackward{write(y), write(dshared), write(dfactor), x,
                                                       shared, factor, kHead})] { submit(k, op); });
}

// A few hundred numbers: what the call itself costs.
void differential_lambda(benchmark::State& state, DType compute, bool backward) {
  kernels::Kernels& k = machine().kernels("");
  Buffers b(k);
  constexpr int64_t kWidth = 128;
  const auto vector = [&] { return b.random(1, kWidth, compute, 0.1); };
  const kernels::LambdaVectors v{vector(), vector(), vector(), vector()};
  const View lambda = b.zeros(1, 1, DType::kF32);
  const auto gradient = [&] { return write(b.zeros(1, kWidth, DType::kF32)); };
  const kernels::LambdaGradients g{gradient(), gradient(), gradient(), gradient()};
  measure_bytes(state, 1, backward ? 1 : 0, false, 4 * total({v.q1}), [&] {
    if (backward) return submit(k, kernels::DifferentialLambdaBackward{g, lambda, v});
    submit(k, kernels::DifferentialLambda{lambda, v, 0.2});
  });
}

void embed(benchmark::State& state, DType compute, bool backward) {
  kernels::Kernels& k = machine().kernels("");
  Buffers b(k);
  constexpr int64_t kVocabulary = 65536, kWidth = 768;
  const View ids = b.random(kTokens, 1, DType::kI32, kVocabulary);
  const View table = b.random(kVocabulary, kWidth, backward ? DType::kF32 : compute);
  const View y = b.random(kTokens, kWidth, DType::kF32);
  if (!backward) {
    const double bytes = total({y}) * (compute == DType::kBf16 ? 1.5 : 2);
    return measure_bytes(state, 1, 1, false, bytes, [&] {
      submit(k, kernels::Embed{y, ids, table});
    });
  }
  measure_bytes(state, 1, 1, false, total({y, table}),
                [&, op = b.ready(kernels::EmbedBackward{write(table), y, ids})] { submit(k, op); });
}

void column_sum(benchmark::State& state, DType compute) {
  kernels::Kernels& k = machine().kernels("");
  Buffers b(k);
  const View dy = b.random(kTokens, 3072, compute), bias = b.zeros(1, 3072, DType::kF32);
  measure_bytes(state, 1, 0, false, total({dy}),
                [&, op = b.ready(kernels::ColumnSum{write(bias), dy})] { submit(k, op); });
}

void update(benchmark::State& state, std::string_view name) {
  kernels::Kernels& k = machine().kernels("");
  Buffers b(k);
  constexpr int64_t kRows = 32768, kCols = 1024;
  auto array = [&] { return b.random(kRows, kCols, DType::kF32); };
  const View x = array();
  const View norm = b.zeros(1, 1, DType::kF32);
  if (name == "sum_squares")
    return measure_bytes(state, 1, 0, false, total({x}), [&] {
      submit(k, kernels::SumSquares{norm, x});
    });
  if (name == "zero")
    return measure_bytes(state, 0, 1, false, total({x}), [&] { submit(k, kernels::Zero{x}); });
  const View y = array();
  if (name == "add")
    return measure_bytes(state, 2, 1, true, 1.5 * total({x, y}), [&] {
      submit(k, kernels::Add{{y, y, x}});
    });
  const View m = b.zeros(kRows, kCols, DType::kF32), v = b.zeros(kRows, kCols, DType::kF32);
  const kernels::AdamWArguments arguments{1,  0.9f, 0.1f,  0.95f, 0.05f,
                                          10, 20,   1e-8f, 1e-3f, 0.9999f};
  measure_bytes(state, 4, 3, true, 1.75 * total({x, y, m, v}), [&] {
    submit(k, kernels::AdamW{x, y, m, v, arguments});
  });
}

}  // namespace

void register_elementwise_rows() {
  const struct {
    const char* name;
    void (*row)(benchmark::State&, DType, bool);
  } rows[] = {{"norm", norm},
              {"rope", rope},
              {"gated", gated},
              {"poly_norm", poly_norm},
              {"subtract_shared", subtract_shared},
              {"differential_lambda", differential_lambda},
              {"embed", embed}};
  for (const DType compute : {DType::kBf16, DType::kF32}) {
    const std::string dtype(kernels::dtype_name(compute));
    for (const bool backward : {false, true}) {
      const char* pass = backward ? "backward" : "forward";
      for (const auto& [name, row] : rows)
        add_row(fmt::format("{} {} {}", name, dtype, pass),
                [row = row, compute, backward](benchmark::State& state) {
                  row(state, compute, backward);
                });
    }
    add_row("column_sum " + dtype,
            [compute](benchmark::State& state) { column_sum(state, compute); });
  }
  for (const char* name : {"adamw", "add", "sum_squares", "zero"})
    add_row(fmt::format("{} fp32", name), [name](benchmark::State& state) { update(state, name); });
}

}  // namespace naite::bench
