// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which instruction sets the vector code is compiled for, and how one is chosen at run time. A
// vector source file includes this first, then <hwy/foreach_target.h> (which compiles the file once
// per set), then kernels/cpu/simd-inl.h.
//   x86-64   N_SCALAR (plain C++ on the baseline, fma emulated), N_AVX2, N_AVX3
//   AArch64  N_NEON
// Every set computes the same bits; choosing one is a matter of speed alone.
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_EMU128)
#define HWY_BROKEN_EMU128 1  // the portable set is ours, see simd-inl.h: one name for it everywhere

#include <hwy/detect_targets.h>

#include "kernels/cpu/isa.h"

// NAITE_CHOOSE(isa, f): the address of f as compiled for `isa`.
#if HWY_ARCH_X86
#define NAITE_CHOOSE(isa, f)                      \
  ((isa) == ::naite::kernels::cpu::Isa::kPortable \
       ? &N_SCALAR::f                             \
       : ((isa) == ::naite::kernels::cpu::Isa::kAvx2 ? &N_AVX2::f : &N_AVX3::f))
// The same for templates on `bool kPaired`, true where the bf16 instructions may be spelled.
#define NAITE_CHOOSE_PAIRED(isa, f)                                    \
  ((isa) == ::naite::kernels::cpu::Isa::kAvx512Bf16 ? &N_AVX3::f<true> \
                                                    : NAITE_CHOOSE(isa, f<false>))
#else
#define NAITE_CHOOSE_PAIRED(isa, f) NAITE_CHOOSE(isa, f<false>)
#define NAITE_CHOOSE(isa, f) (&N_NEON::f)
#endif
