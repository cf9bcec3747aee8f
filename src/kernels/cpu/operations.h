// SPDX-License-Identifier: Apache-2.0
#pragma once
// The operations on the CPU, one function each, defined in the files of this folder; operations.h
// of the folder above states the arithmetic. Everything lives in the caller's views and workspace
// and in the threads' scratch, so no operation allocates.
#include "kernels/cpu/context.h"
#include "kernels/kernels.h"

namespace naite::kernels::cpu {

#define NAITE_RUN(Op) run(const Context& context, const Op& op)
void NAITE_OPERATIONS(NAITE_RUN);
#undef NAITE_RUN

// Of every operation that has a workspace; linear layers do all in the threads' scratch.
inline int64_t workspace_bytes(const Context&, const Linear&) { return 0; }
inline int64_t workspace_bytes(const Context&, const LinearBackwardInput&) { return 0; }
inline int64_t workspace_bytes(const Context&, const LinearBackwardWeight&) { return 0; }
int64_t workspace_bytes(const Context& context, const ColumnSum& op);
int64_t workspace_bytes(const Context& context, const EmbedBackward& op);
int64_t workspace_bytes(const Context& context, const RmsNormBackward& op);
int64_t workspace_bytes(const Context& context, const Attention& op);
int64_t workspace_bytes(const Context& context, const AttentionBackward& op);
int64_t workspace_bytes(const Context& context, const SubtractSharedBackward& op);
int64_t workspace_bytes(const Context& context, const PolyNormGatedBackward& op);
int64_t workspace_bytes(const Context& context, const LinearCrossEntropy& op);
int64_t workspace_bytes(const Context& context, const LinearCrossEntropyBackward& op);
int64_t workspace_bytes(const Context& context, const Muon& op);

// Bytes of what Prepare writes; 0: the master is read in place.
int64_t prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols);

// Joins the blocks of one column, `stride` floats apart, and delivers the finished sum as the
// gradient's element `index`.
void join_column(const Gradient& to, int64_t index, const float* parts, int64_t blocks,
                 int64_t stride);

// The sum of squares where an operation of this folder needs it.
float sum_squares(const Context& context, const View& x);

}  // namespace naite::kernels::cpu
