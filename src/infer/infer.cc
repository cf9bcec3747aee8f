// SPDX-License-Identifier: Apache-2.0
#include "infer/infer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace naite::infer {

namespace {

using kernels::DType;

constexpr int64_t kPrefillTokens = 64;  // of one prefill step; the last one is padded
constexpr double kLog2E = 1.44269504088896340736;

}  // namespace

Result<int32_t> sample(std::span<const float> logits, const SamplingOptions& options,
                       int64_t position) {
  for (const float logit : logits)
    if (!std::isfinite(logit))
      return fail(
          "the logits are no numbers: the model's weights are broken, or too large for the "
          "type that it computes in");
  const auto best = std::max_element(logits.begin(), logits.end());
  if (options.temperature <= 0) return static_cast<int32_t>(best - logits.begin());
  std::vector<double> weight(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double x = (static_cast<double>(logits[i]) - static_cast<double>(*best)) * kLog2E /
                     options.temperature;
    weight[i] = exact_exp2(std::max(x, -1000.0));
  }
  // The most likely tokens first, equal ones by id.
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return weight[a] != weight[b] ? weight[a] > weight[b] : a < b;
  });
  double total = 0;
  for (int32_t id : order) total = total + weight[id];
  double kept = 0;
  size_t count = 0;
  while (count < order.size() && (count == 0 || kept < options.top_p * total))
    kept = kept + weight[order[count++]];
  double left =
      kept * random_unit(options.seed, Purpose::kSampling, static_cast<uint64_t>(position));
  for (size_t i = 0; i < count; ++i) {
    left = left - weight[order[i]];
    if (left < 0) return order[i];
  }
  return order[count - 1];
}

Generator::Part::Part(const model::Model& model, tape::Parameters& parameters, int64_t tokens,
                      int64_t cache_rows, int64_t positions, bool with_logits, tape::States* states)
    : tape(parameters.kernels(), parameters.compute(), false),
      inputs{tape.data("ids", DType::kI32, tokens, 1),
             tape.data("positions", DType::kI32, tokens, 1),
             tape.data("spans", DType::kI32, tokens, 2),
             positions,
             tape.data("slots", DType::kI32, tokens, 1),
             cache_rows} {
  const model::Outputs out = model.forward(tape, inputs);
  if (with_logits) {
    logits = tape::logits(out.hidden, out.head);
    tape.keep(logits);
  }
  program =
      std::make_unique<tape::Program>(tape, parameters, tape::ProgramOptions{.states = states});
}

// The cache has room for one prefill step of padding behind the sequence.
Generator::Generator(const model::Model& model, tape::Parameters& parameters, int64_t capacity)
    : capacity_(capacity),
      prefill_(model, parameters, kPrefillTokens, capacity + kPrefillTokens, capacity, false,
               &states_),
      decode_(model, parameters, 1, capacity + kPrefillTokens, capacity, true, &states_),
      logits_(static_cast<size_t>(model.vocab_size())) {
  prepared_ = parameters.prepare_all();
}

int64_t Generator::bytes() const {
  int64_t bytes = prefill_.program->bytes() + decode_.program->bytes();
  for (const auto& [name, state] : states_) bytes += state.bytes();
  return bytes;
}

// Runs tokens through a part of `padded` tokens. Padding goes to rows behind the sequence and sees
// only itself.
Status Generator::run(Part& part, std::span<const int32_t> tokens, int64_t padded) {
  ids_.assign(padded, 0);
  positions_.assign(padded, 0);
  spans_.assign(2 * padded, 0);
  slots_.assign(padded, 0);
  for (int64_t t = 0; t < padded; ++t) {
    const bool real = t < static_cast<int64_t>(tokens.size());
    const auto slot = static_cast<int32_t>(real ? length_ + t : capacity_ + t);
    ids_[t] = real ? tokens[t] : 0;
    positions_[t] = real ? slot : 0;
    slots_[t] = slot;
    spans_[2 * t] = real ? 0 : slot;
    spans_[2 * t + 1] = slot + 1;
  }
  NAITE_TRY(prepared_);
  const int64_t bytes = padded * static_cast<int64_t>(sizeof(int32_t));
  NAITE_TRY(part.program->write(part.inputs.ids, ids_.data(), bytes));
  NAITE_TRY(part.program->write(part.inputs.positions, positions_.data(), bytes));
  NAITE_TRY(part.program->write(part.inputs.spans, spans_.data(), 2 * bytes));
  NAITE_TRY(part.program->write(part.inputs.slots, slots_.data(), bytes));
  NAITE_TRY(part.program->forward());
  length_ += static_cast<int64_t>(tokens.size());
  return {};
}

Result<std::span<const float>> Generator::append(std::span<const int32_t> tokens) {
  NAITE_CHECK(!tokens.empty() && length_ + static_cast<int64_t>(tokens.size()) <= capacity_,
              "{} tokens after {} of {}", tokens.size(), length_, capacity_);
  std::span<const int32_t> rest = tokens.first(tokens.size() - 1);
  while (!rest.empty()) {
    const size_t count = std::min<size_t>(rest.size(), kPrefillTokens);
    NAITE_TRY(run(prefill_, rest.first(count), kPrefillTokens));
    rest = rest.subspan(count);
  }
  NAITE_TRY(run(decode_, tokens.last(1), 1));
  NAITE_TRY(decode_.program->read(decode_.logits, logits_.data(),
                                  static_cast<int64_t>(logits_.size() * sizeof(float))));
  return std::span<const float>(logits_);
}

Result<int64_t> Generator::generate(std::span<const int32_t> prompt, const SamplingOptions& options,
                                    const std::function<bool(int32_t)>& emit) {
  const auto vocab_size = static_cast<int64_t>(logits_.size());
  for (const int32_t id : prompt)
    if (id < 0 || id >= vocab_size)
      return fail("the prompt has the token id {}, but the model's vocab_size is {}", id,
                  vocab_size);
  reset();
  int64_t emitted = 0;
  std::vector<int32_t> next(prompt.begin(), prompt.end());
  while (emitted < options.max_tokens && length_ + static_cast<int64_t>(next.size()) <= capacity_) {
    NAITE_ASSIGN(const std::span<const float> logits, append(next));
    NAITE_ASSIGN(const int32_t token, sample(logits, options, length_));
    if (std::find(options.stop_tokens.begin(), options.stop_tokens.end(), token) !=
        options.stop_tokens.end())
      break;
    ++emitted;
    if (!emit(token)) break;
    next.assign(1, token);
  }
  return emitted;
}

}  // namespace naite::infer
