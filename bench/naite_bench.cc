// SPDX-License-Identifier: Apache-2.0
// naite_bench: every kernel's share of what the machine can do right now.
//
//   build/bench/naite_bench [--threads=N] [--benchmark_filter=REGEX] [--benchmark_list_tests]
//
// One process is one opinion: medians over several processes decide (docs/PERFORMANCE.md).
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bench/measure.h"

namespace naite::bench {

namespace {
int num_threads = 0;
}

Machine& machine() {
  static ThreadPool pool(num_threads > 0 ? num_threads : ThreadPool::default_num_threads());
  static Probe probe(pool);
  static Machine machine{pool, probe};
  return machine;
}

namespace {

void print_probe() {
  std::printf("%d threads; instruction sets: %s\n", machine().pool.num_threads(),
              std::string(kernels::cpu_isa_names()).c_str());
  for (const Instruction instruction :
       {Instruction::kBf16Dot, Instruction::kFma512, Instruction::kFma256, Instruction::kSse}) {
    if (!kernels::cpu::machine_has(instruction)) continue;
    const Probe::Quality quality = machine().probe.quality(instruction);
    std::printf(
        "probe %-32s %5.2f of %.1f instructions a cycle (%.1f%%) at %.2f GHz; %.1f GFLOP/s\n",
        kernels::cpu::instruction_name(instruction), quality.instructions_per_cycle, quality.limit,
        100 * quality.share(), quality.clock_ghz, machine().probe.gflops(instruction));
  }
  for (const auto& [name, reads, writes, in_place] :
       {std::tuple{"read", 1, 0, false}, {"copy", 1, 1, false}, {"update", 2, 1, true}}) {
    machine().probe.gigabytes(reads, writes, in_place);
    std::printf("probe %-32s %5.1f GB/s\n", name,
                machine().probe.gigabytes(reads, writes, in_place));
  }
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--threads=", 10) == 0 && std::atoi(argv[i] + 10) > 0) {
      num_threads = std::atoi(argv[i] + 10);
    } else {
      std::fprintf(stderr, "naite_bench: unknown argument \"%s\"; see --help\n", argv[i]);
      return 2;
    }
  }
  register_product_rows();
  register_attention_rows();
  register_elementwise_rows();
  register_differential_rows();
  print_probe();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace

}  // namespace naite::bench

int main(int argc, char** argv) { return naite::bench::run(argc, argv); }
