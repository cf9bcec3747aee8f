// SPDX-License-Identifier: Apache-2.0
#include "train/engine.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "train/initial.h"

namespace naite::train {

namespace {

using kernels::DType;
using kernels::View;

// Slabs that are alive at once while groups are summed: one per level of the tree, and one per
// virtual rank that waits for the others.
int64_t num_slabs(const Recipe& recipe, const EngineOptions& options) {
  const int64_t groups_per_rank = recipe.train.gradient_groups / options.virtual_ranks;
  return options.virtual_ranks + std::bit_width(static_cast<uint64_t>(groups_per_rank)) - 1;
}

// Prepared copies of the parameters, counted as the programs will make them.
int64_t prepared_bytes(const tape::Tape& tape, const kernels::Kernels& kernels) {
  std::set<std::pair<int, kernels::Use>> uses;
  for (const tape::Node& node : tape.nodes())
    for (size_t j = 0; j < node.in.size(); ++j)
      if (node.info.uses[j] != kernels::Use::kActivation)
        uses.emplace(tape.buffers()[node.in[j]].parameter, node.info.uses[j]);
  int64_t bytes = 0;
  for (const auto& [parameter, use] : uses) {
    const tape::ParameterSpec& spec = tape.parameters()[parameter];
    bytes += kernels.prepared_bytes(use, tape.compute(), spec.rows, spec.cols);
  }
  return bytes;
}

int64_t program_bytes(const tape::Plan& plan) {
  return plan.arena_bytes + plan.workspace_bytes + plan.data_bytes;
}

}  // namespace

HostBatch::HostBatch(const Recipe& recipe) {
  const auto count = static_cast<size_t>(recipe.train.batch_tokens);
  for (std::vector<int32_t>* part : {&tokens, &targets, &positions}) part->resize(count);
  spans.resize(2 * count);
}

void HostBatch::fill(const Recipe& recipe, const data::Loader& loader, int64_t step) {
  const int64_t micro_tokens = recipe.train.micro_batch_tokens;
  const int64_t rows = micro_tokens / recipe.data.sequence_length;
  for (int64_t i = 0; i < recipe.num_micro_batches(); ++i) {
    const auto at = static_cast<size_t>(i * micro_tokens),
               count = static_cast<size_t>(micro_tokens);
    loader.fill(
        step - recipe.first_step, i * rows, rows,
        {std::span(tokens).subspan(at, count), std::span(targets).subspan(at, count),
         std::span(positions).subspan(at, count), std::span(spans).subspan(2 * at, 2 * count)});
  }
}

Digest HostBatch::digest() const {
  Sha256 hash;
  for (const std::vector<int32_t>* part : {&tokens, &targets, &positions})
    hash.update(part->data(), part->size() * sizeof(int32_t));
  return hash.digest();
}

MicroBatchTape::MicroBatchTape(const model::Model& model, const kernels::Kernels& kernels,
                               DType compute, int64_t tokens, int64_t positions, bool gradients,
                               bool peaks)
    : tape(kernels, compute, gradients),
      inputs{tape.data("ids", DType::kI32, tokens, 1),
             tape.data("positions", DType::kI32, tokens, 1),
             tape.data("spans", DType::kI32, tokens, 2), positions},
      targets(tape.data("targets", DType::kI32, tokens, 1)),
      scale(tape.data("scale", tape.wide(), 1, 1)) {
  inputs.wants_peaks = peaks;
  model::Outputs out = model.forward(tape, inputs);
  loss = tape::linear_cross_entropy(out.hidden, out.head, targets, scale);
  tape.keep(loss);
  this->peaks = std::move(out.peaks);
  for (const model::HeadPeaks& of : this->peaks) tape.keep(of.values);
}

ReportLayout::ReportLayout(const MicroBatchTape& tape, const Recipe& recipe) {
  for (const model::HeadPeaks& of : tape.peaks) losses += of.values.cols();
  squares = losses + recipe.num_micro_batches() * recipe.train.micro_batch_tokens;
  size = squares + static_cast<int64_t>(tape.tape.parameters().size());
}

MemoryPlan plan_memory(const model::Model& model, const kernels::Kernels& kernels,
                       const Recipe& recipe, const EngineOptions& options) {
  const MicroBatchTape train(model, kernels, recipe.compute(), recipe.train.micro_batch_tokens,
                             recipe.data.sequence_length, true, recipe.optimizer.muon.qk_clip > 0);
  const MicroBatchTape eval(model, kernels, recipe.compute(), recipe.train.micro_batch_tokens,
                            recipe.data.sequence_length, false);
  const int64_t slab = tape::SlabLayout(train.tape.parameters(), DType::kF32).bytes();
  MemoryPlan plan;
  plan.parameters = slab + prepared_bytes(train.tape, kernels);
  plan.gradients = slab * num_slabs(recipe, options);
  const Optimizer::Bytes optimizer =
      Optimizer::bytes(recipe.optimizer, kernels, train.tape.parameters());
  plan.optimizer = optimizer.total();
  plan.activations = program_bytes(tape::make_plan(train.tape, options.recompute)) +
                     4 * ReportLayout(train, recipe).size;
  plan.validation = program_bytes(tape::make_plan(eval.tape));
  plan.checkpoint = slab + optimizer.state;
  plan.backend = kernels.fixed_bytes();
  return plan;
}

Engine::Engine(const model::Model& model, kernels::Kernels& kernels, const Recipe& recipe,
               EngineOptions options, DeviceState state)
    : kernels_(kernels),
      recipe_(recipe),
      options_(options),
      train_tape_(model, kernels, recipe.compute(), recipe.train.micro_batch_tokens,
                  recipe.data.sequence_length, true, recipe.optimizer.muon.qk_clip > 0),
      eval_tape_(model, kernels, recipe.compute(), recipe.train.micro_batch_tokens,
                 recipe.data.sequence_length, false),
      parameters_(kernels, recipe.compute(), train_tape_.tape.parameters(),
                  std::move(state.masters)),
      train_(train_tape_.tape, parameters_, {.recompute = options.recompute}),
      eval_(eval_tape_.tape, parameters_),
      optimizer_(recipe, kernels, parameters_, std::move(state.moments)),
      batch_(recipe),
      report_layout_(train_tape_, recipe),
      report_(kernels, 4 * report_layout_.size),
      downloaded_(static_cast<size_t>(report_layout_.squares)) {
  const int64_t bytes = parameters_.layout().bytes();
  for (int64_t i = 0; i < num_slabs(recipe, options); ++i) free_slabs_.emplace_back(kernels, bytes);
}

DeviceState Engine::release() { return {parameters_.release(), optimizer_.release()}; }

Status Engine::initialise(uint64_t seed, ThreadPool& pool) {
  std::vector<float> values;
  for (int p = 0; p < parameters_.size(); ++p) {
    const tape::ParameterSpec& spec = parameters_.specs()[p];
    values.resize(static_cast<size_t>(spec.size()));
    fill_initial(spec, seed, pool, values);
    const View master = parameters_.master(p);
    NAITE_TRY(kernels_.upload(master.data, values.data(), master.bytes()));
  }
  return parameters_.prepare_all();
}

// Loads the batch and tells the tape what every token's loss weighs: one over the targets of the
// step.
Result<double> Engine::fill_and_scale(const data::Loader& loader, int64_t step) {
  batch_.fill(recipe_, loader, step);
  const auto targets =
      std::count_if(batch_.targets.begin(), batch_.targets.end(), [](int32_t t) { return t >= 0; });
  const auto scale = static_cast<float>(1.0 / static_cast<double>(std::max<int64_t>(1, targets)));
  NAITE_TRY(train_.write(train_tape_.scale, &scale, sizeof scale));
  return static_cast<double>(targets);
}

Status Engine::feed(tape::Program& program, const MicroBatchTape& tape, int64_t index) {
  const int64_t tokens = recipe_.train.micro_batch_tokens;
  const int64_t at = index * tokens, bytes = tokens * static_cast<int64_t>(sizeof(int32_t));
  NAITE_TRY(program.write(tape.inputs.ids, &batch_.tokens[at], bytes));
  NAITE_TRY(program.write(tape.targets, &batch_.targets[at], bytes));
  NAITE_TRY(program.write(tape.inputs.positions, &batch_.positions[at], bytes));
  return program.write(tape.inputs.spans, &batch_.spans[2 * at], 2 * bytes);
}

// Numbers of the report, as a view in the shape of `like`.
View Engine::reported(int64_t at, const View& like) const {
  return {static_cast<float*>(report_.data()) + at, DType::kF32, like.rows, like.cols};
}

Status Engine::run_micro_batch(int64_t index, const Slab& slab, bool accumulate) {
  NAITE_TRY(feed(train_, train_tape_, index));
  NAITE_TRY(train_.forward());
  NAITE_TRY(train_.backward(slab, accumulate));
  const View loss = train_.kept(train_tape_.loss);
  NAITE_TRY(kernels_.submit(
      kernels::Copy{reported(report_layout_.losses + index * loss.size(), loss), loss}));
  int64_t at = 1;
  for (const model::HeadPeaks& of : train_tape_.peaks) {
    const View found = train_.kept(of.values), most = reported(at, found);
    NAITE_TRY(index == 0 ? kernels_.submit(kernels::Copy{most, found})
                         : kernels_.submit(kernels::Maximum{most, most, found}));
    at += found.size();
  }
  return {};
}

Engine::Slab Engine::take_slab() {
  NAITE_CHECK(!free_slabs_.empty());
  Slab slab = std::move(free_slabs_.back());
  free_slabs_.pop_back();
  return slab;
}

// left = left + right, whose slab is free again.
Status Engine::join(const Slab& left, Slab right) {
  const tape::SlabLayout& layout = parameters_.layout();
  const View sum = layout.whole(left);
  NAITE_TRY(kernels_.submit(kernels::Add{sum, sum, layout.whole(right)}));
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
  NAITE_ASSIGN(const double targets, fill_and_scale(loader, step));
  NAITE_ASSIGN(gradient_, sum_ranks());
  NAITE_TRY(sum_squares(gradient_));
  NAITE_TRY(kernels_.download(downloaded_.data(), report_.data(), 4 * report_layout_.squares));
  double sum = 0;
  const float* loss = downloaded_.data() + report_layout_.losses;
  for (int64_t i = 0; i < recipe_.num_micro_batches(); ++i) {
    double of_micro_batch = 0;
    for (int64_t t = 0; t < recipe_.train.micro_batch_tokens; ++t)
      of_micro_batch = of_micro_batch + static_cast<double>(*loss++);
    sum = sum + of_micro_batch;
  }
  return StepResult{sum / std::max(1.0, targets), std::sqrt(static_cast<double>(downloaded_[0])),
                    static_cast<int64_t>(targets), batch_.digest()};
}

Status Engine::update(int64_t step, double grad_norm) {
  const double limit = recipe_.train.max_grad_norm;
  const float scale = limit > 0 && grad_norm > limit ? static_cast<float>(limit / grad_norm) : 1.0f;
  NAITE_TRY(optimizer_.update(step, scale, gradient_));
  const float* peaks = downloaded_.data() + 1;
  for (const model::HeadPeaks& of : train_tape_.peaks) {
    const auto heads = static_cast<size_t>(of.values.cols());
    NAITE_TRY(optimizer_.clip(of, {peaks, heads}));
    peaks += heads;
  }
  return parameters_.prepare_all();
}

Result<Engine::Validation> Engine::validate(const data::Loader& loader, int source) {
  const int64_t length = recipe_.data.sequence_length, tokens = recipe_.train.micro_batch_tokens;
  const int64_t rows_at_once = tokens / length;
  const int64_t rows = std::min(loader.num_validation_rows(source),
                                std::max<int64_t>(1, recipe_.train.validation_tokens / length));
  Validation result;
  std::vector<float> losses(static_cast<size_t>(tokens));
  double sum = 0;
  int64_t bytes = 0;
  for (int64_t row = 0; row < rows; row += rows_at_once) {
    const int64_t now = std::min(rows_at_once, rows - row);
    const auto count = static_cast<size_t>(now * length);
    // What is left of the micro-batch is padded with tokens that see themselves and have no target.
    std::fill(batch_.targets.begin(), batch_.targets.begin() + tokens, -1);
    std::fill(batch_.tokens.begin(), batch_.tokens.begin() + tokens, 0);
    for (int64_t t = 0; t < tokens; ++t) {
      batch_.positions[t] = 0;
      batch_.spans[2 * t] = static_cast<int32_t>(t);
      batch_.spans[2 * t + 1] = static_cast<int32_t>(t) + 1;
    }
    bytes += loader.fill_validation(
        source, row, now,
        {std::span(batch_.tokens).first(count), std::span(batch_.targets).first(count),
         std::span(batch_.positions).first(count), std::span(batch_.spans).first(2 * count)});
    NAITE_TRY(feed(eval_, eval_tape_, 0));
    NAITE_TRY(eval_.forward());
    NAITE_TRY(eval_.read(eval_tape_.loss, losses.data(), 4 * tokens));
    for (int64_t t = 0; t < tokens; ++t) {
      sum = sum + static_cast<double>(losses[t]);
      result.targets += batch_.targets[t] >= 0;
    }
  }
  result.loss = sum / static_cast<double>(std::max<int64_t>(1, result.targets));
  result.bits_per_byte = sum / kLn2 / static_cast<double>(std::max<int64_t>(1, bytes));
  return result;
}

void Engine::shapes(formats::TrainingState& state) const {
  state.specs = parameters_.specs();
  optimizer_.shapes(state);
}

Status Engine::save(formats::TrainingState& state) const {
  shapes(state);
  int64_t total = 0;
  for (const tape::ParameterSpec& spec : state.specs) total += spec.size();
  state.masters.resize(static_cast<size_t>(total));
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

int64_t Engine::bytes() const {
  const int64_t slab = parameters_.layout().bytes();
  return slab * (1 + num_slabs(recipe_, options_)) + parameters_.prepared_bytes() +
         Optimizer::bytes(recipe_.optimizer, kernels_, parameters_.specs()).total() +
         train_.bytes() + eval_.bytes() + kernels_.fixed_bytes();
}

}  // namespace naite::train
