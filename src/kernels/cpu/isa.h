// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instruction sets that the CPU backend has code for, chosen once per process at run time. They
// never change a bit of any result, only the time that it takes.
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace naite::kernels::cpu {

enum class Isa : uint8_t {
  kPortable,    // x86-64 as it began (SSE2, no fma) and every other architecture
  kAvx2,        // AVX2 with FMA
  kAvx512,      // AVX-512 F, BW, DQ, VL
  kAvx512Bf16,  // and vdpbf16ps, where it passes the self-test (bf16_dot.h)
};

std::string_view isa_name(Isa isa);  // portable, avx2, avx512, avx512_bf16

// What this machine offers, best first. Computed once; puts the calling thread into the contract's
// float mode, because the self-test runs there.
const std::vector<Isa>& available_isas();

// `name` empty: the environment variable NAITE_ISA, and if that is empty too, the best one.
Result<Isa> choose_isa(std::string_view name);

}  // namespace naite::kernels::cpu
