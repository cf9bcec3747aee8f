// SPDX-License-Identifier: Apache-2.0
#pragma once
// The plan of a tape: the order of steps, a place in the arena for every buffer, and the exact
// bytes. Making one allocates no tensor memory, so models far beyond the machine can be planned.
//
// Steps are forward nodes in order, then backward nodes in reverse. With `recompute`, a value of a
// segment is dropped after the forward pass (unless a later segment reads it) and made again by
// repeating the segment's forward nodes right before its backward ones: version 1 of the value. The
// operations are deterministic, so this never changes a bit.
#include <cstdint>
#include <string>
#include <vector>

#include "tape/record.h"

namespace naite::tape {

enum class Phase : uint8_t { kForward, kRecompute, kBackward };

struct Step {
  int node = 0;
  Phase phase = Phase::kForward;
};

// One buffer's stay in the arena, both ends included, in steps.
struct Placement {
  int buffer = 0;
  bool is_gradient = false;
  int version = 0;  // 1: the recomputed value
  int first = 0, last = 0;
  int64_t bytes = 0, offset = 0;
};

struct Plan {
  std::vector<Step> steps;
  std::vector<Placement> placements;
  // [step][input of its node]: the gradient is added to what is there (parameters' gradients:
  // within one replay).
  std::vector<std::vector<bool>> accumulate;
  // Placement indices, -1 where there is none.
  std::vector<int> value_place[2];  // by version and buffer
  std::vector<int> gradient_place;  // by buffer
  std::vector<bool> has_gradient;   // by buffer: a gradient arrives there
  int64_t arena_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t data_bytes = 0;   // inputs, constants and states
  int64_t naive_bytes = 0;  // the arena if nothing were reused

  // With recomputation: which values live from their first making to their last reader (by buffer);
  // the others are made twice. Without it, all.
  std::vector<bool> saved;

  // The version of `buffer` that the step's node reads, or writes as an output.
  int version(const Step& step, int buffer) const {
    return step.phase != Phase::kForward && !saved[buffer] ? 1 : 0;
  }
};

Plan make_plan(const Tape& tape, bool recompute = false);

}  // namespace naite::tape
