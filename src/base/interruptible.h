// SPDX-License-Identifier: Apache-2.0
#pragma once
// Work whose half can be thrown away, and how a stop ends it: while an Interruptible lives, loops
// that its thread runs on any pool end soon after *stop becomes true, by throwing Interrupted, and
// leave their outputs half done. Nobody who computes has to look at the flag.
#include <atomic>
#include <exception>

namespace naite {

struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

class Interruptible {
 public:
  explicit Interruptible(const std::atomic<bool>* stop);  // null: never
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;

 private:
  const std::atomic<bool>* const outer_;
};

}  // namespace naite
