// SPDX-License-Identifier: Apache-2.0
#pragma once
// What operations work on: views of tensor memory that only a backend dereferences, and where
// gradients go.
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
// Of the residual stream, statistics and losses where activations are in `compute`.
inline DType wide_of(DType compute) { return compute == DType::kF64 ? DType::kF64 : DType::kF32; }
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

}  // namespace naite::kernels
