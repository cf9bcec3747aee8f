// SPDX-License-Identifier: Apache-2.0
#include "train/engine.h"

#include <algorithm>
#include <cmath>

#include "train/initial.h"

namespace naite::train {

using kernels::DType;
using kernels::View;

std::vector<Batch> make_batches(const Recipe& recipe) {
  const Batch one = Batch::text(recipe.train.micro_batch_tokens);
  return std::vector<Batch>(static_cast<size_t>(recipe.num_micro_batches()), one);
}

void fill_batches(const Recipe& recipe, const data::Loader& loader, int64_t step,
                  std::span<Batch> batches) {
  const int64_t rows = recipe.train.micro_batch_tokens / recipe.data.sequence_length;
  for (size_t i = 0; i < batches.size(); ++i) {
    loader.declare(batches[i]);
    loader.fill(step - recipe.first_step, static_cast<int64_t>(i) * rows, rows, batches[i]);
  }
}

Status computed_by(const kernels::Kernels& kernels, const Recipe& recipe) {
  if (kernels.arithmetic() == *recipe.arithmetic) return {};
  return fail(
      "arithmetic {} is published and computed by the reference alone; {} computes {}: write "
      "arithmetic = \"{}\" in [run]",
      recipe.arithmetic->name, kernels.name(), kernels.arithmetic().name,
      kernels.arithmetic().name);
}

TrainingTape::TrainingTape(const model::Model& model, const kernels::Kernels& kernels,
                           const Recipe& recipe, const Objective& objective)
    : tape(kernels, recipe.compute(), true) {
  model::Inputs inputs =
      model::Inputs::declare(tape, recipe.train.micro_batch_tokens, recipe.data.sequence_length);
  inputs.watches_scores = recipe.optimizer.muon.qk_clip > 0;
  loss = objective.loss(tape, model.forward(tape, inputs));
  tape.keep(loss);
}

ReportLayout::ReportLayout(const tape::Program& program, const Recipe& recipe)
    : losses(watched + program.watched().size()),
      squares(losses + recipe.num_micro_batches() * recipe.train.micro_batch_tokens),
      size(squares + static_cast<int64_t>(program.parameters().size())) {}

Engine::Engine(const model::Model& model, kernels::Kernels& kernels, const Recipe& recipe,
               EngineOptions options, DeviceState state)
    : kernels_(kernels),
      recipe_(recipe),
      options_(options),
      objective_(objective_of(recipe.objective)),
      tape_(model, kernels, recipe, objective_),
      parameters_(kernels, recipe.compute(), tape_.tape.parameters(), std::move(state.masters)),
      train_(tape_.tape, parameters_, {.recompute = options.recompute}),
      scorer_(model, parameters_, recipe.train.micro_batch_tokens, recipe.data.sequence_length),
      optimizer_(recipe, kernels, parameters_, std::move(state.moments)),
      scored_heads_(recipe.optimizer.muon.qk_clip > 0 ? model.scored_heads()
                                                      : std::vector<model::ScoredHeads>()),
      batches_(make_batches(recipe)),
      report_layout_(train_, recipe),
      report_(kernels, 4 * report_layout_.size),
      downloaded_(static_cast<size_t>(report_layout_.squares)) {
  NAITE_CHECK(computed_by(kernels, recipe).ok(), "{}", recipe.arithmetic->name);
  for (Batch& batch : batches_) objective_.declare(batch);
  for (const tape::ParameterSpec& spec : parameters_.specs()) num_values_ += spec.size();
  Result<Slab> rehearsed = sum_ranks();
  NAITE_CHECK(rehearsed.ok(), "{}", rehearsed.error().message);
  gradient_ = std::move(*rehearsed);
  rehearses_ = false;
}

DeviceState Engine::release() { return {parameters_.release(), optimizer_.release()}; }

Status Engine::initialise(uint64_t seed, ThreadPool& pool) {
  std::vector<float> values;
  for (int p = 0; p < parameters_.size(); ++p) {
    const tape::ParameterSpec& spec = parameters_.specs()[p];
    for (int64_t i = 0; i < spec.count; ++i) {
      values.resize(static_cast<size_t>(spec.rows * spec.cols));
      fill_initial(spec.tensor(i), seed, pool, values);
      const View master = parameters_.tensor(p, i);
      NAITE_TRY(kernels_.upload(master.data, values.data(), master.bytes()));
    }
  }
  return parameters_.prepare_all();
}

// Loads the step's rows and tells the tape what each token's loss counts; returns the whole.
double Engine::fill(const data::Loader& loader, int64_t step) {
  fill_batches(recipe_, loader, step, batches_);
  double total = 0;
  for (const Batch& batch : batches_) total = total + objective_.weight(batch);
  for (Batch& batch : batches_) objective_.fill(batch, total);
  return total;
}

// Numbers of the report, as a view in the shape of `like`.
View Engine::reported(int64_t at, const View& like) const {
  return {static_cast<float*>(report_.data()) + at, DType::kF32, like.rows, like.cols};
}

Status Engine::run_micro_batch(int64_t index, const Slab& slab, bool accumulate) {
  if (rehearses_) return {};
  NAITE_TRY(train_.feed(batches_[static_cast<size_t>(index)]));
  NAITE_TRY(train_.forward());
  NAITE_TRY(train_.backward(slab, accumulate));
  const View loss = train_.kept(tape_.loss);
  return kernels_.submit(
      kernels::Copy{reported(report_layout_.losses + index * loss.size(), loss), loss});
}

Engine::Slab Engine::take_slab() {
  NAITE_CHECK(rehearses_ || !free_slabs_.empty());
  if (free_slabs_.empty()) return Slab(kernels_, parameters_.layout().bytes());
  Slab slab = std::move(free_slabs_.back());
  free_slabs_.pop_back();
  return slab;
}

// left = left + right, whose slab is free again.
Status Engine::join(const Slab& left, Slab right) {
  const View sum = parameters_.layout().whole(left), other = parameters_.layout().whole(right);
  if (!rehearses_) NAITE_TRY(kernels_.submit(kernels::Add{{sum, sum, other}}));
  free_slabs_.push_back(std::move(right));
  return {};
}

// The gradient of groups [first, first + count), count a power of two.
Result<Engine::Slab> Engine::sum_groups(int64_t first, int64_t count) {
  if (count == 1) {
    Slab slab = take_slab();
    const int64_t per_group = recipe_.num_micro_batches() / recipe_.train.gradient_groups;
    for (int64_t i = 0; i < per_group; ++i)
      NAITE_TRY(run_micro_batch(first * per_group + i, slab, i > 0));
    return slab;
  }
  NAITE_ASSIGN(Slab left, sum_groups(first, count / 2));
  NAITE_ASSIGN(Slab right, sum_groups(first + count / 2, count / 2));
  NAITE_TRY(join(left, std::move(right)));
  return left;
}

// Every virtual rank sums its own groups; then the ranks join by the same tree.
Result<Engine::Slab> Engine::sum_ranks() {
  const int64_t groups = recipe_.train.gradient_groups / options_.virtual_ranks;
  std::vector<Slab> ranks;
  for (int64_t rank = 0; rank < options_.virtual_ranks; ++rank) {
    NAITE_ASSIGN(Slab of_rank, sum_groups(rank * groups, groups));
    ranks.push_back(std::move(of_rank));
  }
  for (size_t step = 1; step < ranks.size(); step *= 2)
    for (size_t i = 0; i + step < ranks.size(); i += 2 * step)
      NAITE_TRY(join(ranks[i], std::move(ranks[i + step])));
  return std::move(ranks[0]);
}

// Of parameters that are not trained the report keeps +0.
Status Engine::sum_squares(const Slab& slab) {
  const View one{nullptr, DType::kF32, 1, 1}, all{nullptr, DType::kF32, 1, parameters_.size()};
  for (int p = 0; p < parameters_.size(); ++p)
    if (optimizer_.trains(p))
      NAITE_TRY(kernels_.submit(kernels::SumSquares{reported(report_layout_.squares + p, one),
                                                    parameters_.layout().view(slab, p)}));
  return kernels_.submit(kernels::TreeSum{reported(0, one), reported(report_layout_.squares, all)});
}

Result<StepResult> Engine::gradient(const data::Loader& loader, int64_t step) {
  if (gradient_) free_slabs_.push_back(std::move(gradient_));
  gradient_ = Slab();
  const double total = fill(loader, step);
  train_.begin_watching();
  NAITE_ASSIGN(gradient_, sum_ranks());
  NAITE_TRY(sum_squares(gradient_));
  if (const View watched = train_.watched(); watched.size() > 0)
    NAITE_TRY(kernels_.submit(kernels::Copy{reported(report_layout_.watched, watched), watched}));
  NAITE_TRY(kernels_.download(downloaded_.data(), report_.data(), 4 * report_layout_.squares));
  StepResult result;
  const auto tokens = static_cast<size_t>(recipe_.train.micro_batch_tokens);
  std::span<const float> losses = std::span(downloaded_).subspan(report_layout_.losses);
  for (const Batch& batch : batches_) {
    result.loss = result.loss + objective_.sum(batch, losses.first(tokens));
    losses = losses.subspan(tokens);
    for (const int32_t target : batch.ints("targets")) result.num_targets += target >= 0;
  }
  result.loss = result.loss / (total > 0 ? total : 1);
  result.grad_norm = std::sqrt(static_cast<double>(downloaded_[0]));
  result.batch = digest_of(batches_);
  return result;
}

Status Engine::update(int64_t step, double grad_norm) {
  const double limit = recipe_.train.max_grad_norm;
  const float scale = limit > 0 && grad_norm > limit ? static_cast<float>(limit / grad_norm) : 1.0f;
  NAITE_TRY(optimizer_.update(step, scale, gradient_));
  for (const model::ScoredHeads& heads : scored_heads_) {
    const View peaks = train_.watched(heads.name);
    const auto at = peaks.as<const float>() - train_.watched().as<const float>();
    NAITE_TRY(optimizer_.clip(
        heads, std::span(downloaded_).subspan(report_layout_.watched + at, peaks.size())));
  }
  return parameters_.prepare_all();
}

Memory Engine::memory() const {
  Memory out;
  out.parameters = parameters_.bytes();
  out.gradients = gradient_.bytes();
  for (const Slab& slab : free_slabs_) out.gradients += slab.bytes();
  out.optimizer = optimizer_.bytes();
  out.activations = train_.bytes() + report_.bytes();
  out.validation = scorer_.bytes();
  for (const Batch& batch : batches_) out.batches += batch.bytes();
  out.backend = kernels_.fixed_bytes();
  return out;
}

void Engine::shapes(formats::TrainingState& state) const {
  state.specs = tape::tensors_of(parameters_.specs());
  Optimizer::shapes(recipe_.optimizer, parameters_.specs(), state);
}

Status Engine::save(formats::TrainingState& state) const {
  shapes(state);
  state.masters.resize(static_cast<size_t>(num_values_));
  int64_t offset = 0;
  for (int p = 0; p < parameters_.size(); ++p) {
    const View view = parameters_.master(p);
    NAITE_TRY(kernels_.download(state.masters.data() + offset, view.data, view.bytes()));
    offset += view.size();
  }
  return optimizer_.save(state);
}

Status Engine::load(const formats::TrainingState& state) {
  int64_t offset = 0;
  for (int p = 0; p < parameters_.size(); ++p) {
    const View view = parameters_.master(p);
    NAITE_TRY(kernels_.upload(view.data, state.masters.data() + offset, view.bytes()));
    offset += view.size();
  }
  NAITE_TRY(optimizer_.load(state));
  return parameters_.prepare_all();
}

}  // namespace naite::train
