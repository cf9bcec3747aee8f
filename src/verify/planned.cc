// SPDX-License-Identifier: Apache-2.0
#include "verify/planned.h"

#include <map>

namespace naite::verify {

using nlohmann::json;
using record::StoredState;

namespace {

constexpr int64_t kStepsMax = 10'000'000;  // the mixture is walked once, step by step
constexpr int64_t kBatchTokensMax = int64_t{1} << 27;
constexpr int64_t kStatesMax = 1'000'000;
constexpr size_t kPlansMax = 1000;

struct PlannedState {
  bool checkpoint;
  std::string directory;  // below the run
  int64_t end_token;
};
using PlannedStates = std::map<int64_t, PlannedState>;  // by step

PlannedState planned(const train::Recipe& stage, int64_t step, bool checkpoint) {
  const record::RunDirectory run("");
  const int64_t tokens = stage.tokens_at(step);
  const std::filesystem::path path =
      checkpoint ? run.checkpoint(stage.stage, step, tokens) : run.audit(step);
  return {checkpoint, path.generic_string(), tokens};
}

// Those of the steps from `after` + 1 to `last`. Where a stage ends, it has stored the state, so
// the next one does not begin with another.
void add_planned(const train::Curriculum& curriculum, int64_t after, int64_t last,
                 PlannedStates& out) {
  for (const train::Recipe& stage : curriculum.stages) {
    if (stage.first_step > last || stage.end_step() <= after) continue;
    for (const bool checkpoint : {true, false})
      for (const int64_t step : checkpoint ? stage.checkpoint_steps() : stage.audit_steps())
        if (step > after && step <= last && step > stage.first_step)
          out.emplace(step, planned(stage, step, checkpoint));
  }
}

Status compare(const StoredState& state, const PlannedStates& all) {
  const auto found = all.find(state.step);
  if (found == all.end())
    return fail("the log has a state after step {}, its plan has none", state.step);
  const PlannedState& wanted = found->second;
  if (state.checkpoint != wanted.checkpoint)
    return fail("the plan has a {} after step {}, the log a {}",
                wanted.checkpoint ? "checkpoint" : "state for replays", state.step,
                state.checkpoint ? "checkpoint" : "state for replays");
  if (state.directory != wanted.directory || state.end_token != wanted.end_token)
    return fail("{} is not the name of the state after step {}, that is {}", state.directory,
                state.step, wanted.directory);
  return {};
}

// How many of the steps are a multiple of the share.
int64_t multiples(double share, int64_t steps) {
  return share > 0 ? static_cast<int64_t>(std::min(1 / share, static_cast<double>(steps))) : 0;
}

}  // namespace

Result<train::Curriculum> with_plan(const train::Curriculum& curriculum, const json& plan,
                                    const std::string& where) {
  NAITE_ASSIGN(train::Curriculum out, curriculum.with_plan(plan, where));
  NAITE_TRY(check_size(out));
  return out;
}

Status check_size(const train::Curriculum& curriculum) {
  int64_t states = 0;
  for (const train::Recipe& stage : curriculum.stages) {
    if (curriculum.total_steps() > kStepsMax || stage.train.batch_tokens > kBatchTokensMax)
      return fail("{} steps of {} tokens are more than this program verifies",
                  curriculum.total_steps(), stage.train.batch_tokens);
    for (const double share :
         {stage.checkpoint.every, stage.checkpoint.audit_every, stage.averaging.every})
      states += 2 + multiples(share, stage.total_steps());
  }
  if (states > kStatesMax)
    return fail("a plan of {} states has more than this program verifies", states);
  return {};
}

Status check_planned(const record::RunHistory& history, const train::Curriculum& curriculum,
                     const record::RunDirectory& run) {
  const std::vector<record::PlanInForce> plans = history.plans();
  if (plans.size() > kPlansMax)
    return fail("{} changes of the plan are more than this program verifies", plans.size());
  const int64_t first = history.commitment.first_step(), last = history.stored.back().step;
  PlannedStates all;
  all.emplace(first, planned(curriculum.stage_of(first), first, true));
  for (size_t i = 0; i < plans.size(); ++i) {
    const int64_t until = i + 1 < plans.size() ? std::min(plans[i + 1].after, last) : last;
    if (until <= plans[i].after) continue;
    NAITE_ASSIGN(const train::Curriculum by_plan,
                 with_plan(curriculum, plans[i].plan, run.recipe().string()));
    add_planned(by_plan, std::max(first, plans[i].after), until, all);
  }
  for (const StoredState& state : history.stored) NAITE_TRY(compare(state, all));
  for (const auto& [step, wanted] : all)
    if (history.find(step) == nullptr)
      return fail("the plan stores a state after step {}, the log has none", step);
  return {};
}

}  // namespace naite::verify
