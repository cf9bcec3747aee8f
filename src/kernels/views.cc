// SPDX-License-Identifier: Apache-2.0
#include "kernels/views.h"

namespace naite::kernels {

int64_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kBf16:
      return 2;
    case DType::kF64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
  }
  NAITE_CHECK(false, "dtype {}", static_cast<int>(dtype));
}

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kBf16:
      return "bf16";
    case DType::kF64:
      return "f64";
    case DType::kF32:
      return "fp32";
    case DType::kI32:
      return "i32";
  }
  NAITE_CHECK(false, "dtype {}", static_cast<int>(dtype));
}

}  // namespace naite::kernels
