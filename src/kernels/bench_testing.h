// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a row of the table of operations (kernels_test.cc) works with.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/check.h"

namespace naite::kernels {

// Hands out buffers with reproducible content and remembers what to compare.
class Bench {
 public:
  Bench(Kernels& kernels, DType compute, bool accumulate)
      : k(kernels), compute(compute), wide(wide_of(compute)), accumulate_(accumulate) {}
  ~Bench() {
    for (const auto& [memory, bytes] : allocated_) k.release(memory, bytes);
  }
  Bench(const Bench&) = delete;

  Kernels& k;
  const DType compute, wide;

  // Inputs with random values of about the given size. `wide`: fp32 even when computing in bf16.
  View activation(int64_t rows, int64_t cols, double size = 1) {
    return input(rows, cols, compute, size);
  }
  View wide_input(int64_t rows, int64_t cols, double size = 1) {
    return input(rows, cols, wide, size);
  }
  // A parameter: `master` is what gradients belong to, `prepared` what operations read.
  struct Parameter {
    View master, prepared;
  };
  Parameter parameter(Use use, int64_t rows, int64_t cols, double size = 1) {
    const View master = input(rows, cols, wide, size);
    const int64_t bytes = k.prepared_bytes(use, compute, rows, cols);
    if (bytes == 0) return {master, master};
    const View prepared{take(bytes), compute, rows, cols};
    run(Prepare{prepared, master, use});
    return {master, prepared};
  }
  View integers(const std::vector<int32_t>& values, int64_t cols = 1) {
    const auto count = static_cast<int64_t>(values.size());
    const View view{take(count * 4), DType::kI32, count / cols, cols};
    EXPECT_TRUE(k.upload(view.data, values.data(), count * 4).ok());
    return view;
  }

  // Outputs start poisoned with NaN: what is not written is found.
  View output(int64_t rows, int64_t cols) { return result(rows, cols, compute); }
  View wide_output(int64_t rows, int64_t cols) { return result(rows, cols, wide); }

  // The gradient of a scalar loss, sum(seed y), with respect to the output y.
  View seed(const View& y) {
    const View dy = random(y.rows, y.cols, y.dtype, 1.0);
    seeds_.push_back({y, dy});
    return dy;
  }
  // The loss is sum(weights y) for outputs whose backward takes the weights and no gradient.
  void weighted_loss(const View& y, const View& weights) { seeds_.push_back({y, weights}); }

  Gradient gradient(const View& of) {
    const View view = result(of.rows, of.cols, of.dtype);
    std::vector<double> before(of.size(), 0.0);
    for (int64_t i = 0; accumulate_ && i < of.size(); ++i)
      before[i] = random_unit(11, Purpose::kInitialTensor, i, gradients_.size());
    if (accumulate_) fill(view, before);
    gradients_.push_back({of, view, before});
    return {view, true, accumulate_};
  }
  // Submits the call, with the workspace that it asks for.
  template <class Op>
  void run(Op op) {
    if constexpr (requires { op.workspace; }) {
      const int64_t bytes = k.workspace_bytes(op);
      op.workspace = {static_cast<std::byte*>(take(bytes)), static_cast<size_t>(bytes)};
    }
    const Status checked = check_call(Call::of(op)), status = k.submit(op);
    EXPECT_TRUE(checked.ok()) << checked.error().message;
    EXPECT_TRUE(status.ok()) << status.error().message;
  }

  // --- after the run -----------------------------------------------------------------------------
  double loss() const {
    double total = 0;
    for (const auto& [y, dy] : seeds_) {
      const std::vector<double> a = read(y), b = read(dy);
      for (size_t i = 0; i < a.size(); ++i) total += a[i] * b[i];
    }
    return total;
  }
  std::vector<std::string> bits() const {
    std::vector<std::string> out;
    for (const View& view : results_) {
      out.emplace_back(view.bytes(), '\0');
      EXPECT_TRUE(k.download(out.back().data(), view.data, view.bytes()).ok());
    }
    return out;
  }
  std::vector<double> read(const View& view) const {
    std::string bytes(view.bytes(), '\0');
    EXPECT_TRUE(k.download(bytes.data(), view.data, view.bytes()).ok());
    std::vector<double> out(view.size());
    for (int64_t i = 0; i < view.size(); ++i) {
      if (view.dtype == DType::kF64) std::memcpy(&out[i], &bytes[i * 8], 8);
      if (view.dtype == DType::kF32) out[i] = *reinterpret_cast<const float*>(&bytes[i * 4]);
      if (view.dtype == DType::kBf16)
        out[i] = bf16_to_float(*reinterpret_cast<const uint16_t*>(&bytes[i * 2]));
    }
    return out;
  }
  struct Differentiated {
    View of, gradient;
    std::vector<double> before;
  };
  const std::vector<Differentiated>& gradients() const { return gradients_; }
  int input_index(const View& view) const {
    for (size_t i = 0; i < inputs_.size(); ++i)
      if (inputs_[i].data == view.data) return static_cast<int>(i);
    return -1;
  }
  // The next run adds `by` to element `element` of the index-th input.
  void perturb(int index, int64_t element, double by) {
    perturbed_ = index;
    perturbed_element_ = element;
    perturbed_by_ = by;
  }

 private:
  void* take(int64_t bytes) {
    allocated_.push_back({k.allocate(bytes), bytes});
    return allocated_.back().first;
  }
  View random(int64_t rows, int64_t cols, DType dtype, double size) {
    const View view{take(rows * cols * dtype_bytes(dtype)), dtype, rows, cols};
    std::vector<double> values(view.size());
    const uint32_t stream = num_random_++;
    for (int64_t i = 0; i < view.size(); ++i)
      values[i] = size * (2 * random_unit(7, Purpose::kInitialTensor, i, stream) - 1);
    fill(view, values);
    return view;
  }
  View input(int64_t rows, int64_t cols, DType dtype, double size) {
    const View view = random(rows, cols, dtype, size);
    if (perturbed_ == static_cast<int>(inputs_.size())) {
      std::vector<double> values = read(view);
      values[perturbed_element_] += perturbed_by_;
      fill(view, values);
    }
    inputs_.push_back(view);
    return view;
  }
  View result(int64_t rows, int64_t cols, DType dtype) {
    const View view{take(rows * cols * dtype_bytes(dtype)), dtype, rows, cols};
    fill(view, std::vector<double>(view.size(), std::nan("")));
    results_.push_back(view);
    return view;
  }
  void fill(const View& view, const std::vector<double>& values) {
    std::string bytes(view.bytes(), '\0');
    for (int64_t i = 0; i < view.size(); ++i) {
      const float single = static_cast<float>(values[i]);
      const uint16_t half = float_to_bf16(single);
      if (view.dtype == DType::kF64) std::memcpy(&bytes[i * 8], &values[i], 8);
      if (view.dtype == DType::kF32) std::memcpy(&bytes[i * 4], &single, 4);
      if (view.dtype == DType::kBf16) std::memcpy(&bytes[i * 2], &half, 2);
    }
    EXPECT_TRUE(k.upload(view.data, bytes.data(), view.bytes()).ok());
  }

  const bool accumulate_;
  uint32_t num_random_ = 0;
  int perturbed_ = -1;
  int64_t perturbed_element_ = 0;
  double perturbed_by_ = 0;
  std::vector<std::pair<void*, int64_t>> allocated_;
  std::vector<View> inputs_, results_;
  std::vector<std::pair<View, View>> seeds_;
  std::vector<Differentiated> gradients_;
};

}  // namespace naite::kernels
