// SPDX-License-Identifier: Apache-2.0
#pragma once
// Products and what is fused to them. kernels.h states the arithmetic; here: linear layers in all
// three training directions, their prepared weights, and the output projection with its loss.
#include "kernels/cpu/context.h"
#include "kernels/kernels.h"

namespace naite::kernels::cpu {

int64_t prepared_bytes(const Context& context, Use use, DType compute, int64_t rows, int64_t cols);
void prepare(const Context& context, void* prepared, Use use, DType compute, View master);

int64_t linear_workspace(const Context& context, DType compute, int64_t tokens, int64_t in,
                         int64_t out);
void linear(const Context& context, std::span<const Projection> parts, View x, Workspace workspace);
void linear_backward_input(const Context& context, Gradient dx, std::span<const Projection> parts,
                           Workspace workspace);
void linear_backward_weight(const Context& context, Gradient dw, View dy, View x,
                            Workspace workspace);

int64_t linear_cross_entropy_workspace(const Context& context, DType compute, int64_t tokens,
                                       int64_t in, int64_t vocabulary, bool backward);
void linear_cross_entropy(const Context& context, View loss, View x, View w, View targets,
                          Workspace workspace);
void linear_cross_entropy_backward(const Context& context, View loss, Gradient dx, Gradient dw,
                                   View x, View w, View targets, View scale, Workspace workspace);

}  // namespace naite::kernels::cpu
