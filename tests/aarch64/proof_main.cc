// SPDX-License-Identifier: Apache-2.0
// Three training steps of a small model with nothing but kernels, tape and model: prints a digest
// of parameters and moments for fp32 and bf16. tests/aarch64/run builds it for this machine and for
// AArch64 and compares what both print.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "model/model.h"

namespace naite {
namespace {

using kernels::DType;
using kernels::View;

constexpr int64_t kTokens = 46;  // two documents of 31 and 15

struct Trainer {
  Trainer(const model::Model& model, kernels::Kernels& kernels, DType compute)
      : kernels(kernels), tape(kernels, compute, true) {
    inputs = model::Inputs::declare(tape, kTokens, kTokens);
    targets = tape.data("targets", DType::kI32, kTokens, 1);
    scale = tape.data("scale", DType::kF32, kTokens, 1);
    const model::Outputs out = model.forward(tape, inputs);
    loss = tape::linear_cross_entropy(out.hidden, out.head, targets, scale);
    parameters = std::make_unique<tape::Parameters>(kernels, compute, tape.parameters());
    program = std::make_unique<tape::Program>(tape, *parameters);
    const int64_t bytes = parameters->layout().bytes();
    gradient = tape::Block(kernels, bytes);
    m = tape::Block(kernels, bytes);
    v = tape::Block(kernels, bytes);
    for (int p = 0; p < parameters->size(); ++p) {
      const tape::ParameterSpec& spec = parameters->specs()[p];
      std::vector<float> values(spec.size());
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>(spec.initial_value +
                                       0.2 * random_unit(9, Purpose::kInitialTensor, i, p) - 0.1);
      NAITE_CHECK(
          kernels.upload(parameters->master(p).data, values.data(), parameters->master(p).bytes())
              .ok());
    }
    NAITE_CHECK(parameters->prepare_all().ok());
  }

  void step(int64_t number) {
    std::vector<int32_t> ids, positions, spans, next;
    for (int32_t t = 0; t < kTokens; ++t) {
      const int32_t begin = t < 31 ? 0 : 31;
      ids.push_back(
          static_cast<int32_t>(random_below(61, 3, Purpose::kDataOrder, number * 1000 + t)));
      next.push_back(t == 30 ? -1 : (ids.back() * 5 + 1) % 61);
      positions.push_back(t - begin);
      spans.insert(spans.end(), {begin, t + 1});
    }
    const std::vector<float> weights(kTokens, 1.0f / 45);
    NAITE_CHECK(program->write(inputs.ids, ids.data(), 4 * kTokens).ok());
    NAITE_CHECK(program->write(inputs.positions, positions.data(), 4 * kTokens).ok());
    NAITE_CHECK(program->write(inputs.spans, spans.data(), 8 * kTokens).ok());
    NAITE_CHECK(program->write(targets, next.data(), 4 * kTokens).ok());
    NAITE_CHECK(program->write(scale, weights.data(), 4 * kTokens).ok());
    NAITE_CHECK(program->forward().ok());
    NAITE_CHECK(program->backward(gradient, false).ok());
    const tape::SlabLayout& layout = parameters->layout();
    kernels::AdamWArguments a{1.0f, 0.9f, 0.1f, 0.95f, 0.05f, 1, 1, 1e-8f, 1e-2f, 0.999f};
    a.inverse_correction1 = static_cast<float>(1 / (1 - integer_power(0.9, number + 1)));
    a.inverse_correction2 = static_cast<float>(1 / (1 - integer_power(0.95, number + 1)));
    for (int p = 0; p < parameters->size(); ++p)
      NAITE_CHECK(kernels
                      .submit(kernels::AdamW{parameters->master(p), layout.view(gradient, p),
                                             layout.view(m, p), layout.view(v, p), a})
                      .ok());
    NAITE_CHECK(parameters->prepare_all().ok());
  }

  // FNV-1a, 64 bits: enough to tell bits apart, and needs no library.
  uint64_t digest() const {
    uint64_t hash = 14695981039346656037ull;
    auto add = [&](const View& view) {
      std::vector<unsigned char> bytes(view.bytes());
      NAITE_CHECK(kernels.download(bytes.data(), view.data, view.bytes()).ok());
      for (unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211ull;
    };
    for (int p = 0; p < parameters->size(); ++p) {
      add(parameters->master(p));
      add(parameters->layout().view(m, p));
      add(parameters->layout().view(v, p));
    }
    return hash;
  }

  kernels::Kernels& kernels;
  tape::Tape tape;
  model::Inputs inputs{};
  tape::Tensor targets, scale, loss;
  std::unique_ptr<tape::Parameters> parameters;
  std::unique_ptr<tape::Program> program;
  tape::Block gradient, m, v;
};

int prove() {
  set_float_mode();
  Result<std::unique_ptr<model::Model>> model = model::make_model({{"model_type", "llama"},
                                                                   {"vocab_size", 61},
                                                                   {"hidden_size", 40},
                                                                   {"intermediate_size", 52},
                                                                   {"num_hidden_layers", 2},
                                                                   {"num_attention_heads", 4},
                                                                   {"num_key_value_heads", 2},
                                                                   {"head_dim", 12}},
                                                                  "proof", true);
  ThreadPool pool(2);
  Result<std::unique_ptr<kernels::Kernels>> kernels = kernels::make_cpu(pool, "");
  if (!model || !kernels) return 1;
  for (const DType compute : {DType::kF32, DType::kBf16}) {
    Trainer trainer(**model, **kernels, compute);
    for (int64_t number = 0; number < 3; ++number) trainer.step(number);
    fmt::print("{} {:016x}\n", kernels::dtype_name(compute), trainer.digest());
  }
  fmt::print(stderr, "{}\n", (*kernels)->name());
  return 0;
}

}  // namespace
}  // namespace naite

int main() { return naite::prove(); }
