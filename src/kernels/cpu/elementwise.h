// SPDX-License-Identifier: Apache-2.0
#pragma once
// Everything that memory bandwidth paces: embedding, norms, rotary positions, gates, sums and
// updates. kernels.h states the arithmetic.
#include "kernels/cpu/context.h"
#include "kernels/kernels.h"

namespace naite::kernels::cpu {

int64_t embed_workspace(const Context& context, int64_t tokens, int64_t vocabulary);
void embed(const Context& context, View y, View ids, View table);
void embed_backward(const Context& context, Gradient dtable, View dy, View ids,
                    Workspace workspace);

int64_t rms_norm_workspace(const Context& context, int64_t tokens, int64_t cols);
void rms_norm(const Context& context, View y, View rstd, View sum, View x, View delta, View w,
              NormArguments arguments);
void rms_norm_backward(const Context& context, Gradient dx, Gradient ddelta, Gradient dw, View dy,
                       View dsum, View x, View rstd, View w, NormArguments arguments,
                       Workspace workspace);

void rope(const Context& context, View y, View x, View positions, View table,
          RopeArguments arguments);
void rope_backward(const Context& context, Gradient dx, View dy, View positions, View table,
                   RopeArguments arguments);

void gated(const Context& context, View y, View gate, View up, Activation activation);
void gated_backward(const Context& context, Gradient dgate, Gradient dup, View dy, View gate,
                    View up, Activation activation);

// linear_workspace() covers this as well: the bias of a layer is summed in the layer's workspace.
int64_t column_sum_workspace(const Context& context, int64_t tokens, int64_t cols);
void column_sum(const Context& context, Gradient dbias, View dy, Workspace workspace);

float sum_squares(const Context& context, View x);
void add(const Context& context, View y, View a, View b);
void zero(const Context& context, View y);
void adamw(const Context& context, View parameter, View gradient, View m, View v,
           AdamWArguments arguments);

}  // namespace naite::kernels::cpu
