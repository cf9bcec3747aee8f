// SPDX-License-Identifier: Apache-2.0
#pragma once
// What this machine can do at this very moment: arithmetic that never touches memory, and memory
// streams that never compute. Clocks and neighbours move by 15% within minutes, so every measured
// figure is divided by a probe taken right before and right after it, on the same threads. Written
// for x86-64; elsewhere it does not exist and no peak is known.
#include <cstdint>
#include <vector>

#include "base/base.h"
#include "kernels/cpu/isa.h"
#include "kernels/kernels.h"

namespace naite::kernels::cpu {

// In the order of the table in probe.cc.
enum class Instruction : uint8_t {
  kBf16Dot,  // vdpbf16ps, 512 bits
  kFma512,   // fp32
  kFma256,   // fp32
  kSse,      // fp32 multiplication and addition, 128 bits: what a machine without fma offers
};
const char* instruction_name(Instruction instruction);
// What products in `compute` are made of on this instruction set.
Instruction instruction_of(Isa isa, DType compute);
bool machine_has(Instruction instruction);

class Probe {
 public:
  explicit Probe(ThreadPool& pool);
  ~Probe();
  Probe(const Probe&) = delete;

  // Seconds. With one thread it is the thread's own CPU time, so that neighbours who take turns on
  // the core do not count.
  double now() const;

  // GFLOP/s of all threads of the pool together; takes about 2 ms.
  double gflops(Instruction instruction);
  // GB/s of all threads, reads + writes, streaming through `reads` arrays into `writes` arrays,
  // each four times as large as a 32 MiB cache. writes of an update go to the first arrays read
  // (in_place).
  double gigabytes(int reads, int writes, bool in_place);

  // The probe's own quality: instructions per cycle that it reaches, the whole number (or half)
  // that the hardware's rate must therefore be, and the clock, measured by a chain of dependent
  // additions.
  struct Quality {
    double clock_ghz = 0;
    double instructions_per_cycle = 0;
    double limit = 0;
    double share() const { return instructions_per_cycle / limit; }
  };
  Quality quality(Instruction instruction);

 private:
  float* array(int index);

  ThreadPool& pool_;
  std::vector<float*> arrays_;
};

}  // namespace naite::kernels::cpu
