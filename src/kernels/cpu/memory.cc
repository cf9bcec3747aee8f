// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace naite::kernels::cpu {

namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kHugePage = int64_t{1} << 21;

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

void* allocate_zeroed(int64_t bytes) {
  const int64_t unit = bytes >= kHugePage ? kHugePage : kLine;
  const auto size = static_cast<size_t>(round_up(bytes > 0 ? bytes : 1, unit));
  void* memory = std::aligned_alloc(static_cast<size_t>(unit), size);
  if (memory == nullptr) throw std::bad_alloc();
  // A refusal of huge pages costs speed only.
  if (unit == kHugePage) madvise(memory, size, MADV_HUGEPAGE);
  // Written now, so that no page fault falls into a step.
  std::memset(memory, 0, size);
  return memory;
}

void release_zeroed(void* memory, int64_t) { std::free(memory); }

}  // namespace naite::kernels::cpu
