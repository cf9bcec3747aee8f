// SPDX-License-Identifier: Apache-2.0
#pragma once
// The CPU backend: binds the list in kernels.h to this folder's free functions. Owns one scratch
// buffer per thread of the pool; everything else lives in the caller's views and workspaces, so no
// operation allocates.
#include "kernels/cpu/context.h"
#include "kernels/kernels.h"

namespace naite::kernels::cpu {

class CpuKernels final : public Kernels {
 public:
  CpuKernels(ThreadPool& pool, Isa isa);
  ~CpuKernels() override;
  CpuKernels(const CpuKernels&) = delete;

  std::string name() const override;
  double measure_peak_flops(DType compute) override;

  void* allocate(int64_t bytes) override;
  void release(void* memory, int64_t bytes) override;
  void upload(void* to, const void* from_host, int64_t bytes) override;
  void download(void* to_host, const void* from, int64_t bytes) override;
  int64_t fixed_bytes() const override;

  int64_t prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols) const override;
  void prepare(void* prepared, Use use, DType compute, View master) override;

  int64_t linear_workspace(DType compute, int64_t tokens, int64_t in, int64_t out) const override;
  void linear(std::span<const Projection> parts, View x, Workspace workspace) override;
  void linear_backward_input(Gradient dx, std::span<const Projection> parts,
                             Workspace workspace) override;
  void linear_backward_weight(Gradient dw, View dy, View x, Workspace workspace) override;
  void column_sum(Gradient dbias, View dy, Workspace workspace) override;

  int64_t embed_workspace(int64_t tokens, int64_t vocabulary) const override;
  void embed(View y, View ids, View table) override;
  void embed_backward(Gradient dtable, View dy, View ids, Workspace workspace) override;

  int64_t rms_norm_workspace(int64_t tokens, int64_t cols) const override;
  void rms_norm(View y, View rstd, View sum, View x, View delta, View w,
                NormArguments arguments) override;
  void rms_norm_backward(Gradient dx, Gradient ddelta, Gradient dw, View dy, View dsum, View x,
                         View rstd, View w, NormArguments arguments, Workspace workspace) override;

  void rope(View y, View x, View positions, View table, RopeArguments arguments) override;
  void rope_backward(Gradient dx, View dy, View positions, View table,
                     RopeArguments arguments) override;

  int64_t attention_workspace(DType compute, int64_t tokens, int64_t keys,
                              AttentionArguments arguments) const override;
  void attention(View y, View lse, View peaks, View q, View k, View v, View spans,
                 AttentionArguments arguments, Workspace workspace) override;
  void attention_backward(Gradient dq, Gradient dk, Gradient dv, View dy, View y, View lse, View q,
                          View k, View v, View spans, AttentionArguments arguments,
                          Workspace workspace) override;
  void store_rows(View cache, View x, View slots) override;

  void gated(View y, View gate, View up, Activation activation) override;
  void gated_backward(Gradient dgate, Gradient dup, View dy, View gate, View up,
                      Activation activation) override;

  int64_t poly_norm_gated_workspace(int64_t tokens) const override;
  void poly_norm_gated(View y, View rstd, View gate, View up, View w, View b,
                       double epsilon) override;
  void poly_norm_gated_backward(Gradient dgate, Gradient dup, Gradient dw, Gradient db, View dy,
                                View rstd, View gate, View up, View w, View b,
                                Workspace workspace) override;

  void differential_lambda(View lambda, LambdaVectors vectors, double initial) override;
  void differential_lambda_backward(LambdaGradients gradients, View dlambda,
                                    LambdaVectors vectors) override;
  int64_t subtract_shared_workspace(int64_t tokens) const override;
  void subtract_shared(View y, View x, View shared, View factor, int64_t head_dim) override;
  void subtract_shared_backward(Gradient dx, Gradient dshared, Gradient dfactor, View dy,
                                View shared, View factor, int64_t head_dim,
                                Workspace workspace) override;

  int64_t linear_cross_entropy_workspace(DType compute, int64_t tokens, int64_t in,
                                         int64_t vocabulary, bool backward) const override;
  void linear_cross_entropy(View loss, View x, View w, View targets, Workspace workspace) override;
  void linear_cross_entropy_backward(View loss, Gradient dx, Gradient dw, View x, View w,
                                     View targets, View scale, Workspace workspace) override;

  float sum_squares(View x) override;
  void add(View y, View a, View b) override;
  void zero(View y) override;
  void scale(View y, View x, float factor) override;
  void column_max(View y, View x) override;
  void adamw(View parameter, View gradient, View m, View v, AdamWArguments arguments) override;
  int64_t muon_workspace(int64_t rows, int64_t cols) const override;
  void muon(View parameter, View gradient, View m, MuonArguments arguments,
            Workspace workspace) override;

 private:
  Context context_;
};

}  // namespace naite::kernels::cpu
