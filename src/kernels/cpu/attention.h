// SPDX-License-Identifier: Apache-2.0
#pragma once
// Attention without a T x T matrix, and the key/value cache's writer. kernels.h states the
// arithmetic.
#include "kernels/cpu/context.h"
#include "kernels/kernels.h"

namespace naite::kernels::cpu {

int64_t attention_workspace(const Context& context, DType compute, int64_t tokens, int64_t keys,
                            AttentionArguments arguments);
void attention(const Context& context, View y, View lse, View peaks, View q, View k, View v,
               View spans,
               AttentionArguments arguments, Workspace workspace);
void attention_backward(const Context& context, Gradient dq, Gradient dk, Gradient dv, View dy,
                        View y, View lse, View q, View k, View v, View spans,
                        AttentionArguments arguments, Workspace workspace);
void store_rows(const Context& context, View cache, View x, View slots);

}  // namespace naite::kernels::cpu
