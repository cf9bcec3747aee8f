// SPDX-License-Identifier: Apache-2.0
// The CPU backend: binds the list to this folder's functions. Owns one scratch buffer per thread of
// the pool.
#include <algorithm>

#include "kernels/cpu/memory.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/probe.h"
#include "kernels/host.h"

namespace naite::kernels::cpu {

namespace {

// Larger than a core's second-level cache has room for, so no operation wants more.
constexpr int64_t kThreadBytes = int64_t{2} << 20;

constexpr int kPeakSamples = 9;

class CpuKernels final : public HostKernels {
 public:
  CpuKernels(ThreadPool& pool, Isa isa) : context_{.pool = pool, .isa = isa} {
    context_.thread_bytes = kThreadBytes;
    context_.thread_memory = static_cast<std::byte*>(allocate(fixed_bytes()));
  }
  ~CpuKernels() override { release(context_.thread_memory, fixed_bytes()); }
  CpuKernels(const CpuKernels&) = delete;

  std::string name() const override { return fmt::format("cpu {}", isa_name(context_.isa)); }
  const Arithmetic& arithmetic() const override { return kChain1; }
  double measure_peak_flops(DType compute) override;

  void* allocate(int64_t bytes) override { return allocate_zeroed(bytes); }
  void release(void* memory, int64_t bytes) override { release_zeroed(memory, bytes); }
  int64_t fixed_bytes() const override {
    return context_.thread_bytes * context_.pool.num_threads();
  }
  int64_t prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols) const override {
    return cpu::prepared_bytes(use, compute, rows, cols);
  }

  Status execute(const Call& call) override {
    return visit(call, [&](const auto& op) { return run_op(op); });
  }
  int64_t workspace_of(const Call& call) const override {
    return visit(call, [&](const auto& op) -> int64_t {
      if constexpr (requires { op.workspace; }) return cpu::workspace_bytes(context_, op);
      return 0;
    });
  }

 private:
  template <class Op>
  Status run_op(const Op& op) {
    if constexpr (requires { op.workspace; }) {
      const int64_t needed = cpu::workspace_bytes(context_, op);
      if (static_cast<int64_t>(op.workspace.size()) < needed)
        return fail("{}: a workspace of {} bytes, not {}", Op::kName, op.workspace.size(), needed);
    }
    cpu::run(context_, op);
    return {};
  }

  Context context_;
};

double CpuKernels::measure_peak_flops([[maybe_unused]] DType compute) {
#if defined(__x86_64__)
  Probe probe(context_.pool);
  // The largest: what disturbs a sample only makes it smaller, and may last for most of them.
  double gflops = 0;
  for (int sample = 0; sample < kPeakSamples; ++sample)
    gflops = std::max(gflops, probe.gflops(instruction_of(context_.isa, compute)));
  return 1e9 * gflops;
#else
  return 0;
#endif
}

}  // namespace

}  // namespace naite::kernels::cpu

namespace naite::kernels {

Result<std::unique_ptr<Kernels>> make_cpu(ThreadPool& pool, std::string_view isa_name) {
  NAITE_ASSIGN(const cpu::Isa isa, cpu::choose_isa(isa_name));
  return std::unique_ptr<Kernels>(std::make_unique<cpu::CpuKernels>(pool, isa));
}

}  // namespace naite::kernels
