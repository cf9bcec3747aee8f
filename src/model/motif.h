// SPDX-License-Identifier: Apache-2.0
#pragma once
// Motif: the architecture of Motif Technologies' Motif-2.6B (2025) and Motif-2-12.7B
// (arXiv 2511.07464); config keys and tensor names as in their checkpoints (MotifForCausalLM).
//   attention   grouped differential attention (arXiv 2510.06949): several signal heads share the
//               noise head that is subtracted from them. One signal head to a noise head is plain
//               differential attention (Ye et al., "Differential transformer", ICLR 2025).
//   MLP         gated, with PolyNorm (arXiv 2411.03884) where others have SiLU; hidden_act = "silu"
//               gives those others
#include "model/model.h"

namespace naite::model {

// The constant part of lambda in a layer counted from 0. The published models subtract one from the
// index where the paper does not, so that layer 1 has the paper's value of layer 0.
double motif_lambda_initial(int64_t layer);

}  // namespace naite::model
