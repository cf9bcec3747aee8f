// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise.h"

#include <cuda_runtime.h>
#include <algorithm>

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
struct Add {
  const float *a, *b;
  __device__ float operator()(int64_t i) const { return __fadd_rn(a[i], b[i]); }
};
struct Scale {
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
Status run(Device& device, View y, Formula formula, const char* operation) {
  NAITE_CHECK(y.dtype == DType::kF32, "{} of {}", operation, dtype_name(y.dtype));
  if (y.size() == 0) return {};
  each_element<<<blocks_for(y.size()), kBlock, 0, static_cast<cudaStream_t>(device.stream())>>>(
      y.as<float>(), y.size(), formula);
  return device.launched(operation);
}

}  // namespace

Status add(Device& device, View y, View a, View b) {
  return run(device, y, Add{a.as<float>(), b.as<float>()}, "add");
}

Status scale(Device& device, View y, View x, float factor) {
  return run(device, y, Scale{x.as<float>(), factor}, "scale");
}

}  // namespace naite::kernels::cuda
