// SPDX-License-Identifier: Apache-2.0
#include "kernels/check.h"

#include <vector>

namespace naite::kernels {

namespace {

struct Shown {
  std::string_view operation;
  bool in_place = false;
  std::vector<Operand> operands;
};

template <class Op>
constexpr bool works_in_place() {
  if constexpr (requires { Op::kInPlace; }) return Op::kInPlace;
  return false;
}

Shown operands_of(const Call& call) {
  return visit(call, []<class Op>(const Op& op) {
    Shown shown{Op::kName, works_in_place<Op>(), {}};
    op.operands([&](const Operand& operand) { shown.operands.push_back(operand); });
    return shown;
  });
}

bool fits(Type type, DType dtype, DType compute) {
  const DType wide = wide_of(compute);
  switch (type) {
    case kCompute:
      return dtype == compute;
    case kWide:
      return dtype == wide;
    case kFloat:
      return dtype == compute || dtype == wide;
    case kIndex:
      return dtype == DType::kI32;
    case kAny:
      return true;
  }
  return false;
}

// The dtype in which the call computes, as the last operand of that type, an input, tells.
DType compute_of(const std::vector<Operand>& operands) {
  for (const Type type : {kCompute, kFloat, kWide})
    for (auto it = operands.rbegin(); it != operands.rend(); ++it)
      if (it->view && it->type == type && it->view.dtype != DType::kI32) return it->view.dtype;
  return DType::kF32;
}

bool overlap(const View& a, const View& b) {
  const auto* first = a.as<const std::byte>();
  const auto* second = b.as<const std::byte>();
  return a && b && first < second + b.bytes() && second < first + a.bytes();
}

Status check_aliases(const Shown& shown) {
  for (size_t i = 0; i < shown.operands.size(); ++i) {
    const Operand& written = shown.operands[i];
    if (written.access == Access::kRead) continue;
    for (size_t j = 0; j < shown.operands.size(); ++j) {
      const Operand& other = shown.operands[j];
      if (i == j || !overlap(written.view, other.view)) continue;
      if (shown.in_place && written.view.data == other.view.data) continue;
      return fail("{}: {} is written and lies in the memory of {}", shown.operation, written.name,
                  other.name);
    }
  }
  return {};
}

Status check_indices(const Shown& shown) {
  for (const Operand& operand : shown.operands) {
    if (operand.type != kIndex || !operand.view) continue;
    const auto* value = operand.view.as<const int32_t>();
    for (int64_t i = 0; i < operand.view.size(); ++i)
      if (value[i] < operand.least || value[i] >= operand.beyond)
        return fail("{}: {} holds {} in row {}, outside [{}, {})", shown.operation, operand.name,
                    value[i], i / operand.cols, operand.least, operand.beyond);
    // Two columns are where a span begins and where it ends.
    for (int64_t row = 0; operand.cols == 2 && row < operand.view.rows; ++row)
      if (value[2 * row] >= value[2 * row + 1])
        return fail("{}: row {} of {} is the empty span [{}, {})", shown.operation, row,
                    operand.name, value[2 * row], value[2 * row + 1]);
  }
  return {};
}

}  // namespace

Status check_operands(const Call& call) {
  const Shown shown = operands_of(call);
  const DType compute = compute_of(shown.operands);
  for (const Operand& operand : shown.operands) {
    const View& view = operand.view;
    if (!view && (operand.optional || operand.rows * operand.cols == 0)) continue;
    if (!view) return fail("{}: {} is missing", shown.operation, operand.name);
    if (view.rows != operand.rows || view.cols != operand.cols)
      return fail("{}: {} is [{}, {}] and must be [{}, {}]", shown.operation, operand.name,
                  view.rows, view.cols, operand.rows, operand.cols);
    if (!fits(operand.type, view.dtype, compute))
      return fail("{}: {} is {} in a call that computes in {}", shown.operation, operand.name,
                  dtype_name(view.dtype), dtype_name(compute));
  }
  return check_aliases(shown);
}

Status check_call(const Call& call) {
  NAITE_TRY(check_operands(call));
  return check_indices(operands_of(call));
}

}  // namespace naite::kernels
