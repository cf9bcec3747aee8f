// SPDX-License-Identifier: Apache-2.0
#pragma once
// One row of the bench: an operation, what it does (flops or bytes), and the ceiling that binds it.
// A sample is a few calls with the probe before and after; a row reports medians:
//   share   of the ceiling, with the 10th and 90th percentile of the samples
//   rate    GFLOP/s or GB/s          ceiling  of the probe, same unit
#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <string>

#include "kernels/cpu/probe.h"
#include "kernels/kernels.h"

namespace naite::bench {

using kernels::cpu::Instruction;
using kernels::cpu::Probe;

// The threads, the probe and the backend that all rows share; isa "" is the best.
struct Machine {
  ThreadPool& pool;
  Probe& probe;
  kernels::Kernels& kernels(std::string_view isa);
};
Machine& machine();

// Memory of a row, released with it.
class Buffers {
 public:
  explicit Buffers(kernels::Kernels& kernels) : kernels_(kernels) {}
  ~Buffers();
  Buffers(const Buffers&) = delete;

  kernels::View zeros(int64_t rows, int64_t cols, kernels::DType dtype);
  // Uniform in (-size, size).
  kernels::View random(int64_t rows, int64_t cols, kernels::DType dtype, double size = 1);
  // A matrix of random fp32 weights, prepared; the master is not kept.
  kernels::View prepared(int64_t rows, int64_t cols, kernels::DType compute);
  // The call, with the workspace that it asks for.
  template <class Op>
  Op ready(Op op) {
    op.workspace = workspace(kernels_.workspace_bytes(op));
    return op;
  }

 private:
  kernels::Workspace workspace(int64_t bytes);

  kernels::Kernels& kernels_;
  std::vector<std::pair<void*, int64_t>> memory_;
};

// Submits a call that cannot fail.
template <class Op>
void submit(kernels::Kernels& kernels, const Op& op) {
  const Status status = kernels.submit(op);
  NAITE_CHECK(status.ok(), "{}", status.error().message);
}

// Runs the row's samples. `call` is the operation; `flops` or `bytes` of one call.
void measure_flops(benchmark::State& state, Instruction ceiling, double flops,
                   const std::function<void()>& call);
void measure_bytes(benchmark::State& state, int reads, int writes, bool in_place, double bytes,
                   const std::function<void()>& call);

// Registers a row; each family calls it from its own register_*_rows().
void add_row(const std::string& name, std::function<void(benchmark::State&)> row);

void register_product_rows();
void register_attention_rows();
void register_elementwise_rows();
void register_differential_rows();

}  // namespace naite::bench
