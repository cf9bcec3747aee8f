// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.h"

#include <cuda_runtime.h>

namespace naite::kernels::cuda {

namespace {

Status checked(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return {};
  return fail("{}: {}", call, cudaGetErrorString(code));
}

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

int Device::count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

Result<std::unique_ptr<Device>> Device::open(int index) {
  if (index < 0 || index >= count())
    return fail("there is no GPU number {}; the driver shows {}", index, count());
  std::unique_ptr<Device> device(new Device(index));
  NAITE_TRY(checked(cudaSetDevice(index), "cudaSetDevice"));
  cudaStream_t stream = nullptr;
  NAITE_TRY(checked(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate"));
  device->stream_ = stream;
  return std::move(device);
}

Device::~Device() {
  if (stream_ != nullptr) cudaStreamDestroy(stream_of(stream_));
}

std::string Device::name() const {
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, index_) != cudaSuccess) return "a GPU without a name";
  return fmt::format("{}, sm_{}{}, {} GiB", properties.name, properties.major, properties.minor,
                     properties.totalGlobalMem >> 30);
}

Result<void*> Device::allocate(int64_t bytes) {
  void* memory = nullptr;
  NAITE_TRY(checked(cudaMalloc(&memory, static_cast<size_t>(bytes)), "cudaMalloc"));
  NAITE_TRY(checked(cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), stream_of(stream_)),
                    "cudaMemset"));
  return memory;
}

Status Device::release(void* memory) {
  NAITE_TRY(synchronize());
  return checked(cudaFree(memory), "cudaFree");
}

Status Device::upload(void* to, const void* from_host, int64_t bytes) {
  NAITE_TRY(checked(cudaMemcpyAsync(to, from_host, static_cast<size_t>(bytes),
                                    cudaMemcpyHostToDevice, stream_of(stream_)),
                    "copy to the GPU"));
  return synchronize();
}

Status Device::download(void* to_host, const void* from, int64_t bytes) {
  NAITE_TRY(checked(cudaMemcpyAsync(to_host, from, static_cast<size_t>(bytes),
                                    cudaMemcpyDeviceToHost, stream_of(stream_)),
                    "copy from the GPU"));
  return synchronize();
}

Status Device::synchronize() {
  return checked(cudaStreamSynchronize(stream_of(stream_)), "waiting for the GPU");
}

Status Device::launched(const char* operation) {
  ++launches_;
  return checked(cudaGetLastError(), operation);
}

}  // namespace naite::kernels::cuda
