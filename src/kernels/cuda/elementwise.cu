// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise.h"

#include <cuda_runtime.h>
#include <algorithm>

#include "kernels/check.h"

namespace naite::kernels::cuda {

namespace {

constexpr int kBlock = 256;

// As many blocks as there are elements, up to what keeps every multiprocessor busy; threads go on
// in strides.
unsigned blocks_for(int64_t elements) {
  constexpr int64_t kBlocksMax = 65536;
  return static_cast<unsigned>(std::min(kBlocksMax, (elements + kBlock - 1) / kBlock));
}

// The intrinsics round once and are never contracted; the flush of subnormals comes from -ftz=true.
struct Sum {
  const float *a, *b;
  __device__ float operator()(int64_t i) const { return __fadd_rn(a[i], b[i]); }
};
struct Product {
  const float* x;
  float factor;
  __device__ float operator()(int64_t i) const { return __fmul_rn(x[i], factor); }
};

template <class Formula>
__global__ void each_element(float* y, int64_t size, Formula formula) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += stride)
    y[i] = formula(i);
}

template <class Formula>
Status each(Device& device, View y, Formula formula, const char* operation) {
  if (y.size() == 0) return {};
  each_element<<<blocks_for(y.size()), kBlock, 0, static_cast<cudaStream_t>(device.stream())>>>(
      y.as<float>(), y.size(), formula);
  return device.launched(operation);
}

}  // namespace

Status run(Device& device, const Add& op) {
  NAITE_TRY(check_operands(Call::of(op)));
  return each(device, op.y, Sum{op.a.as<float>(), op.b.as<float>()}, "add");
}

Status run(Device& device, const Scale& op) {
  NAITE_TRY(check_operands(Call::of(op)));
  return each(device, op.y, Product{op.x.as<float>(), op.factor}, "scale");
}

}  // namespace naite::kernels::cuda
