// SPDX-License-Identifier: Apache-2.0
#pragma once
// Operations that work element by element, on a GPU. Shapes, dtypes and the order of arithmetic are
// those of operations.h; the bits are those of the reference.
#include "kernels/cuda/device.h"
#include "kernels/kernels.h"

namespace naite::kernels::cuda {

Status run(Device& device, const Add& op);
Status run(Device& device, const Scale& op);

}  // namespace naite::kernels::cuda
