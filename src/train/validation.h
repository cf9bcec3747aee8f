// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a run measures on held-out text.
#include "data/loader.h"
#include "infer/scorer.h"

namespace naite::train {

struct Validation {
  double loss = 0, bits_per_byte = 0;  // means over the targets, and over the bytes of raw text
  int64_t targets = 0;
};

// Of one source's held-out text, at most about `tokens_max` tokens of it. The scorer takes whole
// rows.
Result<Validation> validate(infer::Scorer& scorer, const data::Loader& loader, int source,
                            int64_t tokens_max);

}  // namespace naite::train
