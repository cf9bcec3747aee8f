// SPDX-License-Identifier: Apache-2.0
#include "kernels/reference/reference.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/host.h"

namespace naite::kernels {

namespace {

template <class Real>
class ReferenceKernels final : public HostKernels {
 public:
  explicit ReferenceKernels(const Arithmetic& arithmetic) : reference_{arithmetic} {}

  std::string name() const override { return sizeof(Real) == 4 ? "reference" : "reference double"; }
  const Arithmetic& arithmetic() const override { return reference_.arithmetic; }
  double measure_peak_flops(DType) override { return 0; }

  void* allocate(int64_t bytes) override {
    const size_t padded = (static_cast<size_t>(bytes) + 63) / 64 * 64;
    void* memory = std::aligned_alloc(64, padded == 0 ? 64 : padded);
    if (memory == nullptr) throw std::bad_alloc();
    std::memset(memory, 0, padded);
    return memory;
  }
  void release(void* memory, int64_t) override { std::free(memory); }
  int64_t fixed_bytes() const override { return 0; }
  int64_t prepared_bytes(Use, DType compute, int64_t rows, int64_t cols) const override {
    return compute == DType::kBf16 ? rows * cols * 2 : 0;
  }

  Status execute(const Call& call) override {
    visit(call, [&](const auto& op) { reference_.run(op); });
    return {};
  }
  int64_t workspace_of(const Call&) const override { return 0; }

 private:
  const Reference<Real> reference_;
};

}  // namespace

std::unique_ptr<Kernels> make_reference(DType real, const Arithmetic& arithmetic) {
  NAITE_CHECK(real == DType::kF32 || real == DType::kF64, "a reference in {}", dtype_name(real));
  NAITE_CHECK(arithmetic.inner == Inner{}, "a reference of {}", arithmetic.name);
  if (real == DType::kF32) return std::make_unique<ReferenceKernels<float>>(arithmetic);
  return std::make_unique<ReferenceKernels<double>>(arithmetic);
}

}  // namespace naite::kernels
