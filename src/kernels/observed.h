// SPDX-License-Identifier: Apache-2.0
#pragma once
// A backend that forwards every operation to another one and tells an observer what was called, how
// long it took and how many floating-point operations its products have: `naite train --profile`,
// and the test that no operation lacks a row in the table.
#include <functional>
#include <vector>

#include "kernels/kernels.h"

namespace naite::kernels {

struct OperationCall {
  std::string_view name;
  double begin_seconds = 0, end_seconds = 0;  // of a steady clock
  double flops = 0;                           // of products and attention; 0 elsewhere
};

class ObservedKernels final : public Kernels {
 public:
  using Observer = std::function<void(const OperationCall&)>;
  // `inner` must outlive this object.
  ObservedKernels(Kernels& inner, Observer observer)
      : inner_(inner), observer_(std::move(observer)) {}

  static const std::vector<std::string_view>& operation_names();

  std::string name() const override { return inner_.name(); }
  void* allocate(int64_t bytes) override { return inner_.allocate(bytes); }
  void release(void* memory, int64_t bytes) override { inner_.release(memory, bytes); }
  void upload(void* to, const void* from_host, int64_t bytes) override {
    inner_.upload(to, from_host, bytes);
  }
  void download(void* to_host, const void* from, int64_t bytes) override {
    inner_.download(to_host, from, bytes);
  }
  double measure_peak_flops(DType compute) override { return inner_.measure_peak_flops(compute); }
  int64_t fixed_bytes() const override { return inner_.fixed_bytes(); }
  int64_t prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols) const override {
    return inner_.prepared_bytes(use, compute, rows, cols);
  }
  int64_t linear_workspace(DType compute, int64_t tokens, int64_t in, int64_t out) const override {
    return inner_.linear_workspace(compute, tokens, in, out);
  }
  int64_t embed_workspace(int64_t tokens, int64_t vocabulary) const override {
    return inner_.embed_workspace(tokens, vocabulary);
  }
  int64_t rms_norm_workspace(int64_t tokens, int64_t cols) const override {
    return inner_.rms_norm_workspace(tokens, cols);
  }
  int64_t attention_workspace(DType compute, int64_t tokens, int64_t keys,
                              AttentionArguments arguments) const override {
    return inner_.attention_workspace(compute, tokens, keys, arguments);
  }
  int64_t poly_norm_gated_workspace(int64_t tokens) const override {
    return inner_.poly_norm_gated_workspace(tokens);
  }
  int64_t subtract_shared_workspace(int64_t tokens) const override {
    return inner_.subtract_shared_workspace(tokens);
  }
  int64_t linear_cross_entropy_workspace(DType compute, int64_t tokens, int64_t in,
                                         int64_t vocabulary, bool backward) const override {
    return inner_.linear_cross_entropy_workspace(compute, tokens, in, vocabulary, backward);
  }

  void prepare(void* prepared, Use use, DType compute, View master) override;
  float sum_squares(View x) override;
  void linear(std::span<const Projection> parts, View x, Workspace workspace) override;
  void linear_backward_input(Gradient dx, std::span<const Projection> parts,
                             Workspace workspace) override;
  void linear_backward_weight(Gradient dw, View dy, View x, Workspace workspace) override;
  void column_sum(Gradient dbias, View dy, Workspace workspace) override;
  void embed(View y, View ids, View table) override;
  void embed_backward(Gradient dtable, View dy, View ids, Workspace workspace) override;
  void rms_norm(View y, View rstd, View sum, View x, View delta, View w,
                NormArguments arguments) override;
  void rms_norm_backward(Gradient dx, Gradient ddelta, Gradient dw, View dy, View dsum, View x,
                         View rstd, View w, NormArguments arguments, Workspace workspace) override;
  void rope(View y, View x, View positions, View table, RopeArguments arguments) override;
  void rope_backward(Gradient dx, View dy, View positions, View table,
                     RopeArguments arguments) override;
  void attention(View y, View lse, View peaks, View q, View k, View v, View spans,
                 AttentionArguments arguments, Workspace workspace) override;
  void attention_backward(Gradient dq, Gradient dk, Gradient dv, View dy, View y, View lse, View q,
                          View k, View v, View spans, AttentionArguments arguments,
                          Workspace workspace) override;
  void store_rows(View cache, View x, View slots) override;
  void gated(View y, View gate, View up, Activation activation) override;
  void gated_backward(Gradient dgate, Gradient dup, View dy, View gate, View up,
                      Activation activation) override;
  void poly_norm_gated(View y, View rstd, View gate, View up, View w, View b,
                       double epsilon) override;
  void poly_norm_gated_backward(Gradient dgate, Gradient dup, Gradient dw, Gradient db, View dy,
                                View rstd, View gate, View up, View w, View b,
                                Workspace workspace) override;
  void differential_lambda(View lambda, LambdaVectors vectors, double initial) override;
  void differential_lambda_backward(LambdaGradients gradients, View dlambda,
                                    LambdaVectors vectors) override;
  void subtract_shared(View y, View x, View shared, View factor, int64_t head_dim) override;
  void subtract_shared_backward(Gradient dx, Gradient dshared, Gradient dfactor, View dy,
                                View shared, View factor, int64_t head_dim,
                                Workspace workspace) override;
  void linear_cross_entropy(View loss, View x, View w, View targets, Workspace workspace) override;
  void linear_cross_entropy_backward(View loss, Gradient dx, Gradient dw, View x, View w,
                                     View targets, View scale, Workspace workspace) override;
  void add(View y, View a, View b) override;
  void zero(View y) override;
  void scale(View y, View x, float factor) override;
  void column_max(View y, View x) override;
  void adamw(View parameter, View gradient, View m, View v, AdamWArguments arguments) override;
  int64_t muon_workspace(int64_t rows, int64_t cols) const override {
    return inner_.muon_workspace(rows, cols);
  }
  void muon(View parameter, View gradient, View m, MuonArguments arguments,
            Workspace workspace) override;

 private:
  template <class Operation>
  void observe(std::string_view name, double flops, Operation operation);

  Kernels& inner_;
  Observer observer_;
};

}  // namespace naite::kernels
