// SPDX-License-Identifier: Apache-2.0
#pragma once
// How each architecture's tensors are called, one table per architecture: our name (which is
// Hugging Face's), the GGUF name, and what must be done to the values between the two. The tables
// drive reading and writing in every format; a new architecture is a new table and nothing else.
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace naite::formats {

enum class Transform : uint8_t {
  kNone,
  // GGUF's "llama" keeps the two halves of a rotary pair side by side, Hugging Face half a head
  // apart: row a w + 2i + j there is row a w + j w/2 + i here (head a, width w, j in {0, 1}).
  kInterleavedPairs,
};

// "{}" in a name stands for the layer.
struct TensorRule {
  std::string_view ours, gguf;
  Transform transform = Transform::kNone;
};

struct Architecture {
  std::string_view model_type;  // of config.json
  std::string_view class_name;  // in transformers
  std::string_view gguf;        // general.architecture
  std::vector<TensorRule> tensors;
};

const std::vector<Architecture>& architectures();
Result<const Architecture*> architecture_of(std::string_view model_type);
Result<const Architecture*> architecture_of_gguf(std::string_view gguf);

struct GgufName {
  std::string name;
  Transform transform;
};
// Our name -> GGUF's, for a model of this many layers.
std::map<std::string, GgufName, std::less<>> gguf_names(const Architecture& architecture,
                                                        int64_t num_layers);

// Reorders rows [rows, cols] as the transform says; `head_dim` divides rows.
void to_gguf_order(Transform transform, int64_t head_dim, int64_t cols, std::vector<float>& values);
void from_gguf_order(Transform transform, int64_t head_dim, int64_t cols, std::span<float> values);

}  // namespace naite::formats
