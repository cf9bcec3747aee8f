// SPDX-License-Identifier: Apache-2.0
#pragma once
// A backend that hands every call on and tells an observer what was called, how long it took and
// what work it had: `naite train --profile`.
#include <functional>

#include "kernels/forwarding.h"

namespace naite::kernels {

struct OperationCall {
  std::string_view name;
  double begin_seconds = 0, end_seconds = 0;  // of a steady clock; until the call returned
  double flops = 0;                           // of products and attention; 0 elsewhere
  double bytes = 0;                           // of the operands, each counted once
};

class ObservedKernels final : public ForwardingKernels {
 public:
  using Observer = std::function<void(const OperationCall&)>;
  // `inner` must outlive this object.
  ObservedKernels(Kernels& inner, Observer observer)
      : ForwardingKernels(inner), observer_(std::move(observer)) {}

  Status run(const Call& call, Stream stream) override;

 private:
  Observer observer_;
};

}  // namespace naite::kernels
