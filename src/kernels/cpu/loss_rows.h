// SPDX-License-Identifier: Apache-2.0
#pragma once
// Softmax and loss of one row of logits, and its gradient: operations.h, "output projection with
// loss".
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace naite::kernels::cpu {

struct LossRow {
  float loss = 0;     // +0 without a target
  float inverse = 0;  // 1 / l
};

struct LossRows {
  // z[0 .. count) becomes e; target -1: no loss here.
  LossRow (*softmax)(float* z, int64_t count, int32_t target);
  // The gradient (e_j inverse - [j is the target]) scale over the e that it is made of: fp32 in
  // place, or bf16 from the beginning of the row.
  void (*gradient)(float* e, int64_t count, int32_t target, float inverse, float scale,
                   bool is_bf16);
};

LossRows loss_rows(Isa isa);

}  // namespace naite::kernels::cpu
