// SPDX-License-Identifier: Apache-2.0
#include "base/float_mode.h"

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace naite {

#if defined(__x86_64__)

namespace {
constexpr uint32_t kFlushToZero = 0x8000;       // results (FTZ)
constexpr uint32_t kDenormalsAreZero = 0x0040;  // inputs (DAZ)
constexpr uint32_t kRounding = 0x6000;          // 0 = nearest even
constexpr uint32_t kMode = kFlushToZero | kDenormalsAreZero;
}  // namespace

void set_float_mode() { _mm_setcsr((_mm_getcsr() & ~kRounding) | kMode); }
bool float_mode_is_set() { return (_mm_getcsr() & (kMode | kRounding)) == kMode; }

#elif defined(__aarch64__)

namespace {
constexpr uint64_t kFlush = uint64_t{1} << 24;     // FPCR.FZ
constexpr uint64_t kRounding = uint64_t{3} << 22;  // 0 = nearest even
uint64_t fpcr() {
  uint64_t value;
  asm volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}
}  // namespace

void set_float_mode() { asm volatile("msr fpcr, %0" ::"r"((fpcr() & ~kRounding) | kFlush)); }
bool float_mode_is_set() { return (fpcr() & (kFlush | kRounding)) == kFlush; }

#else
#error "the numerics contract is defined for x86-64 and AArch64"
#endif

}  // namespace naite
