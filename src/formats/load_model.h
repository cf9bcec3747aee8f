// SPDX-License-Identifier: Apache-2.0
#pragma once
// A model directory or GGUF file: opened, which says what it is and needs, then read into a
// backend's memory, ready to run.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "formats/model_files.h"
#include "model/model.h"
#include "tape/tape.h"

namespace naite::formats {

// Everything but the weights.
struct OpenedModel {
  ModelFiles files;
  std::unique_ptr<model::Model> model = {};
  kernels::DType compute =
      kernels::DType::kF32;  // bf16 when all the tensors are and the config asks for no more
  std::string tokenizer_json = {}, tokenizer_name = {};  // its text, and where it stood
  std::vector<int32_t> begin_tokens = {};                // what every text starts with
  std::vector<int32_t> stop_tokens = {};                 // what ends a text
  std::vector<std::string> not_done = {};  // what the model asks of sampling and is not done
};
Result<OpenedModel> open_model(const std::filesystem::path& path);

Result<std::unique_ptr<tape::Parameters>> load_weights(const OpenedModel& opened,
                                                       kernels::Kernels& kernels);

}  // namespace naite::formats
