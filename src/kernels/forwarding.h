// SPDX-License-Identifier: Apache-2.0
#pragma once
// A backend that hands everything on to another one, for those that stand before it and change one
// thing: observers, counters.
#include "kernels/kernels.h"

namespace naite::kernels {

class ForwardingKernels : public Kernels {
 public:
  // `inner` must outlive this object.
  explicit ForwardingKernels(Kernels& inner) : inner_(inner) {}

  std::string name() const override { return inner_.name(); }
  const Arithmetic& arithmetic() const override { return inner_.arithmetic(); }
  double measure_peak_flops(DType compute) override { return inner_.measure_peak_flops(compute); }
  void* allocate(int64_t bytes) override { return inner_.allocate(bytes); }
  void release(void* memory, int64_t bytes) override { inner_.release(memory, bytes); }
  Status upload(void* to, const void* from_host, int64_t bytes, Stream stream) override {
    return inner_.upload(to, from_host, bytes, stream);
  }
  Status download(void* to_host, const void* from, int64_t bytes, Stream stream) override {
    return inner_.download(to_host, from, bytes, stream);
  }
  int64_t fixed_bytes() const override { return inner_.fixed_bytes(); }
  int64_t prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols) const override {
    return inner_.prepared_bytes(use, compute, rows, cols);
  }
  Status run(const Call& call, Stream stream) override { return inner_.run(call, stream); }
  int64_t workspace_of(const Call& call) const override { return inner_.workspace_of(call); }

 private:
  Kernels& inner_;
};

}  // namespace naite::kernels
