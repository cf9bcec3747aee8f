// SPDX-License-Identifier: Apache-2.0
#pragma once
// What operations work on: views of tensor memory that only a backend dereferences, where gradients
// go, and the numbers that operations take beside tensors.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/base.h"

namespace naite::kernels {

enum class DType : uint8_t {
  kF32,
  kBf16,
  kF64,  // reference backend only: gradients are checked in double
  kI32,
};
int64_t dtype_bytes(DType dtype);
std::string_view dtype_name(DType dtype);

struct View {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;

  int64_t size() const { return rows * cols; }
  int64_t bytes() const { return size() * dtype_bytes(dtype); }
  explicit operator bool() const { return data != nullptr; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// Where a gradient goes. Absent (wanted = false) when nobody needs it. The planner decides whether
// it is the first writer (write) or a later one (accumulate), so no buffer is ever cleared.
struct Gradient {
  View view;
  bool wanted = false;
  bool accumulate = false;
};

// How an operation reads a parameter. The optimizer owns the fp32 master; operations read what
// prepare() made of it after the last update.
enum class Use : uint8_t {
  kActivation,  // not a parameter
  kVector,      // norm weights and biases: row-major in the compute dtype
  kTable,       // embedding rows: row-major in the compute dtype
  kMatrix,      // linear weights [out, in]: rounded to the compute dtype, in a private layout
};

using Workspace = std::span<std::byte>;

// One weight of a linear layer that shares its input with others: y = x w' + bias.
struct Projection {
  View y;     // [T, out]; its gradient in the backward functions
  View w;     // [out, in], prepared as kMatrix
  View bias;  // [1, out] prepared as kVector, or absent; added once to the finished chain
};

struct NormArguments {
  double epsilon = 1e-6;
  int64_t heads = 1;  // a row holds `heads` vectors that are normed one by one with the same weight
  double scale = 1;   // factor on the weight
};

struct RopeArguments {
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;  // the first rotary_dim columns of every head turn, half-split pairs
  // Of every `period` neighbouring heads only `picked`, from `first` on, are turned; side by side
  // they make y. One call for each part sorts the heads of grouped differential attention.
  int64_t period = 1, first = 0, picked = 1;
  int64_t num_picked() const { return num_heads / period * picked; }
  int64_t head(int64_t i) const { return i / picked * period + first + i % picked; }
};

struct AttentionArguments {
  int64_t num_heads = 0;     // H
  int64_t num_kv_heads = 0;  // K, divides H; query head h reads key/value head h / (H / K)
  int64_t head_dim = 0;      // width of queries and keys
  int64_t value_dim = 0;     // width of values and of the output, per head
  double scale = 0;          // of the scores, usually 1 / sqrt(head_dim)
  int64_t window = 0;        // a query sees its last `window` keys, itself included; 0: all
  // Keys lie in a cache of S rows, spans anywhere in it; else S = T and a query's own key is row t.
  bool cached = false;
};

enum class Activation : uint8_t { kSilu };

// The vectors of lambda = exp(q1 k1) - exp(q2 k2) + initial, [1, d] each, prepared as kVector.
struct LambdaVectors {
  View q1, k1, q2, k2;
};
struct LambdaGradients {
  Gradient q1, k1, q2, k2;
};

struct AdamWArguments {  // Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019
  float gradient_scale = 1;  // global-norm clip
  float beta1 = 0, one_minus_beta1 = 0, beta2 = 0, one_minus_beta2 = 0;
  float inverse_correction1 = 0, inverse_correction2 = 0;  // 1 / (1 - beta^step)
  float epsilon = 0;
  float learning_rate = 0;
  float decay = 1;  // 1 - learning_rate * weight_decay
};

// Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, with the size of
// the step that Liu et al., "Muon is scalable for LLM training", 2025, give it.
struct MuonArguments {
  float gradient_scale = 1;  // global-norm clip
  float momentum = 0;
  float learning_rate = 0;  // of this matrix: 0.2 sqrt(max(rows, cols)) is in it
  float decay = 1;          // 1 - learning rate * weight_decay
};

}  // namespace naite::kernels
