// SPDX-License-Identifier: Apache-2.0
#include "kernels/observed.h"

#include "base/clock.h"

namespace naite::kernels {

namespace {

OperationCall described(const Call& call) {
  return visit(call, []<class Op>(const Op& op) {
    OperationCall out{.name = Op::kName};
    if constexpr (requires { op.flops(); }) out.flops = op.flops();
    op.operands([&](const Operand& operand) {
      if (operand.view) out.bytes += static_cast<double>(operand.view.bytes());
    });
    return out;
  });
}

}  // namespace

Status ObservedKernels::run(const Call& call, Stream stream) {
  OperationCall seen = described(call);
  seen.begin_seconds = now_seconds();
  NAITE_TRY(ForwardingKernels::run(call, stream));
  seen.end_seconds = now_seconds();
  observer_(seen);
  return {};
}

}  // namespace naite::kernels
