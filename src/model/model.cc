// SPDX-License-Identifier: Apache-2.0
#include "model/model.h"

#include <nlohmann/json.hpp>

#include "model/config_keys.h"

namespace naite::model {

// Every architecture of the project, one line each: a file of this folder defines make_NAME().
#define NAITE_ARCHITECTURES(X) \
  X(llama)                     \
  X(mistral)                   \
  X(qwen2)                     \
  X(qwen3)                     \
  X(motif)                     \
  X(smollm3)                   \
  X(tri)

using Maker = Result<std::unique_ptr<Model>>(Table& table);
#define NAITE_DECLARE(name) Maker make_##name;
NAITE_ARCHITECTURES(NAITE_DECLARE)
#undef NAITE_DECLARE

namespace {

struct Architecture {
  std::string model_type;
  Maker* make;
};

const std::vector<Architecture>& architectures() {
#define NAITE_ROW(name) {#name, make_##name},
  static const std::vector<Architecture> list = {NAITE_ARCHITECTURES(NAITE_ROW)};
#undef NAITE_ROW
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

Inputs Inputs::declare(Tape& tape, int64_t tokens, int64_t num_positions, int64_t cache_rows) {
  const auto leaf = [&](const char* name, int64_t cols) {
    return tape.data(name, kernels::DType::kI32, tokens, cols);
  };
  Inputs out{leaf("ids", 1), leaf("positions", 1), leaf("spans", 2), num_positions};
  if (cache_rows > 0) out.slots = leaf("slots", 1);
  out.cache_rows = cache_rows;
  return out;
}

Tensor Inputs::remember(Tape& tape, const std::string& name, Tensor x) const {
  if (cache_rows == 0) return x;
  return tape::store_rows(tape.state(name, cache_rows, x.cols()), x, slots);
}

Outputs Model::forward(Tape& tape, const Inputs& inputs) const {
  return forward(tape, inputs, embed(tape, inputs));
}

// A tape of one token is enough to learn the parameters and how they are read.
const Model::Recorded& Model::recorded() const {
  std::call_once(once_, [this] {
    const std::unique_ptr<kernels::Kernels> kernels = kernels::make_reference(kernels::DType::kF32);
    Tape tape(*kernels, kernels::DType::kF32, true);
    const Outputs outputs = forward(tape, Inputs::declare(tape, 1, 1));
    recorded_.parameters = tape.parameters();
    recorded_.tensors = tape::tensors_of(tape.parameters());
    recorded_.multiplies.assign(tape.parameters().size(), false);
    recorded_.multiplies[tape.buffers()[outputs.head.id].parameter] = true;
    for (const tape::Node& node : tape.nodes())
      for (size_t j = 0; j < node.in.size(); ++j)
        if (const int p = tape.buffers()[node.in[j]].parameter;
            p >= 0 && node.info.uses[j] != kernels::Use::kTable)
          recorded_.multiplies[p] = true;
  });
  return recorded_;
}

Cost Model::cost(int64_t sequence_length) const {
  Cost out;
  double products = 0;
  for (size_t p = 0; p < parameters().size(); ++p) {
    const tape::ParameterSpec& spec = parameters()[p];
    const int64_t active = spec.active * spec.rows * spec.cols;
    out.parameters += spec.size();
    out.active_parameters += active;
    if (recorded().multiplies[p]) products += static_cast<double>(active);
  }
  const double attention =
      static_cast<double>(attention_width()) * static_cast<double>(sequence_length) / 2;
  out.training_flops = 6 * (products + attention);
  return out;
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
