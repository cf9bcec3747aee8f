// SPDX-License-Identifier: Apache-2.0
#pragma once
// What every CPU operation is handed: the team of threads, the instruction set, and one scratch
// buffer per thread. Operations are free functions, one header per family; cpu.h binds them to the
// list in operations.h.
#include <cstddef>
#include <cstdint>

#include "base/base.h"
#include "kernels/cpu/isa.h"

namespace naite::kernels::cpu {

struct Context {
  ThreadPool& pool;
  Isa isa;
  // Thread `t` owns thread_bytes bytes from thread_memory + t * thread_bytes, 64-byte aligned, for
  // the time of one task: nothing in it survives the task.
  std::byte* thread_memory = nullptr;
  int64_t thread_bytes = 0;

  std::byte* scratch(int thread) const { return thread_memory + thread * thread_bytes; }
};

}  // namespace naite::kernels::cpu
