// SPDX-License-Identifier: Apache-2.0
#include "verify/replays.h"

#include <algorithm>

#include "ledger/ledger.h"
#include "train/plan.h"

namespace naite::verify {

using record::StoredState;

Result<Finding> Replays::memory() {
  std::error_code code;
  const uintmax_t stored = std::filesystem::file_size(
      setting_.run.path() / history_.stored.front().directory / "model.safetensors", code);
  const int64_t parameters = history_.commitment.parameters;
  if (!code && static_cast<uintmax_t>(parameters) > stored)
    return fail("{} parameters do not fit the {} bytes of the first checkpoint", parameters,
                stored);
  const int64_t usable = setting_.memory();
  int64_t bytes_max = 0;
  for (const train::Recipe& stage : claims_.curriculum().stages) {
    if (!train::computed_by(setting_.kernels, stage).ok()) {
      fit_ = false;
      return Finding{fmt::format("the run is in arithmetic {}, which {} does not compute: nothing "
                                 "is computed here",
                                 stage.arithmetic->name, setting_.kernels.name()),
                     Outcome::kOpen};
    }
    NAITE_TRY(claims_.stepper().open(stage));
    // The plan, and one more state on the host than it has.
    NAITE_ASSIGN(const train::MemoryPlan plan,
                 train::plan_memory(claims_.stepper().model(), setting_.kernels, stage, {}));
    const int64_t bytes = plan.total() + plan.checkpoint;
    if (bytes > usable) {
      fit_ = false;
      const std::string detail = fmt::format(
          "training it again takes {} bytes of memory, this process may use {}", bytes, usable);
      if (setting_.request.replay.kind != Selection::Kind::kNone)
        return unable("{}: take a machine with more, or leave the replay to others", detail);
      return Finding{detail + ": nothing is computed here", Outcome::kOpen};
    }
    bytes_max = std::max(bytes_max, bytes);
  }
  return Finding{fmt::format("{} MiB to train it again", bytes_max >> 20)};
}

Result<record::StoredCheckpoint*> Replays::open(const StoredState& state) {
  return setting_.states.open(setting_.run.path() / state.directory);
}

Result<Finding> Replays::initial() {
  setting_.progress("initial tensors", 0, 0);
  const StoredState& first = history_.stored.front();
  const bool from_seed = history_.commitment.branch.is_null();
  if (from_seed) {
    NAITE_TRY(claims_.stepper().begin());
  } else {
    NAITE_ASSIGN(record::StoredCheckpoint* const stored, open(first));
    const train::Recipe& stage = claims_.curriculum().stage_of(first.step);
    NAITE_TRY(claims_.stepper().load(stage, first.step, *stored, host_));
  }
  NAITE_ASSIGN(const auto tensors, claims_.stepper().tensor_digests());
  if (tensors.size() != history_.initial.size())
    return fail("the log has {} initial tensors, the recipe gives {}", history_.initial.size(),
                tensors.size());
  for (const auto& [name, digest] : tensors) {
    const auto logged = history_.initial.find(name);
    if (logged == history_.initial.end() || logged->second != digest)
      return fail("the initial tensor {} is not {}", name,
                  from_seed ? "what the seed gives" : "that of the first checkpoint");
  }
  NAITE_ASSIGN(const std::string digest, digest_now());
  if (digest != first.state)
    return fail("the first checkpoint is not the seed's tensors with optimizer moments of zero");
  if (!from_seed)
    return Finding{
        fmt::format("not from a seed: the run {} the state {} of another run",
                    goes_on_from_known_state(history_.commitment) ? "begins with"
                                                                  : "declares to go on from",
                    history_.commitment.branch.value("state_digest", "")),
        Outcome::kOpen};
  return Finding{fmt::format("{} tensors and zero moments, all from the seed", tensors.size())};
}

std::vector<Interval> intervals_of(const record::RunHistory& history) {
  std::vector<Interval> out;
  for (size_t i = 1; i < history.stored.size(); ++i)
    out.push_back({&history.stored[i - 1], &history.stored[i], ""});
  return out;
}

// The digest of the state that training has led to.
Result<std::string> Replays::digest_now() {
  NAITE_TRY(claims_.stepper().save(host_));
  NAITE_ASSIGN(
      const formats::CheckpointDigests digests,
      formats::state_digests(host_, claims_.stepper().stage().weights_type(), setting_.pool));
  return digests.state;
}

Status Replays::load(const StoredState& state) {
  NAITE_ASSIGN(record::StoredCheckpoint* const stored, open(state));
  NAITE_ASSIGN(const formats::CheckpointDigests digests, stored->digests());
  if (digests.state != state.state) return fail("{} is not the state of the log", state.directory);
  return claims_.stepper().load(claims_.curriculum().stage_of(state.step), state.step, *stored,
                                host_);
}

// How far everything that a state holds moved in each interval, per step.
Result<std::vector<Change>> Replays::changes(const std::vector<Interval>& all) {
  std::vector<Change> out;
  for (const Interval& interval : all) {
    if (setting_.stopped()) return unable("interrupted");
    setting_.progress("measuring changes", static_cast<int64_t>(out.size()),
                      static_cast<int64_t>(all.size()));
    for (const StoredState* state : {interval.begin, interval.end}) {
      NAITE_ASSIGN(record::StoredCheckpoint* const stored, open(*state));
      NAITE_TRY(stored->check_files());
    }
    NAITE_ASSIGN(Change change, change_between(setting_.run.path() / interval.begin->directory,
                                               setting_.run.path() / interval.end->directory));
    for (auto& [part, moved] : change)
      moved /= static_cast<double>(interval.end->step - interval.begin->step);
    out.push_back(std::move(change));
  }
  return out;
}

namespace {

// From the first state that is called so to the next one that is called so; empty: there are none.
std::vector<Interval> in_range(const std::vector<Interval>& all, const Selection& selection) {
  std::vector<Interval> out;
  for (const Interval& interval : all) {
    if (out.empty() && !is_named(*interval.begin, selection.from)) continue;
    out.push_back({interval.begin, interval.end, "asked for"});
    if (is_named(*interval.end, selection.to)) return out;
  }
  return {};
}

}  // namespace

Status check_selection(const Selection& selection, const record::RunHistory& history) {
  if (selection.kind != Selection::Kind::kRange) return {};
  if (!in_range(intervals_of(history), selection).empty()) return {};
  return fail("no stored states {} and {} after it; `naite log show` lists them", selection.from,
              selection.to);
}

Result<std::vector<Interval>> Replays::selected(Report& report) {
  const std::vector<Interval> all = intervals_of(history_);
  report.num_intervals = static_cast<int64_t>(all.size());
  if (all.empty()) return all;
  const Selection& selection = setting_.request.replay;
  if (selection.kind == Selection::Kind::kRange) return in_range(all, selection);
  if (selection.kind == Selection::Kind::kSample) return sampled(all, report);
  std::vector<Interval> out;
  for (size_t i = 0; i < all.size(); ++i)
    if (static_cast<int64_t>(i) % selection.num_shards == selection.shard - 1)
      out.push_back({all[i].begin, all[i].end, "all"});
  if (selection.num_shards == 1) report.miss_tenth = report.miss_one = 0;
  return out;
}

Result<std::vector<Interval>> Replays::sampled(const std::vector<Interval>& all, Report& report) {
  NAITE_ASSIGN(const std::vector<Change> moved, changes(all));
  const Sample sample = choose_sample(moved, setting_.request.replay.sample, random_below);
  std::vector<Interval> out = {{all[0].begin, all[0].end, "first"}};
  for (const size_t i : sample.largest) out.push_back({all[i].begin, all[i].end, "large change"});
  for (const size_t i : sample.random) out.push_back({all[i].begin, all[i].end, "random"});
  report.miss_tenth = sample.miss_tenth;
  report.miss_one = sample.miss_one;
  return out;
}

// The measurements that were published with a checkpoint, made again.
Status Replays::metrics(const StoredState& state) {
  NAITE_ASSIGN(const auto found, claims_.stepper().validate());
  if (state.validation != formats::Validation(found.begin(), found.end()))
    return fail("{}: the validation losses are not those of its weights", state.directory);
  return {};
}

Status Replays::replay(const Interval& interval) {
  // States are stored where stages end, so an interval lies in one.
  const int64_t first = interval.begin->step, last = interval.end->step;
  if (last > claims_.curriculum().stage_of(first).end_step())
    return fail("steps {} to {} pass from one stage to another without a state between", first + 1,
                last);
  train::Stepper& stepper = claims_.stepper();
  NAITE_TRY(load(*interval.begin));
  // No interval ends with the first state, so what was measured there is measured here.
  if (first == history_.commitment.first_step() && interval.begin->checkpoint)
    NAITE_TRY(metrics(*interval.begin));
  while (stepper.step() < last) {
    if (setting_.stopped()) return unable("interrupted");
    setting_.progress("replaying", stepper.step() - first, last - first);
    NAITE_TRY(stepper.advance([&](const train::StepResult& result) -> Status {
      const int64_t step = stepper.step() + 1;
      if (train::digest_of(result) == history_.step(step)) return {};
      return fail("step {} gives other bits than the log has: loss {:.9g}, gradient norm {:.9g}",
                  step, result.loss, result.grad_norm);
    }));
  }
  NAITE_TRY(stepper.average(host_));
  NAITE_ASSIGN(const std::string digest, digest_now());
  if (digest != interval.end->state)
    return fail("steps {} to {} do not lead to the state that the log has after them", first + 1,
                last);
  return interval.end->checkpoint ? metrics(*interval.end) : Status();
}

Result<Finding> Replays::replays(const std::vector<Interval>& chosen, Report& report) {
  if (report.num_intervals == 0) return Finding{kNothingToReplay, Outcome::kOpen};
  std::optional<Error> wrong;
  for (const Interval& interval : chosen) {
    const Status status = replay(interval);
    if (setting_.stopped()) return unable("interrupted");
    // What could not be computed is no replay, and no contradiction either.
    if (!status.ok() && status.error().kind != ErrorKind::kWrong) return status.error();
    report.replays.push_back({interval.begin->step, interval.end->step, status.ok(), interval.why});
    if (!status.ok() && !wrong) wrong = status.error();
  }
  if (wrong) return *wrong;
  return Finding{fmt::format("{} of {} intervals trained again: same bits", chosen.size(),
                             report.num_intervals)};
}

}  // namespace naite::verify
