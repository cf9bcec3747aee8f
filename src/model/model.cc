// SPDX-License-Identifier: Apache-2.0
#include "model/model.h"

#include <nlohmann/json.hpp>

#include "model/config_keys.h"
#include "model/llama.h"
#include "model/motif.h"

namespace naite::model {

namespace {

using Maker = Result<std::unique_ptr<Model>> (*)(Table& table);

struct Architecture {
  std::string model_type;
  Maker make;
};

// Every architecture of the project, one line each.
const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> list = {
      {"llama", make_llama}, {"mistral", make_mistral}, {"qwen2", make_qwen2},
      {"qwen3", make_qwen3}, {"motif", make_motif},     {"tri", make_tri},
  };
  return list;
}

}  // namespace

const std::vector<std::string>& model_types() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Architecture& architecture : architectures()) out.push_back(architecture.model_type);
    return out;
  }();
  return names;
}

Result<std::unique_ptr<Model>> make_model(const nlohmann::json& config, std::string where,
                                          bool strict) {
  Table table(config, std::move(where));
  // Motif's own config.json writes its name with a capital.
  const nlohmann::json* spelled = table.raw("model_type");
  const std::string type = spelled != nullptr && *spelled == "Motif"
                               ? "motif"
                               : table.choice("model_type", std::nullopt, model_types());
  for (const Architecture& architecture : architectures()) {
    if (architecture.model_type != type) continue;
    Result<std::unique_ptr<Model>> model = architecture.make(table);
    if (model.ok() && !strict) table.adopt(check_config_keys(config, table, (*model)->config()));
    NAITE_TRY(table.finish(!strict));
    return model;
  }
  return table.finish(true).error();
}

Tensor Inputs::remember(Tape& tape, const std::string& name, Tensor x) const {
  if (cache_rows == 0) return x;
  return tape::store_rows(tape.state(name, cache_rows, x.cols()), x, slots);
}

namespace {

// Records the model once, on a tape of one token, to learn its parameters.
std::unique_ptr<Tape> record_shapes(const Model& model, const kernels::Kernels& kernels,
                                    Outputs* outputs = nullptr) {
  auto tape = std::make_unique<Tape>(kernels, kernels::DType::kF32, true);
  Inputs inputs{tape->data("ids", kernels::DType::kI32, 1, 1),
                tape->data("positions", kernels::DType::kI32, 1, 1),
                tape->data("spans", kernels::DType::kI32, 1, 2), 1};
  inputs.wants_peaks = outputs != nullptr;
  Outputs recorded = model.forward(*tape, inputs);
  if (outputs != nullptr) *outputs = std::move(recorded);
  return tape;
}

}  // namespace

std::vector<tape::ParameterSpec> parameters_of(const Model& model) {
  const std::unique_ptr<kernels::Kernels> kernels = kernels::make_reference(kernels::DType::kF32);
  return record_shapes(model, *kernels)->parameters();
}

int64_t count_parameters(const Model& model) {
  int64_t count = 0;
  for (const tape::ParameterSpec& spec : parameters_of(model)) count += spec.size();
  return count;
}

bool gives_peaks(const Model& model) {
  const std::unique_ptr<kernels::Kernels> kernels = kernels::make_reference(kernels::DType::kF32);
  Outputs outputs;
  const std::unique_ptr<Tape> tape = record_shapes(model, *kernels, &outputs);
  return !outputs.peaks.empty();
}

double training_flops_per_token(const Model& model, int64_t sequence_length) {
  double products = 0;
  bool has_head = false;
  int64_t embedding = 0;
  for (const tape::ParameterSpec& spec : parameters_of(model)) {
    if (spec.role == tape::Role::kEmbedding) embedding = spec.size();
    has_head |= spec.role == tape::Role::kHead;
    products += static_cast<double>(spec.size());
  }
  // A lookup multiplies nothing; a tied embedding does, as the head.
  if (has_head) products -= static_cast<double>(embedding);
  const double attention =
      static_cast<double>(model.attention_width()) * static_cast<double>(sequence_length) / 2;
  return 6 * (products + attention);
}

std::vector<double> inverse_frequencies(double theta, int64_t rotary_dim) {
  std::vector<double> out;
  for (int64_t i = 0; i < rotary_dim / 2; ++i)
    out.push_back(
        exact_power(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim)));
  return out;
}

std::vector<float> rotary_table(int64_t positions, const std::vector<double>& frequencies) {
  const auto half = static_cast<int64_t>(frequencies.size());
  std::vector<float> table(positions * 2 * half);
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) * frequencies[i];
      table[p * 2 * half + i] = static_cast<float>(exact_cos(angle));
      table[p * 2 * half + half + i] = static_cast<float>(exact_sin(angle));
    }
  }
  return table;
}

}  // namespace naite::model
