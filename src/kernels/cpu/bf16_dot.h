// SPDX-License-Identifier: Apache-2.0
#pragma once
// Does this machine's vdpbf16ps add the odd product of a pair first and then the even one, each
// with one rounding to nearest even, flushing what is tiny after rounding? Zen 4 does (136 million
// of 136 million cases); other makers' chips prove it here at every start, or run without the
// instruction.
namespace naite::kernels::cpu {

// Needs AVX512-BF16, FMA and the contract's float mode on the calling thread. Takes well under 10
// ms.
bool bf16_dot_keeps_the_contract();

}  // namespace naite::kernels::cpu
