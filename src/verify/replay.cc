// SPDX-License-Identifier: Apache-2.0
// What an audit computes: initial tensors from the seed, and intervals of the training, step by
// step, with the engine that trains.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/machine_limits.h"
#include "formats/checkpoint.h"
#include "ledger/ledger.h"
#include "verify/audit.h"

namespace naite::verify {

using nlohmann::json;
using record::StepDigest;
using record::StoredState;

namespace {

formats::StoredType weights_type(const train::Recipe& recipe) {
  return recipe.train.precision == "bf16" ? formats::StoredType::kBf16 : formats::StoredType::kF32;
}

// A number below `bound` from the system's randomness: the run cannot know what will be drawn.
int64_t draw(int64_t bound) {
  const uint64_t bits = ledger::from_big_endian(*ledger::from_hex(ledger::random_hex(8)));
  return static_cast<int64_t>(
      (static_cast<unsigned __int128>(bits) * static_cast<unsigned __int128>(bound)) >> 64);
}

}  // namespace

// Model and order of the data of a stage.
Status Audit::enter(const train::Recipe& stage) {
  if (stage_ == &stage && loader_) return {};
  engine_.reset();
  stage_ = &stage;
  NAITE_ASSIGN(model_, stage.make_model(tokenizer_->vocab_size()));
  NAITE_ASSIGN(data::Loader loader,
               data::Loader::open({request_.run, stage.data, stage.loader_seed(),
                                   stage.rows_per_step(), stage.total_steps()}));
  loader_.emplace(std::move(loader));
  return {};
}

Status Audit::enter_to_train(const train::Recipe& stage) {
  NAITE_TRY(enter(stage));
  if (!engine_)
    engine_ = std::make_unique<train::Engine>(*model_, kernels_, stage, train::EngineOptions{});
  return {};
}

// Before anything of the run's size is allocated. A run may claim to be of any size.
Result<Finding> Audit::memory() {
  std::error_code code;
  const uintmax_t stored = std::filesystem::file_size(
      request_.run / history_.stored.front().directory / "model.safetensors", code);
  const int64_t parameters = history_.commitment.parameters;
  if (!code && static_cast<uintmax_t>(parameters) > stored)
    return fail("{} parameters do not fit the {} bytes of the first checkpoint", parameters,
                stored);
  const int64_t usable = usable_memory_bytes();
  int64_t bytes_max = 0;
  for (const train::Recipe& stage : curriculum_.stages) {
    NAITE_TRY(enter(stage));
    // The plan, two states on the host, and the batch.
    const int64_t bytes = train::plan_memory(*model_, kernels_, stage, {}).total() +
                          24 * parameters + 20 * stage.train.batch_tokens;
    if (bytes > usable)
      return fail("training it again takes {} bytes of memory, this process may use {}", bytes,
                  usable);
    bytes_max = std::max(bytes_max, bytes);
  }
  return Finding{fmt::format("{} MiB to train it again", bytes_max >> 20)};
}

Result<Finding> Audit::initial() {
  progress("initial tensors", 0, 0);
  const train::Recipe& stage = stage_that_stored(history_.stored.front());
  NAITE_TRY(enter_to_train(stage));
  NAITE_TRY(engine_->initialise(static_cast<uint64_t>(stage.seed), pool_));
  NAITE_TRY(engine_->save(initial_));
  for (formats::TrainingState::Moments& moments : initial_.moments)
    std::fill(moments.values.begin(), moments.values.end(), 0.0f);
  initial_.cursor = train::cursor_of(curriculum_, history_.commitment.first_step());
  const bool from_seed = history_.commitment.branch.is_null();
  if (!from_seed) {
    NAITE_TRY(formats::read_checkpoint(request_.run / history_.stored.front().directory, initial_));
    NAITE_TRY(engine_->load(initial_));
  }
  NAITE_ASSIGN(const auto tensors, train::tensor_digests(*engine_, kernels_));
  if (tensors.size() != history_.initial.size())
    return fail("the log has {} initial tensors, the recipe gives {}", history_.initial.size(),
                tensors.size());
  for (const auto& [name, digest] : tensors) {
    const auto logged = history_.initial.find(name);
    if (logged == history_.initial.end() || logged->second != digest)
      return fail("the initial tensor {} is not {}", name,
                  from_seed ? "what the seed gives" : "that of the first checkpoint");
  }
  NAITE_ASSIGN(const std::string digest, formats::state_digest(initial_, weights_type(stage)));
  if (digest != history_.stored.front().state)
    return fail("the first checkpoint is not the seed's tensors with optimizer moments of zero");
  if (!from_seed)
    return Finding{fmt::format("not from a seed: the run goes on from the state {} of another run",
                               history_.commitment.branch.value("state_digest", "")),
                   Outcome::kOpen};
  return Finding{fmt::format("{} tensors and zero moments, all from the seed", tensors.size())};
}

// The audit unit: what lies between two stored states.
Result<std::vector<Audit::Interval>> Audit::intervals() const {
  std::vector<Interval> out;
  const StoredState* before = nullptr;
  for (const StoredState& state : history_.stored) {
    const StoredState* newest = history_.find(state.step);
    if (newest == before) continue;
    if (before != nullptr && newest->step > before->step) out.push_back({before, newest, ""});
    before = newest;
  }
  if (out.empty()) return fail("the log has one state: no interval to replay yet");
  return out;
}

Status Audit::load_state(const StoredState& state) {
  if (&state == history_.find(history_.commitment.first_step())) {
    state_ = initial_;
    return {};
  }
  state_.specs = initial_.specs;
  state_.moments = initial_.moments;
  NAITE_TRY(formats::read_checkpoint(request_.run / state.directory, state_));
  NAITE_ASSIGN(const std::string digest, formats::state_digest(state_, weights_type(*stage_)));
  if (digest != state.state) return fail("{} is not the state of the log", state.directory);
  return {};
}

// How far the parameters moved in each interval, per step: root of the summed squares.
Result<std::vector<double>> Audit::changes(const std::vector<Interval>& all) {
  std::vector<double> out;
  NAITE_TRY(load_state(*all.front().begin));
  std::vector<float> before = state_.masters;
  for (const Interval& interval : all) {
    progress("measuring changes", static_cast<int64_t>(out.size()),
             static_cast<int64_t>(all.size()));
    NAITE_TRY(load_state(*interval.end));
    double squares = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      const double change = static_cast<double>(state_.masters[i]) - before[i];
      squares += change * change;
    }
    out.push_back(std::sqrt(squares) /
                  static_cast<double>(interval.end->step - interval.begin->step));
    before = state_.masters;
  }
  return out;
}

Result<std::vector<Audit::Interval>> Audit::selected() {
  NAITE_ASSIGN(std::vector<Interval> all, intervals());
  report_.num_intervals = static_cast<int64_t>(all.size());
  const Selection& selection = request_.replay;
  std::vector<Interval> out;
  if (selection.kind == Selection::Kind::kAll) {
    for (size_t i = 0; i < all.size(); ++i)
      if (static_cast<int64_t>(i) % selection.num_shards == selection.shard - 1)
        out.push_back({all[i].begin, all[i].end, "all"});
    if (selection.num_shards == 1) report_.miss_tenth = report_.miss_one = 0;
    return out;
  }
  if (selection.kind == Selection::Kind::kRange) {
    bool inside = false, closed = false;
    for (const Interval& interval : all) {
      inside = inside || is_named(*interval.begin, selection.from);
      if (inside && !closed) out.push_back({interval.begin, interval.end, "asked for"});
      closed = closed || (inside && is_named(*interval.end, selection.to));
    }
    if (!closed)
      return fail("no stored states {} and {} after it; `naite log show` lists them",
                  selection.from, selection.to);
    return out;
  }
  NAITE_ASSIGN(const std::vector<double> change, changes(all));
  std::vector<size_t> order(all.size() - 1);
  std::iota(order.begin(), order.end(), size_t{1});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return change[a] > change[b]; });
  const auto count = static_cast<size_t>(
      std::clamp<int64_t>(selection.sample, 1, static_cast<int64_t>(all.size())));
  out.push_back({all[0].begin, all[0].end, "first"});
  const size_t largest = std::min(count / 2, count - 1);
  for (size_t i = 0; i < largest; ++i)
    out.push_back({all[order[i]].begin, all[order[i]].end, "large change"});
  order.erase(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(largest));
  const auto rest = static_cast<int64_t>(order.size());
  const auto drawn = static_cast<int64_t>(count - out.size());
  for (int64_t i = 0; i < drawn; ++i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i + draw(rest - i))]);
    const Interval& interval = all[order[static_cast<size_t>(i)]];
    out.push_back({interval.begin, interval.end, "random"});
  }
  // Whoever knows the rule forges where the change is small and not at the start, so only what is
  // drawn at random counts.
  const int64_t tenth = std::max<int64_t>(1, (report_.num_intervals + 9) / 10);
  report_.miss_tenth = rest == 0 ? 0 : miss_probability(rest, std::min(rest, tenth), drawn);
  report_.miss_one = rest == 0 ? 0 : miss_probability(rest, 1, drawn);
  return out;
}

// The measurements that were published with a checkpoint, made again.
Status Audit::metrics(const StoredState& state) {
  json expected = json::object();
  for (int source = 0; source < loader_->num_sources(); ++source) {
    if (loader_->num_validation_rows(source) == 0) continue;
    NAITE_ASSIGN(const train::Engine::Validation found, engine_->validate(*loader_, source));
    expected[loader_->source_name(source)] = {{"loss", found.loss},
                                              {"bits_per_byte", found.bits_per_byte}};
  }
  if (state.metrics.value("validation", json()) != expected)
    return fail("{}: the validation losses are not those of its weights", state.directory);
  return {};
}

Status Audit::replay(const Interval& interval) {
  // States are stored where stages end, so an interval lies in one.
  const train::Recipe& stage = curriculum_.stage_of(interval.begin->step);
  if (interval.end->step > stage.end_step())
    return fail("steps {} to {} pass from one stage to another without a state between",
                interval.begin->step + 1, interval.end->step);
  NAITE_TRY(enter_to_train(stage));
  NAITE_TRY(load_state(*interval.begin));
  NAITE_TRY(engine_->load(state_));
  const int64_t first = interval.begin->step, last = interval.end->step;
  for (int64_t step = first; step < last; ++step) {
    if (stopped()) return fail("interrupted");
    progress("replaying", step - first, last - first);
    NAITE_ASSIGN(const train::StepResult result, engine_->gradient(*loader_, step));
    if (train::digest_of(result) != history_.step(step + 1))
      return fail("step {} gives other bits than the log has: loss {:.9g}, gradient norm {:.9g}",
                  step + 1, result.loss, result.grad_norm);
    NAITE_TRY(engine_->update(step, result.grad_norm));
  }
  NAITE_TRY(engine_->save(state_));
  if (train::is_averaged(stage, last)) {
    NAITE_TRY(train::average_checkpoints(stage, last, run_, state_));
    NAITE_TRY(engine_->load(state_));
  }
  state_.cursor = train::cursor_of(curriculum_, last);
  NAITE_ASSIGN(const std::string digest, formats::state_digest(state_, weights_type(stage)));
  if (digest != interval.end->state)
    return fail("steps {} to {} do not lead to the state that the log has after them", first + 1,
                last);
  return interval.end->checkpoint ? metrics(*interval.end) : Status();
}

Result<Finding> Audit::replays() {
  NAITE_ASSIGN(const std::vector<Interval> chosen, selected());
  std::optional<Error> wrong;
  for (const Interval& interval : chosen) {
    const Status status = replay(interval);
    if (stopped()) return fail("interrupted");
    report_.replays.push_back(
        {interval.begin->step, interval.end->step, status.ok(), interval.why});
    if (!status.ok() && !wrong) wrong = status.error();
  }
  if (wrong) return *wrong;
  return Finding{fmt::format("{} of {} intervals trained again: same bits", chosen.size(),
                             report_.num_intervals)};
}

}  // namespace naite::verify
