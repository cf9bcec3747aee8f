// SPDX-License-Identifier: Apache-2.0
#pragma once
// A model directory or GGUF file, read into a backend's memory and ready to run.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "tape/tape.h"

namespace naite::formats {

struct LoadedModel {
  std::unique_ptr<model::Model> model;
  std::unique_ptr<tape::Parameters> parameters;
  std::string tokenizer_json, tokenizer_name;  // its text, and where it stood
  std::vector<int32_t> begin_tokens;           // what every text starts with
  std::vector<int32_t> stop_tokens;            // what ends a text
  std::vector<std::string> not_done;           // what the model asks of sampling and is not done
};

// Computes in bf16 when all the tensors are bfloat16, in fp32 otherwise.
Result<LoadedModel> load_model(const std::filesystem::path& path, kernels::Kernels& kernels);

}  // namespace naite::formats
