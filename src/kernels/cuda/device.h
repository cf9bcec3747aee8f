// SPDX-License-Identifier: Apache-2.0
#pragma once
// One GPU: its memory, copies and the stream on which everything runs in order. Built where nvcc is
// found (NAITE_CUDA); the header knows nothing of CUDA, so that what includes it is plain C++. What
// the driver refuses is an Error that names the call.
#include <cstdint>
#include <memory>
#include <string>

#include "base/base.h"

namespace naite::kernels::cuda {

class Device {
 public:
  static int count();  // 0 without a GPU or without a driver
  static Result<std::unique_ptr<Device>> open(int index);
  ~Device();
  Device(const Device&) = delete;

  std::string name() const;  // "NVIDIA H200, sm_90, 139 GiB"

  // Zeroed. Device memory is never read or written by the host but through the copies below.
  Result<void*> allocate(int64_t bytes);
  Status release(void* memory);
  // Pageable host memory; they return when the bytes are there.
  Status upload(void* to, const void* from_host, int64_t bytes);
  Status download(void* to_host, const void* from, int64_t bytes);
  // Waits for everything that was launched, and says whether it went well.
  Status synchronize();

  // Kernels launched so far: a run on the GPU must not have fallen back to the CPU.
  int64_t launches() const { return launches_; }

  // For files of this folder: the stream (cudaStream_t), and what follows every launch.
  void* stream() const { return stream_; }
  Status launched(const char* operation);

 private:
  explicit Device(int index) : index_(index) {}
  int index_;
  void* stream_ = nullptr;
  int64_t launches_ = 0;
};

}  // namespace naite::kernels::cuda
