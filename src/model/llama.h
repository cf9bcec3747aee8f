// SPDX-License-Identifier: Apache-2.0
#pragma once
// Llama: Touvron et al., "LLaMA", 2023, and the dense models that keep its form; config keys and
// tensor names as in Hugging Face transformers.
//   llama    LlamaForCausalLM
//   mistral  MistralForCausalLM: a query may see its last `sliding_window` keys only
//   qwen2    Qwen2ForCausalLM: queries, keys and values have biases; windows from a layer on
//   qwen3    Qwen3ForCausalLM: queries and keys are normed head by head before they turn
//   tri      Trillion Labs' Tri-70B: every `global_attention_freq`-th layer sees all keys and does
//            not turn; its queries grow with the logarithm of their position. The others turn and
//            see a window.
#include "model/model.h"

namespace naite::model {

Result<std::unique_ptr<Model>> make_llama(Table& table);
Result<std::unique_ptr<Model>> make_mistral(Table& table);
Result<std::unique_ptr<Model>> make_qwen2(Table& table);
Result<std::unique_ptr<Model>> make_qwen3(Table& table);
Result<std::unique_ptr<Model>> make_tri(Table& table);

}  // namespace naite::model
