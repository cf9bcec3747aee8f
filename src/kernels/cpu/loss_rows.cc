// SPDX-License-Identifier: Apache-2.0
// Two passes over a row of logits that lies in the second cache (maximum; exponentials and their
// sum), one more for the gradient. About 2 KiB of traffic and 12 operations for every 16 logits and
// pass.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/loss_rows.cc"
#include <hwy/foreach_target.h>

#include "kernels/cpu/loss_rows.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace naite::kernels::HWY_NAMESPACE {

inline constexpr float kFactor = static_cast<float>(kLog2E);

// z[begin .. end) becomes e; returns the sum of this one block of the sum rule.
float exponentials(float* z, int64_t begin, int64_t end, float mc) {
  const Lanes c = lanes_set(kFactor), minus_mc = lanes_set(-mc);
  Lanes sum = lanes_set(0.0f);
  for (int64_t j = begin; j < end; j += kLanes) {
    Lanes e = lanes_exp2(lanes_fma(lanes_load(z + j), c, minus_mc));
    if (end - j < kLanes) e = lanes_keep(e, 0, static_cast<int>(end - j));
    lanes_store(z + j, e);
    sum = sum + e;
  }
  return lanes_join(sum);
}

cpu::LossRow loss_softmax(float* z, int64_t count, int32_t target) {
  const float mc = row_max(z, count) * kFactor;
  const float z_target = target >= 0 ? z[target] : 0.0f;
  const int64_t blocks = (count + kSumBlock - 1) / kSumBlock;
  // A finished sum of numbers that are not negative needs no `+ 0.0f`.
  const float l = tree_sum<float>(0, blocks, [&](int64_t block) {
    const int64_t begin = block * kSumBlock;
    return exponentials(z, begin, begin + kSumBlock < count ? begin + kSumBlock : count, mc);
  });
  cpu::LossRow row;
  row.inverse = 1.0f / l;
  if (target >= 0) row.loss = static_cast<float>(-kLn2) * fma(z_target, kFactor, -(mc + log2(l)));
  return row;
}

void loss_gradient(float* e, int64_t count, int32_t target, float inverse, float scale,
                   bool is_bf16) {
  auto* narrow = reinterpret_cast<uint16_t*>(e);
  if (target < 0) {
    std::memset(e, 0, static_cast<size_t>(count) * (is_bf16 ? 2 : 4));
    return;
  }
  const float at_target = (e[target] * inverse - 1.0f) * scale;
  const Lanes inverses = lanes_set(inverse), scales = lanes_set(scale);
  // The narrow row never overtakes the wide one that it is made of.
  for (int64_t j = 0; j < count; j += kLanes) {
    const Lanes value = (lanes_load(e + j) * inverses) * scales;
    if (is_bf16)
      lanes_store(narrow + j, value);
    else
      lanes_store(e + j, value);
  }
  if (is_bf16)
    narrow[target] = float_to_bf16(at_target);
  else
    e[target] = at_target;
}

}  // namespace naite::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace naite::kernels::cpu {

LossRows loss_rows(Isa isa) {
  return {NAITE_CHOOSE(isa, loss_softmax), NAITE_CHOOSE(isa, loss_gradient)};
}

}  // namespace naite::kernels::cpu
#endif
