// SPDX-License-Identifier: Apache-2.0
#include "kernels/counting.h"

#include <algorithm>
#include <cstring>

namespace naite::kernels {

namespace {

class Counting final : public CountingKernels {
 public:
  explicit Counting(const Kernels& real) : real_(real) {}

  std::string name() const override { return "counting " + real_.name(); }
  const Arithmetic& arithmetic() const override { return real_.arithmetic(); }
  double measure_peak_flops(DType) override { return 0; }

  // Addresses that nothing lies behind; no two blocks share one.
  void* allocate(int64_t bytes) override {
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    const uintptr_t address = next_;
    next_ += (static_cast<uintptr_t>(bytes) / 64 + 1) * 64;
    return reinterpret_cast<void*>(address);
  }
  void release(void*, int64_t bytes) override { live_ -= bytes; }
  Status upload(void*, const void*, int64_t, Stream) override { return {}; }
  Status download(void* to_host, const void*, int64_t bytes, Stream) override {
    if (bytes > 0) std::memset(to_host, 0, static_cast<size_t>(bytes));
    return {};
  }
  int64_t fixed_bytes() const override { return real_.fixed_bytes(); }
  int64_t prepared_bytes(Use use, DType compute, int64_t rows, int64_t cols) const override {
    return real_.prepared_bytes(use, compute, rows, cols);
  }
  Status run(const Call&, Stream) override { return {}; }
  int64_t workspace_of(const Call& call) const override { return real_.workspace_of(call); }

  int64_t live_bytes() const override { return live_; }
  int64_t peak_bytes() const override { return peak_; }

 private:
  const Kernels& real_;
  int64_t live_ = 0, peak_ = 0;
  uintptr_t next_ = 64;
};

}  // namespace

std::unique_ptr<CountingKernels> make_counting(const Kernels& real) {
  return std::make_unique<Counting>(real);
}

}  // namespace naite::kernels
