// SPDX-License-Identifier: Apache-2.0
#pragma once
// Everything that memory bandwidth paces: embedding, norms, rotary positions, gates, differences,
// sums and updates. kernels.h states the arithmetic.
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

int64_t poly_norm_gated_workspace(const Context& context, int64_t tokens);
void poly_norm_gated(const Context& context, View y, View rstd, View gate, View up, View w, View b,
                     double epsilon);
void poly_norm_gated_backward(const Context& context, Gradient dgate, Gradient dup, Gradient dw,
                              Gradient db, View dy, View rstd, View gate, View up, View w, View b,
                              Workspace workspace);

void differential_lambda(const Context& context, View lambda, LambdaVectors vectors,
                         double initial);
void differential_lambda_backward(const Context& context, LambdaGradients gradients, View dlambda,
                                  LambdaVectors vectors);
int64_t subtract_shared_workspace(const Context& context, int64_t tokens);
void subtract_shared(const Context& context, View y, View x, View shared, View factor,
                     int64_t head_dim);
void subtract_shared_backward(const Context& context, Gradient dx, Gradient dshared,
                              Gradient dfactor, View dy, View shared, View factor, int64_t head_dim,
                              Workspace workspace);

// linear_workspace() covers this as well: the bias of a layer is summed in the layer's workspace.
int64_t column_sum_workspace(const Context& context, int64_t tokens, int64_t cols);
void column_sum(const Context& context, Gradient dbias, View dy, Workspace workspace);

float sum_squares(const Context& context, View x);
void add(const Context& context, View y, View a, View b);
void zero(const Context& context, View y);
void scale(const Context& context, View y, View x, float factor);
void column_max(const Context& context, View y, View x);
void adamw(const Context& context, View parameter, View gradient, View m, View v,
           AdamWArguments arguments);
int64_t muon_workspace(const Context& context, int64_t rows, int64_t cols);
void muon(const Context& context, View parameter, View gradient, View m, MuonArguments arguments,
          Workspace workspace);

}  // namespace naite::kernels::cpu
