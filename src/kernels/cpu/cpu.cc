// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/probe.h"
#include "kernels/cpu/products.h"

namespace naite::kernels::cpu {

namespace {

// Larger than a core's second-level cache has room for, so no operation wants more.
constexpr int64_t kThreadBytes = int64_t{2} << 20;

constexpr int kPeakSamples = 9;

}  // namespace

CpuKernels::CpuKernels(ThreadPool& pool, Isa isa) : context_{.pool = pool, .isa = isa} {
  context_.thread_bytes = kThreadBytes;
  context_.thread_memory = static_cast<std::byte*>(allocate(fixed_bytes()));
}

CpuKernels::~CpuKernels() { release(context_.thread_memory, fixed_bytes()); }

std::string CpuKernels::name() const { return fmt::format("cpu {}", isa_name(context_.isa)); }

double CpuKernels::measure_peak_flops([[maybe_unused]] DType compute) {
#if defined(__x86_64__)
  Probe probe(context_.pool);
  // The largest: what disturbs a sample only makes it smaller, and may last for most of them.
  double gflops = 0;
  for (int sample = 0; sample < kPeakSamples; ++sample)
    gflops = std::max(gflops, probe.gflops(arithmetic_of(context_.isa, compute)));
  return 1e9 * gflops;
#else
  return 0;
#endif
}

// --- memory -------------------------------------------------------------------------------------

void* CpuKernels::allocate(int64_t bytes) { return allocate_zeroed(bytes); }

void CpuKernels::release(void* memory, int64_t bytes) { release_zeroed(memory, bytes); }

void CpuKernels::upload(void* to, const void* from_host, int64_t bytes) {
  std::memcpy(to, from_host, static_cast<size_t>(bytes));
}

void CpuKernels::download(void* to_host, const void* from, int64_t bytes) {
  std::memcpy(to_host, from, static_cast<size_t>(bytes));
}

int64_t CpuKernels::fixed_bytes() const {
  return context_.thread_bytes * context_.pool.num_threads();
}

// --- parameters and products --------------------------------------------------------------------

int64_t CpuKernels::prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols) const {
  return cpu::prepared_bytes(context_, use, compute, rows, cols);
}

void CpuKernels::prepare(void* prepared, Use use, DType compute, View master) {
  cpu::prepare(context_, prepared, use, compute, master);
}

int64_t CpuKernels::linear_workspace(DType compute, int64_t tokens, int64_t in, int64_t out) const {
  return std::max(cpu::linear_workspace(context_, compute, tokens, in, out),
                  cpu::column_sum_workspace(context_, tokens, out));
}

void CpuKernels::linear(std::span<const Projection> parts, View x, Workspace workspace) {
  cpu::linear(context_, parts, x, workspace);
}

void CpuKernels::linear_backward_input(Gradient dx, std::span<const Projection> parts,
                                       Workspace workspace) {
  cpu::linear_backward_input(context_, dx, parts, workspace);
}

void CpuKernels::linear_backward_weight(Gradient dw, View dy, View x, Workspace workspace) {
  cpu::linear_backward_weight(context_, dw, dy, x, workspace);
}

void CpuKernels::column_sum(Gradient dbias, View dy, Workspace workspace) {
  cpu::column_sum(context_, dbias, dy, workspace);
}

int64_t CpuKernels::linear_cross_entropy_workspace(DType compute, int64_t tokens, int64_t in,
                                                   int64_t vocabulary, bool backward) const {
  return cpu::linear_cross_entropy_workspace(context_, compute, tokens, in, vocabulary, backward);
}

void CpuKernels::linear_cross_entropy(View loss, View x, View w, View targets,
                                      Workspace workspace) {
  cpu::linear_cross_entropy(context_, loss, x, w, targets, workspace);
}

void CpuKernels::linear_cross_entropy_backward(View loss, Gradient dx, Gradient dw, View x, View w,
                                               View targets, View scale, Workspace workspace) {
  cpu::linear_cross_entropy_backward(context_, loss, dx, dw, x, w, targets, scale, workspace);
}

// --- attention ----------------------------------------------------------------------------------

int64_t CpuKernels::attention_workspace(DType compute, int64_t tokens, int64_t keys,
                                        AttentionArguments arguments) const {
  return cpu::attention_workspace(context_, compute, tokens, keys, arguments);
}

void CpuKernels::attention(View y, View lse, View peaks, View q, View k, View v, View spans,
                           AttentionArguments arguments, Workspace workspace) {
  cpu::attention(context_, y, lse, peaks, q, k, v, spans, arguments, workspace);
}

void CpuKernels::attention_backward(Gradient dq, Gradient dk, Gradient dv, View dy, View y,
                                    View lse, View q, View k, View v, View spans,
                                    AttentionArguments arguments, Workspace workspace) {
  cpu::attention_backward(context_, dq, dk, dv, dy, y, lse, q, k, v, spans, arguments, workspace);
}

void CpuKernels::store_rows(View cache, View x, View slots) {
  cpu::store_rows(context_, cache, x, slots);
}

// --- element by element -------------------------------------------------------------------------

int64_t CpuKernels::embed_workspace(int64_t tokens, int64_t vocabulary) const {
  return cpu::embed_workspace(context_, tokens, vocabulary);
}

void CpuKernels::embed(View y, View ids, View table) { cpu::embed(context_, y, ids, table); }

void CpuKernels::embed_backward(Gradient dtable, View dy, View ids, Workspace workspace) {
  cpu::embed_backward(context_, dtable, dy, ids, workspace);
}

int64_t CpuKernels::rms_norm_workspace(int64_t tokens, int64_t cols) const {
  return cpu::rms_norm_workspace(context_, tokens, cols);
}

void CpuKernels::rms_norm(View y, View rstd, View sum, View x, View delta, View w,
                          NormArguments arguments) {
  cpu::rms_norm(context_, y, rstd, sum, x, delta, w, arguments);
}

void CpuKernels::rms_norm_backward(Gradient dx, Gradient ddelta, Gradient dw, View dy, View dsum,
                                   View x, View rstd, View w, NormArguments arguments,
                                   Workspace workspace) {
  cpu::rms_norm_backward(context_, dx, ddelta, dw, dy, dsum, x, rstd, w, arguments, workspace);
}

void CpuKernels::rope(View y, View x, View positions, View table, RopeArguments arguments) {
  cpu::rope(context_, y, x, positions, table, arguments);
}

void CpuKernels::rope_backward(Gradient dx, View dy, View positions, View table,
                               RopeArguments arguments) {
  cpu::rope_backward(context_, dx, dy, positions, table, arguments);
}

void CpuKernels::gated(View y, View gate, View up, Activation activation) {
  cpu::gated(context_, y, gate, up, activation);
}

void CpuKernels::gated_backward(Gradient dgate, Gradient dup, View dy, View gate, View up,
                                Activation activation) {
  cpu::gated_backward(context_, dgate, dup, dy, gate, up, activation);
}

int64_t CpuKernels::poly_norm_gated_workspace(int64_t tokens) const {
  return cpu::poly_norm_gated_workspace(context_, tokens);
}

void CpuKernels::poly_norm_gated(View y, View rstd, View gate, View up, View w, View b,
                                 double epsilon) {
  cpu::poly_norm_gated(context_, y, rstd, gate, up, w, b, epsilon);
}

void CpuKernels::poly_norm_gated_backward(Gradient dgate, Gradient dup, Gradient dw, Gradient db,
                                          View dy, View rstd, View gate, View up, View w, View b,
                                          Workspace workspace) {
  cpu::poly_norm_gated_backward(context_, dgate, dup, dw, db, dy, rstd, gate, up, w, b, workspace);
}

// --- differential attention ---------------------------------------------------------------------

void CpuKernels::differential_lambda(View lambda, LambdaVectors vectors, double initial) {
  cpu::differential_lambda(context_, lambda, vectors, initial);
}

void CpuKernels::differential_lambda_backward(LambdaGradients gradients, View dlambda,
                                              LambdaVectors vectors) {
  cpu::differential_lambda_backward(context_, gradients, dlambda, vectors);
}

int64_t CpuKernels::subtract_shared_workspace(int64_t tokens) const {
  return cpu::subtract_shared_workspace(context_, tokens);
}

void CpuKernels::subtract_shared(View y, View x, View shared, View factor, int64_t head_dim) {
  cpu::subtract_shared(context_, y, x, shared, factor, head_dim);
}

void CpuKernels::subtract_shared_backward(Gradient dx, Gradient dshared, Gradient dfactor, View dy,
                                          View shared, View factor, int64_t head_dim,
                                          Workspace workspace) {
  cpu::subtract_shared_backward(context_, dx, dshared, dfactor, dy, shared, factor, head_dim,
                                workspace);
}

// --- sums and updates ---------------------------------------------------------------------------

float CpuKernels::sum_squares(View x) { return cpu::sum_squares(context_, x); }

void CpuKernels::add(View y, View a, View b) { cpu::add(context_, y, a, b); }

void CpuKernels::zero(View y) { cpu::zero(context_, y); }

void CpuKernels::scale(View y, View x, float factor) { cpu::scale(context_, y, x, factor); }

void CpuKernels::column_max(View y, View x) { cpu::column_max(context_, y, x); }

void CpuKernels::adamw(View parameter, View gradient, View m, View v, AdamWArguments arguments) {
  cpu::adamw(context_, parameter, gradient, m, v, arguments);
}

int64_t CpuKernels::muon_workspace(int64_t rows, int64_t cols) const {
  return cpu::muon_workspace(context_, rows, cols);
}

void CpuKernels::muon(View parameter, View gradient, View m, MuonArguments arguments,
                      Workspace workspace) {
  cpu::muon(context_, parameter, gradient, m, arguments, workspace);
}

}  // namespace naite::kernels::cpu

namespace naite::kernels {

Result<std::unique_ptr<Kernels>> make_cpu(ThreadPool& pool, std::string_view isa_name) {
  NAITE_ASSIGN(const cpu::Isa isa, cpu::choose_isa(isa_name));
  return std::unique_ptr<Kernels>(std::make_unique<cpu::CpuKernels>(pool, isa));
}

}  // namespace naite::kernels
