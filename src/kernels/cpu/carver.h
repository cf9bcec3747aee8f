// SPDX-License-Identifier: Apache-2.0
#pragma once
// How an operation cuts the workspace that it asked for, once to count and once to use it.
#include "kernels/cpu/split.h"

namespace naite::kernels::cpu {

// Hands out pieces of a workspace, aligned to cache lines; with no memory it only counts.
class Carver {
 public:
  explicit Carver(std::byte* memory) : memory_(memory) {}
  template <class T>
  T* take(int64_t count) {
    T* piece = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  std::byte* memory_;
  int64_t used_ = 0;
};

}  // namespace naite::kernels::cpu
