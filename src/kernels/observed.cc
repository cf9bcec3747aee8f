// SPDX-License-Identifier: Apache-2.0
#include "kernels/observed.h"

#include <algorithm>
#include <chrono>

namespace naite::kernels {

namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double products_flops(std::span<const Projection> parts, int64_t tokens) {
  double flops = 0;
  for (const Projection& part : parts)
    flops += 2.0 * static_cast<double>(tokens) * static_cast<double>(part.w.size());
  return flops;
}

// Two products over the visible pairs, `passes` times.
double attention_flops(const View& spans, const AttentionArguments& a, int passes) {
  double pairs = 0;
  for (int64_t t = 0; t < spans.rows; ++t) {
    const int64_t seen = spans.as<int32_t>()[2 * t + 1] - spans.as<int32_t>()[2 * t];
    pairs += static_cast<double>(a.window > 0 ? std::min(seen, a.window) : seen);
  }
  return passes * 2.0 * pairs * static_cast<double>(a.num_heads * (a.head_dim + a.value_dim));
}

}  // namespace

template <class Operation>
void ObservedKernels::observe(std::string_view name, double flops, Operation operation) {
  OperationCall call{name, now_seconds(), 0, flops};
  operation();
  call.end_seconds = now_seconds();
  observer_(call);
}

const std::vector<std::string_view>& ObservedKernels::operation_names() {
  static const std::vector<std::string_view> names = {"prepare",
                                                      "sum_squares",
                                                      "linear",
                                                      "linear_backward_input",
                                                      "linear_backward_weight",
                                                      "column_sum",
                                                      "embed",
                                                      "embed_backward",
                                                      "rms_norm",
                                                      "rms_norm_backward",
                                                      "rope",
                                                      "rope_backward",
                                                      "attention",
                                                      "attention_backward",
                                                      "store_rows",
                                                      "gated",
                                                      "gated_backward",
                                                      "poly_norm_gated",
                                                      "poly_norm_gated_backward",
                                                      "differential_lambda",
                                                      "differential_lambda_backward",
                                                      "subtract_shared",
                                                      "subtract_shared_backward",
                                                      "linear_cross_entropy",
                                                      "linear_cross_entropy_backward",
                                                      "add",
                                                      "zero",
                                                      "scale",
                                                      "column_max",
                                                      "adamw",
                                                      "muon"};
  return names;
}

void ObservedKernels::prepare(void* prepared, Use use, DType compute, View master) {
  observe("prepare", 0, [&] { inner_.prepare(prepared, use, compute, master); });
}

float ObservedKernels::sum_squares(View x) {
  float result = 0;
  observe("sum_squares", 0, [&] { result = inner_.sum_squares(x); });
  return result;
}

void ObservedKernels::linear(std::span<const Projection> parts, View x, Workspace workspace) {
  observe("linear", products_flops(parts, x.rows), [&] { inner_.linear(parts, x, workspace); });
}

void ObservedKernels::linear_backward_input(Gradient dx, std::span<const Projection> parts,
                                            Workspace workspace) {
  observe("linear_backward_input", products_flops(parts, dx.view.rows),
          [&] { inner_.linear_backward_input(dx, parts, workspace); });
}

void ObservedKernels::linear_backward_weight(Gradient dw, View dy, View x, Workspace workspace) {
  observe("linear_backward_weight",
          2.0 * static_cast<double>(dy.size()) * static_cast<double>(x.cols),
          [&] { inner_.linear_backward_weight(dw, dy, x, workspace); });
}

void ObservedKernels::column_sum(Gradient dbias, View dy, Workspace workspace) {
  observe("column_sum", 0, [&] { inner_.column_sum(dbias, dy, workspace); });
}

void ObservedKernels::embed(View y, View ids, View table) {
  observe("embed", 0, [&] { inner_.embed(y, ids, table); });
}

void ObservedKernels::embed_backward(Gradient dtable, View dy, View ids, Workspace workspace) {
  observe("embed_backward", 0, [&] { inner_.embed_backward(dtable, dy, ids, workspace); });
}

void ObservedKernels::rms_norm(View y, View rstd, View sum, View x, View delta, View w,
                               NormArguments arguments) {
  observe("rms_norm", 0, [&] { inner_.rms_norm(y, rstd, sum, x, delta, w, arguments); });
}

void ObservedKernels::rms_norm_backward(Gradient dx, Gradient ddelta, Gradient dw, View dy,
                                        View dsum, View x, View rstd, View w,
                                        NormArguments arguments, Workspace workspace) {
  observe("rms_norm_backward", 0, [&] {
    inner_.rms_norm_backward(dx, ddelta, dw, dy, dsum, x, rstd, w, arguments, workspace);
  });
}

void ObservedKernels::rope(View y, View x, View positions, View table, RopeArguments arguments) {
  observe("rope", 0, [&] { inner_.rope(y, x, positions, table, arguments); });
}

void ObservedKernels::rope_backward(Gradient dx, View dy, View positions, View table,
                                    RopeArguments arguments) {
  observe("rope_backward", 0, [&] { inner_.rope_backward(dx, dy, positions, table, arguments); });
}

void ObservedKernels::attention(View y, View lse, View peaks, View q, View k, View v, View spans,
                                AttentionArguments arguments, Workspace workspace) {
  observe("attention", attention_flops(spans, arguments, 1),
          [&] { inner_.attention(y, lse, peaks, q, k, v, spans, arguments, workspace); });
}

void ObservedKernels::attention_backward(Gradient dq, Gradient dk, Gradient dv, View dy, View y,
                                         View lse, View q, View k, View v, View spans,
                                         AttentionArguments arguments, Workspace workspace) {
  observe("attention_backward", attention_flops(spans, arguments, 2), [&] {
    inner_.attention_backward(dq, dk, dv, dy, y, lse, q, k, v, spans, arguments, workspace);
  });
}

void ObservedKernels::store_rows(View cache, View x, View slots) {
  observe("store_rows", 0, [&] { inner_.store_rows(cache, x, slots); });
}

void ObservedKernels::gated(View y, View gate, View up, Activation activation) {
  observe("gated", 0, [&] { inner_.gated(y, gate, up, activation); });
}

void ObservedKernels::gated_backward(Gradient dgate, Gradient dup, View dy, View gate, View up,
                                     Activation activation) {
  observe("gated_backward", 0,
          [&] { inner_.gated_backward(dgate, dup, dy, gate, up, activation); });
}

void ObservedKernels::poly_norm_gated(View y, View rstd, View gate, View up, View w, View b,
                                      double epsilon) {
  observe("poly_norm_gated", 0,
          [&] { inner_.poly_norm_gated(y, rstd, gate, up, w, b, epsilon); });
}

void ObservedKernels::poly_norm_gated_backward(Gradient dgate, Gradient dup, Gradient dw,
                                               Gradient db, View dy, View rstd, View gate, View up,
                                               View w, View b, Workspace workspace) {
  observe("poly_norm_gated_backward", 0, [&] {
    inner_.poly_norm_gated_backward(dgate, dup, dw, db, dy, rstd, gate, up, w, b, workspace);
  });
}

void ObservedKernels::differential_lambda(View lambda, LambdaVectors vectors, double initial) {
  observe("differential_lambda", 0,
          [&] { inner_.differential_lambda(lambda, vectors, initial); });
}

void ObservedKernels::differential_lambda_backward(LambdaGradients gradients, View dlambda,
                                                   LambdaVectors vectors) {
  observe("differential_lambda_backward", 0,
          [&] { inner_.differential_lambda_backward(gradients, dlambda, vectors); });
}

void ObservedKernels::subtract_shared(View y, View x, View shared, View factor, int64_t head_dim) {
  observe("subtract_shared", 0,
          [&] { inner_.subtract_shared(y, x, shared, factor, head_dim); });
}

void ObservedKernels::subtract_shared_backward(Gradient dx, Gradient dshared, Gradient dfactor,
                                               View dy, View shared, View factor, int64_t head_dim,
                                               Workspace workspace) {
  observe("subtract_shared_backward", 0, [&] {
    inner_.subtract_shared_backward(dx, dshared, dfactor, dy, shared, factor, head_dim, workspace);
  });
}

void ObservedKernels::linear_cross_entropy(View loss, View x, View w, View targets,
                                           Workspace workspace) {
  observe("linear_cross_entropy", 2.0 * static_cast<double>(x.size()) * static_cast<double>(w.rows),
          [&] { inner_.linear_cross_entropy(loss, x, w, targets, workspace); });
}

void ObservedKernels::linear_cross_entropy_backward(View loss, Gradient dx, Gradient dw, View x,
                                                    View w, View targets, View scale,
                                                    Workspace workspace) {
  observe("linear_cross_entropy_backward",
          6.0 * static_cast<double>(x.size()) * static_cast<double>(w.rows), [&] {
            inner_.linear_cross_entropy_backward(loss, dx, dw, x, w, targets, scale, workspace);
          });
}

void ObservedKernels::add(View y, View a, View b) {
  observe("add", 0, [&] { inner_.add(y, a, b); });
}

void ObservedKernels::zero(View y) {
  observe("zero", 0, [&] { inner_.zero(y); });
}

void ObservedKernels::scale(View y, View x, float factor) {
  observe("scale", 0, [&] { inner_.scale(y, x, factor); });
}

void ObservedKernels::column_max(View y, View x) {
  observe("column_max", 0, [&] { inner_.column_max(y, x); });
}

void ObservedKernels::adamw(View parameter, View gradient, View m, View v,
                            AdamWArguments arguments) {
  observe("adamw", 0, [&] { inner_.adamw(parameter, gradient, m, v, arguments); });
}

void ObservedKernels::muon(View parameter, View gradient, View m, MuonArguments arguments,
                           Workspace workspace) {
  // Five times the two symmetric products and the one that applies them.
  const auto l = static_cast<double>(std::max(parameter.rows, parameter.cols));
  const auto s = static_cast<double>(std::min(parameter.rows, parameter.cols));
  observe("muon", 5 * 2 * (2 * l * s * s + s * s * s),
          [&] { inner_.muon(parameter, gradient, m, arguments, workspace); });
}

}  // namespace naite::kernels
