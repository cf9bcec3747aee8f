// SPDX-License-Identifier: Apache-2.0
#pragma once
// A backend without memory: whoever builds on it what it would build on `real` learns, to the byte,
// what that would take. It answers every size as `real` does and computes nothing.
#include <memory>

#include "kernels/kernels.h"

namespace naite::kernels {

class CountingKernels : public Kernels {
 public:
  // Of what was allocated and not yet released: now, and at the most since the beginning. What the
  // backend holds for itself (fixed_bytes) comes on top.
  virtual int64_t live_bytes() const = 0;
  virtual int64_t peak_bytes() const = 0;
};

// `real` must outlive it.
std::unique_ptr<CountingKernels> make_counting(const Kernels& real);

}  // namespace naite::kernels
