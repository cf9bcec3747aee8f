// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an operation says of each view that it works on: operations.h.
#include "kernels/views.h"

namespace naite::kernels {

enum class Access : uint8_t { kRead, kWrite, kUpdate };

// The dtypes that an operand may have. All kCompute operands of a call have the same one; kWide is
// fp32, or double when everything is.
enum class Type : uint8_t { kCompute, kWide, kFloat, kIndex, kAny };
using enum Type;

// One operand, as `operands(see)` of every struct shows it: what it is, and what it has to be.
struct Operand {
  const char* name;
  Access access;
  View view;
  int64_t rows, cols;
  Type type;
  bool optional = false;          // may be absent
  int64_t least = 0, beyond = 0;  // values of a kIndex operand lie in [least, beyond)

  Operand or_absent() const {
    Operand out = *this;
    out.optional = true;
    return out;
  }
  Operand within(int64_t first, int64_t end) const {
    Operand out = *this;
    out.least = first;
    out.beyond = end;
    return out;
  }
};

inline Operand in(const char* name, View view, int64_t rows, int64_t cols, Type type) {
  return {name, Access::kRead, view, rows, cols, type};
}
inline Operand out(const char* name, View view, int64_t rows, int64_t cols, Type type) {
  return {name, Access::kWrite, view, rows, cols, type};
}
inline Operand updated(const char* name, View view, int64_t rows, int64_t cols, Type type) {
  return {name, Access::kUpdate, view, rows, cols, type};
}
inline Operand gradient(const char* name, const Gradient& to, int64_t rows, int64_t cols,
                        Type type) {
  return {name,
          to.accumulate ? Access::kUpdate : Access::kWrite,
          to.wanted ? to.view : View{},
          rows,
          cols,
          type,
          !to.wanted};
}

// The enumeration of a struct that lists its operands; one that has to think writes the function.
#define NAITE_OPERANDS(...)                                    \
  template <class See>                                         \
  void operands(See see) const {                               \
    for (const Operand& operand : {__VA_ARGS__}) see(operand); \
  }

}  // namespace naite::kernels
