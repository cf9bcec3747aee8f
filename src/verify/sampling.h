// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which intervals `--sample N` trains again: the first, those at whose ends the states differ most,
// and the rest by a draw. The rules are exact and total, so two verifiers with one draw choose the
// same, and the chances that are stated are those of this very draw.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/base.h"

namespace naite::verify {

// How far each part of a state moved: "weights" (with their fp32 masters), and every group of the
// optimizer ("m", "v"). The root of the summed squares; what only one of two states has counts
// whole.
using Change = std::map<std::string, double>;

// Between the states in two directories. An error if one has a value that is no number: it could
// hide any other change, and no step leaves one.
Result<Change> change_between(const std::filesystem::path& before,
                              const std::filesystem::path& after);

struct Sample {
  // Indices of intervals; the first interval, 0, is always taken besides.
  std::vector<size_t> largest, random;
  // The chance to miss every forged interval, if a tenth of all (rounded up) is forged, or one.
  // Whoever forges knows the rule and does it where the draw alone decides, so only that counts.
  double miss_tenth = 1, miss_one = 1;
};

// Of `changes`, one for each interval in the order of their steps, `count` in all, at least 1. Half
// of them for large changes, part by part in turn, "weights" first; equal ones: the earlier.
// `draw(n)` is uniform below n.
Sample choose_sample(const std::vector<Change>& changes, int64_t count,
                     const std::function<int64_t(int64_t)>& draw);

// A uniform number below `bound` from the system's randomness: the run cannot know it beforehand.
int64_t random_below(int64_t bound);

}  // namespace naite::verify
