// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the operands of a call have to be, from the enumeration in its struct. Backends ask in debug
// and sanitizer builds, before they run the call; a broken promise is an error that names the
// operand.
#include "kernels/kernels.h"

namespace naite::kernels {

#ifdef NAITE_DEBUG
inline constexpr bool kChecksCalls = true;
#else
inline constexpr bool kChecksCalls = false;
#endif

// Present where they must be, shapes, dtypes, and no result in the memory of another operand (but
// where the operation works in place). Touches no tensor memory.
Status check_operands(const Call& call);
// And ids, targets, positions, slots and spans lie in their ranges. Reads tensor memory: for
// backends whose memory is the host's.
Status check_call(const Call& call);

}  // namespace naite::kernels
