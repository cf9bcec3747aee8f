// SPDX-License-Identifier: Apache-2.0
#pragma once
// The operations as model files write them. Each records one node; ops/*.cc has their three
// members. T is the number of tokens of the tape; everything is [T, columns].
#include <vector>

#include "tape/record.h"

namespace naite::tape {

// One parameter matrix [out, in], with an optional bias [1, out] (tape == nullptr: none).
struct Weight {
  Tensor matrix;
  Tensor bias = {};
};

// y = x w' + b for weights that share their input; results are in the compute dtype.
std::vector<Tensor> linear(Tensor x, const std::vector<Weight>& weights);
// The same in fp32: logits. Inference only.
Tensor logits(Tensor x, Tensor head);

// ids [T, 1] int32 -> [T, D] fp32.
Tensor embedding(Tensor ids, Tensor table);

// y = norm(x) (scale weight), for each of the row's `heads` vectors on its own.
Tensor rms_norm(Tensor x, Tensor weight, double epsilon, int64_t heads = 1, double scale = 1);
// The residual stream and the normed branch of it: sum = x + delta, y = norm(sum) weight.
struct Normed {
  Tensor sum, y;
};
Normed add_rms_norm(Tensor x, Tensor delta, Tensor weight, double epsilon);

// Turns each head's pairs by its token's position; table [positions, rotary_dim] fp32.
Tensor rope(Tensor x, Tensor positions, Tensor table, int64_t num_heads);

// The same, sorted into two tensors: of every group + 1 neighbouring heads the last is noise, the
// others are signal.
struct Parted {
  Tensor signal, noise;
};
Parted rope_parted(Tensor x, Tensor positions, Tensor table, int64_t num_heads, int64_t group);

// q [T, H head_dim], k, v as operations.h describes; spans [T, 2].
Tensor attention(Tensor q, Tensor k, Tensor v, Tensor spans, kernels::AttentionArguments arguments);
// The same, and for every head the largest score of all its queries, times scale log2 e: [1, H]
// fp32.
struct Attended {
  Tensor y, peaks;
};
Attended attention_with_peaks(Tensor q, Tensor k, Tensor v, Tensor spans,
                              kernels::AttentionArguments arguments);
// A key/value cache: writes x to the rows `slots` of the state, and returns the state. Inference
// only.
Tensor store_rows(Tensor state, Tensor x, Tensor slots);

// lambda [1, 1] = exp(q1 k1) - exp(q2 k2) + initial, from parameters [1, d].
Tensor differential_lambda(Tensor q1, Tensor k1, Tensor q2, Tensor k2, double initial);
// y = x - factor shared, where neighbouring heads of x share a head of `shared`.
Tensor subtract_shared(Tensor x, Tensor shared, Tensor factor, int64_t head_dim);

Tensor silu_mul(Tensor gate, Tensor up);
Tensor gelu_mul(Tensor gate, Tensor up);  // in the form with tanh
// PolyNorm(gate) up; weight [1, 3] is cubic, square, linear, bias [1, 1].
Tensor poly_norm_mul(Tensor gate, Tensor up, Tensor weight, Tensor bias, double epsilon);

// Loss per token [T, 1], natural logarithm; targets [T, 1] (-1: none), scale [T, 1] fp32 is the
// gradient that each token's loss receives.
Tensor linear_cross_entropy(Tensor x, Tensor head, Tensor targets, Tensor scale);
// The same losses. Inference only.
Tensor token_losses(Tensor x, Tensor head, Tensor targets);

}  // namespace naite::tape
