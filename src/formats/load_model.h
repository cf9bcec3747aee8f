// SPDX-License-Identifier: Apache-2.0
#pragma once
// A model directory or GGUF file, read into a backend's memory and ready to run.
#include <filesystem>
#include <memory>
#include <string>

#include "model/model.h"
#include "tape/tape.h"

namespace naite::formats {

struct LoadedModel {
  std::unique_ptr<model::Model> model;
  std::unique_ptr<tape::Parameters> parameters;
  std::string tokenizer_json, tokenizer_name;  // its text, and where it stood
  int32_t begin_token = -1;  // what every text starts with; -1: nothing
};

// Computes in bf16 when the file says bfloat16, in fp32 otherwise.
Result<LoadedModel> load_model(const std::filesystem::path& path, kernels::Kernels& kernels);

}  // namespace naite::formats
