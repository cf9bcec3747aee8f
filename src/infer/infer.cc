// SPDX-License-Identifier: Apache-2.0
#include "infer/infer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace naite::infer {

namespace {

constexpr int64_t kPrefillTokens = 64;  // of one prefill step; the last one is padded

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
      inputs(model::Inputs::declare(tape, tokens, positions, cache_rows)) {
  for (const char* name : {"ids", "positions", "slots"}) batch.add_ints(name, tokens);
  batch.add_ints("spans", tokens, 2);
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
  prepared_ = parameters.prepare_new();
}

// Runs tokens through a part. Its other tokens are padding: they go to rows behind the sequence and
// see only themselves.
Status Generator::run(Part& part, std::span<const int32_t> tokens) {
  NAITE_TRY(prepared_);
  const std::span<int32_t> ids = part.batch.ints("ids"), positions = part.batch.ints("positions"),
                           spans = part.batch.ints("spans"), slots = part.batch.ints("slots");
  for (size_t t = 0; t < ids.size(); ++t) {
    const bool real = t < tokens.size();
    const auto slot = static_cast<int32_t>((real ? length_ : capacity_) + static_cast<int64_t>(t));
    ids[t] = real ? tokens[t] : 0;
    positions[t] = real ? slot : 0;
    slots[t] = slot;
    spans[2 * t] = real ? 0 : slot;
    spans[2 * t + 1] = slot + 1;
  }
  NAITE_TRY(part.program->feed(part.batch));
  NAITE_TRY(part.program->forward());
  length_ += static_cast<int64_t>(tokens.size());
  return {};
}

int64_t Generator::bytes() const {
  int64_t bytes = prefill_.program->bytes() + decode_.program->bytes();
  for (const auto& [name, state] : states_) bytes += state.bytes();
  return bytes;
}

Result<std::span<const float>> Generator::append(std::span<const int32_t> tokens) {
  NAITE_CHECK(!tokens.empty() && length_ + static_cast<int64_t>(tokens.size()) <= capacity_,
              "{} tokens after {} of {}", tokens.size(), length_, capacity_);
  std::span<const int32_t> rest = tokens.first(tokens.size() - 1);
  while (!rest.empty()) {
    const size_t count = std::min<size_t>(rest.size(), kPrefillTokens);
    NAITE_TRY(run(prefill_, rest.first(count)));
    rest = rest.subspan(count);
  }
  NAITE_TRY(run(decode_, tokens.last(1)));
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
