// SPDX-License-Identifier: Apache-2.0
#pragma once
// Zeroed, 64-byte aligned memory; blocks of 2 MiB and more lie on huge pages where the system has
// them.
#include <cstdint>

namespace naite::kernels::cpu {

void* allocate_zeroed(int64_t bytes);  // throws std::bad_alloc when the system has no more
void release_zeroed(void* memory, int64_t bytes);

}  // namespace naite::kernels::cpu
