// SPDX-License-Identifier: Apache-2.0
#include "train/stepper.h"

#include <algorithm>

#include "base/interruptible.h"

namespace naite::train {

namespace {

// Stages share their tensors: a later one may read more positions, not be of another size.
Status same_tensors(const std::vector<tape::ParameterSpec>& before,
                    const std::vector<tape::ParameterSpec>& now, int stage) {
  for (size_t p = 0; p < std::max(now.size(), before.size()); ++p) {
    const bool both = p < now.size() && p < before.size();
    if (both && now[p].name == before[p].name && now[p].rows == before[p].rows &&
        now[p].cols == before[p].cols)
      continue;
    return fail(
        "stage {}: the tensor {} is not that of the stage before; [model] may change positions, "
        "not shapes",
        stage, p < now.size() ? now[p].name : before[p].name);
  }
  return {};
}

}  // namespace

record::StepDigest digest_of(const StepResult& result) {
  return record::StepDigest::of(result.loss, result.grad_norm, result.batch);
}

Stepper::Stepper(const Curriculum& curriculum, const record::RunDirectory& run, int64_t vocab_size,
                 record::StoredStates& states, kernels::Kernels& kernels, ThreadPool& pool,
                 EngineOptions options)
    : curriculum_(curriculum),
      run_(run),
      vocab_size_(vocab_size),
      states_(states),
      kernels_(kernels),
      pool_(pool),
      options_(options) {}

Status Stepper::open(const Recipe& stage) {
  if (stage_ == &stage && loader_) return {};
  if (engine_) {
    carried_specs_ = tape::tensors_of(engine_->parameters().specs());
    carried_ = engine_->release();
    engine_.reset();
  }
  loader_.reset();
  stage_ = &stage;
  NAITE_ASSIGN(model_, stage.make_model(vocab_size_));
  NAITE_ASSIGN(data::Loader loader,
               data::Loader::open({run_.path(), stage.data, stage.loader_seed(),
                                   stage.rows_per_step(), stage.total_steps()}));
  loader_.emplace(std::move(loader));
  return {};
}

Status Stepper::enter(const Recipe& stage) {
  NAITE_TRY(open(stage));
  if (engine_) return {};
  NAITE_TRY(computed_by(kernels_, stage));
  const bool carries = static_cast<bool>(carried_.masters);
  if (carries) NAITE_TRY(same_tensors(carried_specs_, model_->tensors(), stage.stage));
  engine_ = std::make_unique<Engine>(*model_, kernels_, stage, options_, std::move(carried_));
  carried_ = {};
  return carries ? engine_->parameters().prepare_all() : Status();
}

Status Stepper::begin() {
  engine_.reset();
  carried_ = {};
  step_ = curriculum_.first().first_step;
  NAITE_TRY(enter(curriculum_.first()));
  return engine_->initialise(static_cast<uint64_t>(stage_->seed), pool_);
}

Status Stepper::begin(const std::vector<float>& masters, formats::TrainingState& host) {
  NAITE_TRY(begin());
  NAITE_TRY(engine_->save(host));
  host.masters = masters;
  return engine_->load(host);
}

Status Stepper::load(const Recipe& stage, int64_t step, record::StoredCheckpoint& stored,
                     formats::TrainingState& host) {
  NAITE_TRY(enter(stage));
  engine_->shapes(host);
  NAITE_TRY(stored.read(host));
  NAITE_TRY(engine_->load(host));
  step_ = step;
  return {};
}

Result<StepResult> Stepper::advance(const Accept& accept, const std::atomic<bool>* stop) {
  const auto gradient = [&] {
    const Interruptible until(stop);
    return engine_->gradient(*loader_, step_);
  };
  NAITE_ASSIGN(const StepResult result, gradient());
  NAITE_TRY(accept(result));
  NAITE_TRY(engine_->update(step_, result.grad_norm));
  ++step_;
  return result;
}

std::vector<int64_t> Stepper::averaged() const {
  if (!stage_->averages_at(step_)) return {};
  const std::vector<int64_t> steps = stage_->averaging_steps();
  const auto here = std::find(steps.begin(), steps.end(), step_);
  return {here - std::min<int64_t>(stage_->averaging.last - 1, here - steps.begin()), here};
}

// Oldest first, the running parameters last, then the share: docs/NUMERICS.md has the order.
Status Stepper::average(formats::TrainingState& host) {
  const std::vector<int64_t> earlier = averaged();
  if (earlier.empty()) return {};
  NAITE_TRY(engine_->save(host));
  std::vector<float> sum(host.masters.size(), 0.0f);
  for (const int64_t step : earlier) NAITE_TRY(add_checkpoint(step, host.specs, sum));
  const auto share = static_cast<float>(1.0 / static_cast<double>(earlier.size() + 1));
  for (size_t i = 0; i < sum.size(); ++i) host.masters[i] = (sum[i] + host.masters[i]) * share;
  return engine_->load(host);
}

Status Stepper::add_checkpoint(int64_t step, const std::vector<tape::ParameterSpec>& specs,
                               std::vector<float>& sum) {
  const std::filesystem::path path = run_.checkpoint(stage_->stage, step, stage_->tokens_at(step));
  NAITE_ASSIGN(record::StoredCheckpoint* const stored, states_.open(path));
  std::vector<float> masters;
  NAITE_TRY(stored->read_masters(specs, masters));
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = sum[i] + masters[i];
  return {};
}

Status Stepper::save(formats::TrainingState& host) const {
  NAITE_TRY(engine_->save(host));
  host.cursor = curriculum_.cursor(step_);
  return {};
}

Result<std::map<std::string, std::string>> Stepper::tensor_digests() {
  std::map<std::string, std::string> out;
  std::vector<float> values;
  for (int p = 0; p < parameters().size(); ++p) {
    const tape::ParameterSpec& spec = parameters().specs()[static_cast<size_t>(p)];
    for (int64_t i = 0; i < spec.count; ++i) {
      const kernels::View tensor = parameters().tensor(p, i);
      values.resize(static_cast<size_t>(tensor.size()));
      NAITE_TRY(kernels_.download(values.data(), tensor.data, tensor.bytes()));
      out[spec.tensor(i).name] =
          sha256_hex({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
    }
  }
  return out;
}

Result<std::vector<std::pair<std::string, formats::Measured>>> Stepper::validate() {
  std::vector<std::pair<std::string, formats::Measured>> out;
  for (int source = 0; source < loader_->num_sources(); ++source) {
    if (loader_->num_validation_rows(source) == 0) continue;
    NAITE_ASSIGN(const Engine::Validation found, engine_->validate(*loader_, source));
    out.push_back({loader_->source_name(source), {found.loss, found.bits_per_byte}});
  }
  return out;
}

}  // namespace naite::train
