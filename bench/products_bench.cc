// SPDX-License-Identifier: Apache-2.0
// Products in the three directions of training, the output projection with its loss, and decoding.
#include "bench/measure.h"
#include "kernels/cpu/isa.h"

namespace naite::bench {

namespace {

using kernels::DType;
using kernels::Gradient;
using kernels::Projection;
using kernels::View;

// An instruction set, a precision, and what binds them.
struct Mode {
  const char* isa;
  DType compute;
  Instruction ceiling;
  std::string name() const { return std::string(kernels::dtype_name(compute)) + "/" + isa; }
};
constexpr Mode kModes[] = {
    {"avx512_bf16", DType::kBf16, Instruction::kBf16Dot},
    {"avx512_bf16", DType::kF32, Instruction::kFma512},
    {"avx512", DType::kBf16, Instruction::kFma512},
    {"avx2", DType::kBf16, Instruction::kFma256},
    {"avx2", DType::kF32, Instruction::kFma256},
    {"portable", DType::kBf16, Instruction::kSse},
    {"portable", DType::kF32, Instruction::kSse},
};

struct Shape {
  int64_t tokens, in, out;
  std::string name() const { return fmt::format("{}x{}x{}", tokens, out, in); }
  double flops() const {
    return 2.0 * static_cast<double>(tokens) * static_cast<double>(in) * static_cast<double>(out);
  }
};

void forward_row(benchmark::State& state, Mode mode, Shape shape) {
  kernels::Kernels& k = machine().kernels(mode.isa);
  Buffers buffers(k);
  const View x = buffers.random(shape.tokens, shape.in, mode.compute);
  const Projection part{buffers.zeros(shape.tokens, shape.out, mode.compute),
                        buffers.prepared(shape.out, shape.in, mode.compute),
                        {}};
  measure_flops(state, mode.ceiling, shape.flops(),
                [&, op = buffers.ready(kernels::Linear{{&part, 1}, x})] { submit(k, op); });
}

// Muon's step of one matrix, counting its products.
void muon_row(benchmark::State& state, int64_t rows, int64_t cols) {
  kernels::Kernels& k = machine().kernels("");
  Buffers buffers(k);
  const auto matrix = [&] { return buffers.random(rows, cols, DType::kF32); };
  const View p = matrix(), g = matrix(), m = matrix();
  const auto l = static_cast<double>(std::max(rows, cols));
  const auto s = static_cast<double>(std::min(rows, cols));
  const kernels::MuonArguments arguments{1, 0.95f, 1e-3f, 0.9999f};
  measure_flops(state, Instruction::kBf16Dot, 5 * 2 * (2 * l * s * s + s * s * s),
                [&, op = buffers.ready(kernels::Muon{p, g, m, arguments})] { submit(k, op); });
}

void input_row(benchmark::State& state, Mode mode, Shape shape) {
  kernels::Kernels& k = machine().kernels(mode.isa);
  Buffers buffers(k);
  const Projection part{buffers.random(shape.tokens, shape.out, mode.compute),
                        buffers.prepared(shape.out, shape.in, mode.compute),
                        {}};
  const Gradient dx{buffers.zeros(shape.tokens, shape.in, mode.compute), true, false};
  measure_flops(
      state, mode.ceiling, shape.flops(),
      [&, op = buffers.ready(kernels::LinearBackwardInput{dx, {&part, 1}})] { submit(k, op); });
}

void weight_row(benchmark::State& state, Mode mode, Shape shape) {
  kernels::Kernels& k = machine().kernels(mode.isa);
  Buffers buffers(k);
  const View x = buffers.random(shape.tokens, shape.in, mode.compute);
  const View dy = buffers.random(shape.tokens, shape.out, mode.compute);
  const Gradient dw{buffers.zeros(shape.out, shape.in, DType::kF32), true, false};
  measure_flops(
      state, mode.ceiling, shape.flops(),
      [&, op = buffers.ready(kernels::LinearBackwardWeight{dw, dy, x})] { submit(k, op); });
}

// Output projection with its loss: forward alone, or all three products.
void loss_row(benchmark::State& state, Mode mode, Shape shape, bool backward) {
  kernels::Kernels& k = machine().kernels(mode.isa);
  Buffers buffers(k);
  const View x = buffers.random(shape.tokens, shape.in, mode.compute);
  const View w = buffers.prepared(shape.out, shape.in, mode.compute);
  const View targets = buffers.random(shape.tokens, 1, DType::kI32, static_cast<double>(shape.out));
  const View loss = buffers.zeros(shape.tokens, 1, DType::kF32);
  const View scale = buffers.random(1, 1, DType::kF32, 1e-3);
  if (!backward) {
    measure_flops(state, mode.ceiling, shape.flops(),
                  [&, op = buffers.ready(kernels::LinearCrossEntropy{loss, x, w, targets})] {
                    submit(k, op);
                  });
    return;
  }
  const Gradient dx{buffers.zeros(shape.tokens, shape.in, mode.compute), true, false};
  const Gradient dw{buffers.zeros(shape.out, shape.in, DType::kF32), true, false};
  measure_flops(state, mode.ceiling, 3 * shape.flops(),
                [&, op = buffers.ready(kernels::LinearCrossEntropyBackward{
                        loss, dx, dw, x, w, targets, scale})] { submit(k, op); });
}

// A model of at least 1 GB of bf16 weights, one layer after the other, `tokens` rows in flight.
void decode_row(benchmark::State& state, Mode mode, int64_t tokens) {
  constexpr int64_t kWidth = 2048, kWide = 8192;
  constexpr int kLayers = 32;
  kernels::Kernels& k = machine().kernels(mode.isa);
  Buffers buffers(k);
  std::vector<Projection> up, down;
  const View x = buffers.random(tokens, kWidth, mode.compute);
  const View h = buffers.random(tokens, kWide, mode.compute);
  double bytes = 0, flops = 0;
  for (int layer = 0; layer < kLayers; ++layer) {
    up.push_back({buffers.zeros(tokens, kWide, mode.compute),
                  buffers.prepared(kWide, kWidth, mode.compute),
                  {}});
    down.push_back({buffers.zeros(tokens, kWidth, mode.compute),
                    buffers.prepared(kWidth, kWide, mode.compute),
                    {}});
    const double weights = 2.0 * kWidth * kWide;
    bytes += weights * static_cast<double>(kernels::dtype_bytes(mode.compute));
    flops += weights * 2 * static_cast<double>(tokens);
  }
  const auto call = [&] {
    for (int layer = 0; layer < kLayers; ++layer) {
      submit(k, kernels::Linear{{&up[layer], 1}, x, {}});
      submit(k, kernels::Linear{{&down[layer], 1}, h, {}});
    }
  };
  // A few rows are bound by memory, many by arithmetic: the ceiling is what takes longer.
  Probe& probe = machine().probe;
  probe.gigabytes(1, 0, false);
  const bool by_memory = bytes / probe.gigabytes(1, 0, false) > flops / probe.gflops(mode.ceiling);
  if (by_memory) {
    measure_bytes(state, 1, 0, false, bytes, call);
  } else {
    measure_flops(state, mode.ceiling, flops, call);
  }
}

// What a step pays once: rounding and laying out the weights from their masters.
void prepare_row(benchmark::State& state, Mode mode) {
  kernels::Kernels& k = machine().kernels(mode.isa);
  Buffers buffers(k);
  const View master = buffers.random(12288, 3072, DType::kF32);
  const View prepared = buffers.prepared(master.rows, master.cols, mode.compute);
  const int64_t written =
      k.prepared_bytes(kernels::Use::kMatrix, mode.compute, master.rows, master.cols);
  const double read = 2 * static_cast<double>(master.bytes());  // once for either layout
  measure_bytes(state, 2, 1, false, read + static_cast<double>(written), [&] {
    submit(k, kernels::Prepare{prepared, master, kernels::Use::kMatrix});
  });
}

}  // namespace

void register_product_rows() {
  const Shape shapes[] = {{1024, 384, 384},  {1024, 384, 1024}, {1024, 1024, 384}, {4096, 384, 384},
                          {4096, 384, 1024}, {4096, 1024, 384}, {4096, 384, 8192}, {4096, 768, 768},
                          {4096, 768, 3072}, {4096, 3072, 768}, {2048, 2048, 2048}};
  for (const Mode& mode : kModes) {
    const auto& available = kernels::cpu::available_isas();
    const bool found = std::ranges::any_of(
        available, [&](kernels::cpu::Isa isa) { return kernels::cpu::isa_name(isa) == mode.isa; });
    if (!found || !machine_has(mode.ceiling)) continue;
    const bool slow = std::string_view(mode.isa) == "portable";
    for (const Shape& shape : shapes) {
      if (slow && shape.flops() > 5e8) continue;
      const std::string name = mode.name() + "/" + shape.name();
      add_row("y/" + name, [=](benchmark::State& s) { forward_row(s, mode, shape); });
      add_row("dx/" + name, [=](benchmark::State& s) { input_row(s, mode, shape); });
      add_row("dw/" + name, [=](benchmark::State& s) { weight_row(s, mode, shape); });
    }
    if (slow) continue;
    for (const Shape& shape : {Shape{1024, 384, 8192}, Shape{256, 384, 200'000}}) {
      const std::string name = mode.name() + "/" + shape.name();
      add_row("loss/" + name, [=](benchmark::State& s) { loss_row(s, mode, shape, false); });
      add_row("loss backward/" + name,
              [=](benchmark::State& s) { loss_row(s, mode, shape, true); });
    }
    for (const int64_t tokens : {1, 8, 64})
      add_row(fmt::format("decode/{}/batch {}", mode.name(), tokens),
              [=](benchmark::State& s) { decode_row(s, mode, tokens); });
    add_row("prepare/" + mode.name(), [=](benchmark::State& s) { prepare_row(s, mode); });
  }
  for (const auto& [rows, cols] : {std::pair(704, 256), std::pair(768, 768), std::pair(4096, 1024)})
    add_row(fmt::format("muon/{}x{}", rows, cols),
            [rows = rows, cols = cols](benchmark::State& s) { muon_row(s, rows, cols); });
}

}  // namespace naite::bench
