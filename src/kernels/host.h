// SPDX-License-Identifier: Apache-2.0
#pragma once
// What backends have in common whose tensor memory is the host's.
#include <cstring>

#include "kernels/check.h"

namespace naite::kernels {

class HostKernels : public Kernels {
 public:
  Status upload(void* to, const void* from_host, int64_t bytes, Stream) final {
    if (bytes > 0) std::memcpy(to, from_host, static_cast<size_t>(bytes));
    return {};
  }
  Status download(void* to_host, const void* from, int64_t bytes, Stream stream) final {
    return upload(to_host, from, bytes, stream);
  }
  Status run(const Call& call, Stream) final {
    if (kChecksCalls) NAITE_TRY(check_call(call));
    return execute(call);
  }

 protected:
  virtual Status execute(const Call& call) = 0;
};

}  // namespace naite::kernels
