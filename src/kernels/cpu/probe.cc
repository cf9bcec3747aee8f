// SPDX-License-Identifier: Apache-2.0
#if defined(__x86_64__)
#include "kernels/cpu/probe.h"

#include <immintrin.h>
#include <time.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/memory.h"

namespace naite::kernels::cpu {

namespace {

constexpr int64_t kArrayFloats = int64_t{32} << 20;  // 128 MiB
constexpr int64_t kArrayBytes = kArrayFloats * 4;
constexpr int kChains = 14;  // independent accumulators: latency times throughput, with a margin

// `rounds` rounds of kChains independent instructions, nothing else. Written as assembler so that
// no compiler merges, hoists or reorders them.
#define NAITE_ROUNDS(INSTRUCTION, REGISTER)                                                        \
  asm volatile(".p2align 5\n1:\n" INSTRUCTION(REGISTER, 0) INSTRUCTION(REGISTER, 1) INSTRUCTION(   \
                   REGISTER, 2) INSTRUCTION(REGISTER, 3) INSTRUCTION(REGISTER, 4)                  \
                   INSTRUCTION(REGISTER, 5) INSTRUCTION(REGISTER, 6) INSTRUCTION(REGISTER, 7)      \
                       INSTRUCTION(REGISTER, 8) INSTRUCTION(REGISTER, 9) INSTRUCTION(REGISTER, 10) \
                           INSTRUCTION(REGISTER, 11) INSTRUCTION(REGISTER, 12)                     \
                               INSTRUCTION(REGISTER, 13) "dec %0\njnz 1b\n"                        \
               : "+r"(rounds)                                                                      \
               :                                                                                   \
               : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",     \
                 "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")
#define NAITE_FMA(REGISTER, I) "vfmadd231ps %%" REGISTER "14, %%" REGISTER "15, %%" REGISTER #I "\n"
#define NAITE_DOT(REGISTER, I) "vdpbf16ps %%" REGISTER "14, %%" REGISTER "15, %%" REGISTER #I "\n"
#define NAITE_ZERO(REGISTER, I) "vxorps %%xmm" #I ", %%xmm" #I ", %%xmm" #I "\n"

__attribute__((noinline)) void clear_registers() {
  int64_t rounds = 1;
  NAITE_ROUNDS(NAITE_ZERO, "xmm");
  asm volatile("vxorps %%xmm14, %%xmm14, %%xmm14\nvxorps %%xmm15, %%xmm15, %%xmm15" ::
                   : "xmm14", "xmm15");
}
__attribute__((noinline)) void run_dot(int64_t rounds) { NAITE_ROUNDS(NAITE_DOT, "zmm"); }
__attribute__((noinline)) void run_fma512(int64_t rounds) { NAITE_ROUNDS(NAITE_FMA, "zmm"); }
__attribute__((noinline)) void run_fma256(int64_t rounds) { NAITE_ROUNDS(NAITE_FMA, "ymm"); }

// Seven multiplications and seven additions a round.
#define NAITE_SSE(REGISTER, I) "mulps %%xmm14, %%xmm" #I "\n"
#define NAITE_SSE_ADD(REGISTER, I) "addps %%xmm14, %%xmm" #I "\n"
__attribute__((noinline)) void run_sse(int64_t rounds) {
  asm volatile(".p2align 5\n1:\n" NAITE_SSE("", 0) NAITE_SSE_ADD("", 1) NAITE_SSE("", 2)
                   NAITE_SSE_ADD("", 3) NAITE_SSE("", 4) NAITE_SSE_ADD("", 5) NAITE_SSE("", 6)
                       NAITE_SSE_ADD("", 7) NAITE_SSE("", 8) NAITE_SSE_ADD("", 9) NAITE_SSE("", 10)
                           NAITE_SSE_ADD("", 11) NAITE_SSE("", 12)
                               NAITE_SSE_ADD("", 13) "dec %0\njnz 1b\n"
               : "+r"(rounds)
               :
               : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                 "xmm9", "xmm10", "xmm11", "xmm12", "xmm13");
}

struct Kind {
  const char* name;
  double flops;  // of one instruction
  void (*run)(int64_t rounds);
};
const Kind& kind_of(Instruction instruction) {
  static constexpr Kind kKinds[] = {{"bf16 dot, 512 bits", 64, run_dot},
                                    {"fp32 fma, 512 bits", 32, run_fma512},
                                    {"fp32 fma, 256 bits", 16, run_fma256},
                                    {"fp32 multiply and add, 128 bits", 4, run_sse}};
  return kKinds[static_cast<size_t>(instruction)];
}

// `count` additions, each waiting for the one before: one cycle each.
void addition_chain(int64_t count) {
  uint64_t sum = 1, step = 3;
  int64_t rounds = count / 16;
  asm volatile(
      ".p2align 5\n1:\n"
      "add %2, %0\nadd %2, %0\nadd %2, %0\nadd %2, %0\nadd %2, %0\nadd %2, %0\nadd %2, %0\n"
      "add %2, %0\nadd %2, %0\nadd %2, %0\nadd %2, %0\nadd %2, %0\nadd %2, %0\nadd %2, %0\n"
      "add %2, %0\nadd %2, %0\ndec %1\njnz 1b\n"
      : "+r"(sum), "+r"(rounds)
      : "r"(step)
      : "cc");
}

template <int reads, int writes>
void stream(const float* const* from, float* const* to, int64_t begin, int64_t end) {
  __m128 kept[4] = {};
  for (int64_t i = begin; i < end; i += 16) {
    for (int part = 0; part < 4; ++part) {
      __m128 sum = _mm_setzero_ps();
      for (int r = 0; r < reads; ++r) sum = _mm_or_ps(sum, _mm_load_ps(from[r] + i + 4 * part));
      for (int w = 0; w < writes; ++w) _mm_store_ps(to[w] + i + 4 * part, sum);
      if (writes == 0) kept[part] = _mm_or_ps(kept[part], sum);
    }
  }
  asm volatile("" ::"x"(kept[0]), "x"(kept[1]), "x"(kept[2]), "x"(kept[3]));
}

using Stream = void (*)(const float* const*, float* const*, int64_t, int64_t);
#define NAITE_READS(N) \
  { stream<N, 0>, stream<N, 1>, stream<N, 2>, stream<N, 3> }
constexpr Stream kStreams[6][4] = {NAITE_READS(0), NAITE_READS(1), NAITE_READS(2),
                                   NAITE_READS(3), NAITE_READS(4), NAITE_READS(5)};

}  // namespace

double Probe::now() const {
  timespec time;
  clock_gettime(pool_.num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

const char* instruction_name(Instruction instruction) { return kind_of(instruction).name; }

Instruction instruction_of(Isa isa, DType compute) {
  switch (isa) {
    case Isa::kAvx512Bf16:
      return compute == DType::kBf16 ? Instruction::kBf16Dot : Instruction::kFma512;
    case Isa::kAvx512:
      return Instruction::kFma512;  // two for a pair of bf16: the same rate of flops
    case Isa::kAvx2:
      return Instruction::kFma256;
    case Isa::kPortable:
      return Instruction::kSse;
  }
  return Instruction::kSse;
}

bool machine_has(Instruction instruction) {
  __builtin_cpu_init();
  switch (instruction) {
    case Instruction::kBf16Dot:
      return __builtin_cpu_supports("avx512bf16");
    case Instruction::kFma512:
      return __builtin_cpu_supports("avx512f");
    case Instruction::kFma256:
      return __builtin_cpu_supports("fma");
    case Instruction::kSse:
      return true;
  }
  return false;
}

Probe::Probe(ThreadPool& pool) : pool_(pool) {}

Probe::~Probe() {
  for (float* memory : arrays_) release_zeroed(memory, kArrayBytes);
}

float* Probe::array(int index) {
  while (static_cast<int>(arrays_.size()) <= index)
    arrays_.push_back(static_cast<float*>(allocate_zeroed(kArrayBytes)));
  return arrays_[index];
}

double Probe::gflops(Instruction instruction) {
  constexpr int64_t kRounds = 400'000;
  const int threads = pool_.num_threads();
  const double begin = now();
  // Many small tasks: a thread that is late costs what it is late, no more.
  constexpr int64_t kTasks = 16;
  pool_.run(kTasks * threads, [&](int64_t, int) {
    if (instruction != Instruction::kSse) clear_registers();
    kind_of(instruction).run(kRounds / kTasks);
  });
  const double seconds = now() - begin;
  return static_cast<double>(kRounds * threads * kChains) * kind_of(instruction).flops / seconds /
         1e9;
}

double Probe::gigabytes(int reads, int writes, bool in_place) {
  NAITE_CHECK(reads <= 5 && writes <= 3, "a stream of {} reads and {} writes", reads, writes);
  const float* from[5] = {};
  float* to[3] = {};
  for (int i = 0; i < reads; ++i) from[i] = array(i);
  for (int i = 0; i < writes; ++i) to[i] = array(in_place ? i : reads + i);
  constexpr int64_t kTasks = 64;
  const double begin = now();
  pool_.run(kTasks, [&](int64_t task, int) {
    kStreams[reads][writes](from, to, kArrayFloats / kTasks * task,
                            kArrayFloats / kTasks * (task + 1));
  });
  return static_cast<double>((reads + writes) * kArrayBytes) / (now() - begin) / 1e9;
}

Probe::Quality Probe::quality(Instruction instruction) {
  constexpr int64_t kRounds = 20'000;
  std::vector<Quality> samples;
  if (instruction != Instruction::kSse) clear_registers();
  for (int i = 0; i < 301; ++i) {
    // Short enough that most samples fall between two interrupts or neighbours' turns.
    double times[4];
    times[0] = now();
    addition_chain(kRounds * 4);
    times[1] = now();
    kind_of(instruction).run(kRounds);
    times[2] = now();
    addition_chain(kRounds * 4);
    times[3] = now();
    const double before = times[1] - times[0], seconds = times[2] - times[1];
    const double after = times[3] - times[2];
    Quality sample;
    sample.clock_ghz = 2 * static_cast<double>(kRounds * 4) / (before + after) / 1e9;
    sample.instructions_per_cycle =
        static_cast<double>(kRounds * kChains) / seconds / 1e9 / sample.clock_ghz;
    samples.push_back(sample);
  }
  const auto middle = samples.begin() + static_cast<int64_t>(samples.size()) / 2;
  std::nth_element(samples.begin(), middle, samples.end(), [](const Quality& a, const Quality& b) {
    return a.instructions_per_cycle < b.instructions_per_cycle;
  });
  Quality result = *middle;
  const double rate = result.instructions_per_cycle;
  result.limit = rate < 0.6 ? 0.5 : std::ceil(rate - 0.1);
  return result;
}

}  // namespace naite::kernels::cpu
#endif
