// SPDX-License-Identifier: Apache-2.0
#pragma once
// A model written anew in a format of choice, tensor by tensor: one tensor is in memory at a time.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "formats/model_files.h"
#include "formats/record.h"
#include "model/model.h"

namespace naite::formats {

struct HuggingFaceOptions {
  StoredType dtype = StoredType::kBf16;  // F32, F16 or BF16, for every tensor
  int64_t shard_bytes = 0;               // 0: one file
  // Where the model comes from, for record.json, which also gets the digest of the weights and of
  // every file; none: no record is written.
  std::optional<Branch> origin = {};
};

// The type that weights are to be written in: as asked for, or the one that holds them as they are,
// whatever config.json says of them.
Result<StoredType> dtype_of(const std::string& name, const ModelFiles& files);

// Both writers refuse a tensor whose values the type cannot hold: numbers that would become
// infinite, or all zero.

// A directory that transformers opens: config.json, generation_config.json, the tokenizer's files,
// and the weights in one file or in shards. `directory` must not exist; it appears complete or not
// at all.
Status export_hugging_face(const ModelFiles& files, const model::Model& model,
                           const std::filesystem::path& directory,
                           const HuggingFaceOptions& options);

// f32, f16, bf16 or q8_0: every matrix in that type. q4_k_m: Q4_K, but Q6_K for the head (or the
// table of a tied model) and, in the first and last eighth of the layers and every third one
// between, for attention values and the down projection. Rows that do not divide into 256 become
// Q8_0, rows that do not divide into 32 become F16; vectors stay F32.
const std::vector<std::string>& gguf_quantizations();
Status export_gguf(const ModelFiles& files, const model::Model& model,
                   const std::filesystem::path& path, std::string_view quantization);

}  // namespace naite::formats
