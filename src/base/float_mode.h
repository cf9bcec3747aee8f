// SPDX-License-Identifier: Apache-2.0
#pragma once
// The floating-point mode of the numerics contract: round to nearest even, subnormal inputs count
// as zero, results that are tiny after rounding become zero of their sign. Every thread that
// computes calls set_float_mode() once, first thing; nothing toggles it afterwards (compilers move
// arithmetic across such calls).
namespace naite {

void set_float_mode();
bool float_mode_is_set();

}  // namespace naite
