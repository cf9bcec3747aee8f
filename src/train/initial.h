// SPDX-License-Identifier: Apache-2.0
#pragma once
// Initial tensors: a value depends on (seed, tensor name, index) alone.
#include <span>

#include "tape/record.h"

namespace naite::train {

// Fills [1 x size] fp32 values of `spec` from index 0. Normal numbers by Box and Muller, "A note on
// the generation of random normal deviates", 1958, over base/math.h: the same bits everywhere.
void fill_initial(const tape::ParameterSpec& spec, uint64_t seed, ThreadPool& pool,
                  std::span<float> out);

}  // namespace naite::train
