// SPDX-License-Identifier: Apache-2.0
#pragma once
// Operations of kernels.h that work element by element, on a GPU. Shapes, dtypes and the order of
// arithmetic are those of kernels.h; the bits are those of the reference.
#include "kernels/cuda/device.h"
#include "kernels/kernels.h"

namespace naite::kernels::cuda {

Status add(Device& device, View y, View a, View b);          // y = a + b, fp32
Status scale(Device& device, View y, View x, float factor);  // y = x factor, fp32

}  // namespace naite::kernels::cuda
