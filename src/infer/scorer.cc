// SPDX-License-Identifier: Apache-2.0
#include "infer/scorer.h"

namespace naite::infer {

namespace {

tape::Tensor record(const model::Model& model, tape::Tape& tape, int64_t tokens,
                    int64_t positions) {
  const model::Inputs inputs = model::Inputs::declare(tape, tokens, positions);
  const tape::Tensor targets = tape.data("targets", kernels::DType::kI32, tokens, 1);
  const model::Outputs out = model.forward(tape, inputs);
  const tape::Tensor losses = tape::token_losses(out.hidden, out.head, targets);
  tape.keep(losses);
  return losses;
}

}  // namespace

Scorer::Scorer(const model::Model& model, tape::Parameters& parameters, int64_t tokens,
               int64_t positions)
    : tape_(parameters.kernels(), parameters.compute(), false),
      loss_(record(model, tape_, tokens, positions)),
      program_(tape_, parameters),
      losses_(static_cast<size_t>(tokens)) {
  prepared_ = parameters.prepare_new();
}

Batch Scorer::batch() const {
  Batch out = Batch::text(tokens());
  out.pad(0);
  return out;
}

Result<std::span<const float>> Scorer::score(const Batch& batch) {
  NAITE_TRY(prepared_);
  NAITE_TRY(program_.feed(batch));
  NAITE_TRY(program_.forward());
  NAITE_TRY(
      program_.read(loss_, losses_.data(), static_cast<int64_t>(losses_.size() * sizeof(float))));
  return std::span<const float>(losses_);
}

}  // namespace naite::infer
