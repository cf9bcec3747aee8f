// SPDX-License-Identifier: Apache-2.0
#include "bench/measure.h"

#include <algorithm>
#include <map>

namespace naite::bench {

namespace {

constexpr int kSamples = 15;
constexpr double kSampleSeconds = 0.012;  // as short as a slice of the scheduler allows

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

// `work` is in units of 1e9 per call, the probe in 1e9 per second.
void measure(benchmark::State& state, const char* unit, double work,
             const std::function<double()>& probe, const std::function<void()>& call) {
  call();
  double begin = machine().probe.now();
  call();
  const int64_t calls =
      std::max<int64_t>(1, static_cast<int64_t>(kSampleSeconds / (machine().probe.now() - begin)));
  std::vector<double> shares, rates, ceilings;
  double before = probe();
  for (auto _ : state) {
    begin = machine().probe.now();
    for (int64_t i = 0; i < calls; ++i) call();
    const double seconds = (machine().probe.now() - begin) / static_cast<double>(calls);
    const double after = probe();
    const double ceiling = (before + after) / 2;
    before = after;
    shares.push_back(work / seconds / ceiling);
    rates.push_back(work / seconds);
    ceilings.push_back(ceiling);
    state.SetIterationTime(seconds);
  }
  state.counters["share%"] = 100 * quantile(shares, 0.5);
  state.counters["p10"] = 100 * quantile(shares, 0.1);
  state.counters["p90"] = 100 * quantile(shares, 0.9);
  state.counters["rate"] = quantile(rates, 0.5);
  state.counters["ceiling"] = quantile(ceilings, 0.5);
  state.SetLabel(unit);
}

}  // namespace

kernels::Kernels& Machine::kernels(std::string_view isa) {
  static std::map<std::string, std::unique_ptr<kernels::Kernels>> made;
  auto& found = made[std::string(isa)];
  if (!found) {
    auto result = kernels::make_cpu(pool, isa);
    NAITE_CHECK(result.ok(), "{}", result.error().message);
    found = *std::move(result);
  }
  return *found;
}

Buffers::~Buffers() {
  for (const auto& [memory, bytes] : memory_) kernels_.release(memory, bytes);
}

kernels::View Buffers::zeros(int64_t rows, int64_t cols, kernels::DType dtype) {
  const kernels::View view{nullptr, dtype, rows, cols};
  memory_.push_back({kernels_.allocate(view.bytes()), view.bytes()});
  return {memory_.back().first, dtype, rows, cols};
}

kernels::View Buffers::random(int64_t rows, int64_t cols, kernels::DType dtype, double size) {
  const kernels::View view = zeros(rows, cols, dtype);
  uint64_t state = 1 + static_cast<uint64_t>(view.size());
  for (int64_t i = 0; i < view.size(); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double unit = static_cast<double>(state >> 40) / (1 << 23) - 1;
    const auto value = static_cast<float>(size * unit);
    if (dtype == kernels::DType::kBf16)
      view.as<uint16_t>()[i] = float_to_bf16(value);
    else if (dtype == kernels::DType::kF32)
      view.as<float>()[i] = value;
    else
      view.as<int32_t>()[i] = static_cast<int32_t>(size * (unit + 1) / 2);
  }
  return view;
}

kernels::View Buffers::prepared(int64_t rows, int64_t cols, kernels::DType compute) {
  Buffers scratch(kernels_);
  const kernels::View master = scratch.random(rows, cols, kernels::DType::kF32, 0.05);
  const int64_t bytes = kernels_.prepared_bytes(kernels::Use::kMatrix, compute, rows, cols);
  memory_.push_back({kernels_.allocate(bytes), bytes});
  const kernels::View made{memory_.back().first, compute, rows, cols};
  submit(kernels_, kernels::Prepare{made, master, kernels::Use::kMatrix});
  return {memory_.back().first, compute, rows, cols};
}

kernels::Workspace Buffers::workspace(int64_t bytes) {
  memory_.push_back({kernels_.allocate(bytes), bytes});
  return {static_cast<std::byte*>(memory_.back().first), static_cast<size_t>(bytes)};
}

void measure_flops(benchmark::State& state, Instruction ceiling, double flops,
                   const std::function<void()>& call) {
  measure(
      state, "GFLOP/s", flops / 1e9, [&] { return machine().probe.gflops(ceiling); }, call);
}

void measure_bytes(benchmark::State& state, int reads, int writes, bool in_place, double bytes,
                   const std::function<void()>& call) {
  const auto probe = [&] { return machine().probe.gigabytes(reads, writes, in_place); };
  probe();  // its pages
  measure(state, "GB/s", bytes / 1e9, probe, call);
}

void add_row(const std::string& name, std::function<void(benchmark::State&)> row) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(row))
      ->Iterations(kSamples)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace naite::bench
