// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <algorithm>
#include <optional>

#include "base/clock.h"
#include "base/interruptible.h"
#include "infer/infer.h"
#include "train/loss_guard.h"
#include "train/preparation.h"
#include "train/state_writer.h"

namespace naite::train {

namespace {

namespace fs = std::filesystem;
using record::RunDirectory;
using Kind = StateWriter::Kind;

// How fast it goes, and how long it will take.
struct Pace {
  double began = 0;  // now_seconds(), after `first_step` steps
  int64_t first_step = 0;
  double flops_per_token = 0;  // of the stage
  double peak_flops = 0;       // of the machine, measured at start; 0: not known

  void fill(StepReport& report, double step_began, int64_t tokens) const {
    const double now = now_seconds();
    report.tokens_per_second = static_cast<double>(tokens) / (now - step_began);
    if (peak_flops > 0) report.mfu = report.tokens_per_second * flops_per_token / peak_flops;
    const double per_step = (now - began) / static_cast<double>(report.step - first_step);
    report.seconds_left = per_step * static_cast<double>(report.total_steps - report.step);
  }
};

// A run under way: how it begins or goes on, its loop, and its checkpoints.
class Run {
 public:
  Run(Curriculum& curriculum, const TrainRequest& request, const RunDirectory& directory,
      Prepared prepared, Metrics metrics, LedgerKeeping& ledger, kernels::Kernels& kernels,
      ThreadPool& pool, Observer& observer)
      : curriculum_(curriculum),
        request_(request),
        directory_(directory),
        prepared_(std::move(prepared)),
        ledger_(ledger),
        observer_(observer),
        metrics_(std::move(metrics)),
        pool_(pool),
        states_(pool),
        stepper_(curriculum, directory, prepared_.tokenizer.vocab_size(), states_, kernels, pool,
                 request.engine),
        writer_(curriculum, directory, prepared_.manifest, prepared_.tokenizer, ledger) {}

  // `newest`: the state of this run that it goes on from.
  Status start_or_resume(const std::optional<RunDirectory::State>& newest,
                         const std::optional<formats::Branch>& branch);
  Result<Outcome> loop(double peak_flops);
  Status finish() { return writer_.wait(); }
  int64_t step() const { return stepper_.step(); }

 private:
  Status start();
  Status resume(const fs::path& state, bool of_another_recipe);
  Status branch_off();
  Status write_branch() const;
  void enter_pace();
  Status steps_to(int64_t last);
  Status next_stage();
  Status check_loss(const StepResult& result);
  Status one_step();
  Status checkpoint();
  Status store(Kind kind);
  Result<ValidationReport> measure();
  Result<std::vector<std::pair<std::string, std::string>>> samples();
  bool stop_requested() const { return request_.stop != nullptr && request_.stop->load(); }

  Curriculum& curriculum_;
  const TrainRequest& request_;
  const RunDirectory& directory_;
  const Prepared prepared_;
  LedgerKeeping& ledger_;
  Observer& observer_;
  Metrics metrics_;
  ThreadPool& pool_;
  record::StoredStates states_;
  Stepper stepper_;
  StateWriter writer_;
  LossGuard guard_;
  Pace pace_;
  formats::Record measured_;           // loss, validation and branch, for the states that follow
  std::vector<int64_t> due_, audits_;  // steps of the stage's checkpoints, and of its other states
  bool owes_checkpoint_ = false;  // of the step that it stands at: a stop kept it from being made
};

Status Run::start_or_resume(const std::optional<RunDirectory::State>& newest,
                            const std::optional<formats::Branch>& branch) {
  measured_.branch = branch;
  if (newest && !request_.from.empty())
    return fail("{} has begun already; --from starts a new --run directory",
                directory_.path().string());
  if (newest && request_.start != nullptr)
    return fail("{} has begun already; choose another --run directory", directory_.path().string());
  if (!newest && !request_.from.empty()) return branch_off();
  if (!newest && branch && request_.start == nullptr)
    return fail("{} has no state yet and begins with {}: give the command that began it again",
                directory_.path().string(), branch->from);
  if (!newest) return start();
  NAITE_TRY(resume(newest->path, false));
  if (step() < curriculum_.total_steps())
    observer_.note(fmt::format("resuming {} after step {}", directory_.path().string(), step()));
  return {};
}

Status Run::write_branch() const {
  return write_file(directory_.branch(), measured_.branch->to_json().dump(2) + "\n");
}

// From random weights, or from those that another model gave.
Status Run::start() {
  NAITE_TRY(metrics_.rewind(-1));
  const StartWeights* grown = request_.start;
  const int64_t vocab_size = prepared_.tokenizer.vocab_size();
  if (grown != nullptr && grown->vocab_size != vocab_size)
    return fail(
        "{}: the tokenizer has {} entries, the parent's {}; [tokenizer] file must name the "
        "parent's tokenizer.json",
        curriculum_.first().name, vocab_size, grown->vocab_size);
  if (grown != nullptr) {
    NAITE_ASSIGN(formats::TrainingState* const host, writer_.host());
    NAITE_TRY(stepper_.begin(grown->masters, *host));
    NAITE_TRY(write_branch());
  } else {
    NAITE_TRY(stepper_.begin());
  }
  NAITE_ASSIGN(const auto tensors, stepper_.tensor_digests());
  NAITE_TRY(ledger_.initial(tensors));
  observer_.note(fmt::format("starting {} from {} weights", directory_.path().string(),
                             grown == nullptr ? "random" : "grown"));
  return checkpoint();
}

// Loads a state. Another recipe's is taken only to branch off.
Status Run::resume(const fs::path& path, bool of_another_recipe) {
  NAITE_ASSIGN(record::StoredCheckpoint stored, record::StoredCheckpoint::open(path, pool_));
  NAITE_ASSIGN(const formats::Cursor cursor, stored.cursor());
  if (cursor.step > curriculum_.total_steps())
    return fail("{} is after step {}, the recipe has {}", path.string(), cursor.step,
                curriculum_.total_steps());
  if (!of_another_recipe && cursor.recipe_digest != curriculum_.digest())
    return fail("{} was made by another recipe; choose another --run directory", path.string());
  // What a stop kept from being measured and stored belongs to the stage that ended there, and to
  // the plan of that time.
  const Recipe& before = curriculum_.stage_of(std::max<int64_t>(0, cursor.step - 1));
  std::vector<int64_t> due = before.checkpoint_steps();
  if (const std::optional<nlohmann::json> plan = ledger_.plan_of(cursor.step)) {
    NAITE_ASSIGN(const Curriculum then, curriculum_.with_plan(*plan, path.string()));
    due = then.stage_of(std::max<int64_t>(0, cursor.step - 1)).checkpoint_steps();
  }
  const fs::path checkpoint =
      directory_.checkpoint(before.stage, cursor.step, before.tokens_at(cursor.step));
  owes_checkpoint_ = !of_another_recipe && cursor.step > 0 &&
                     std::binary_search(due.begin(), due.end(), cursor.step) &&
                     !(ledger_.has(checkpoint) && fs::exists(checkpoint));
  if (!of_another_recipe) measured_.loss = stored.record().loss;  // else of no step of this run
  NAITE_ASSIGN(formats::TrainingState* const host, writer_.host());
  const Recipe& stage = owes_checkpoint_ ? before : curriculum_.stage_of(cursor.step);
  NAITE_TRY(stepper_.load(stage, cursor.step, stored, *host));
  writer_.begin(cursor.step);
  NAITE_TRY(metrics_.rewind(cursor.step));
  NAITE_ASSIGN(std::deque<double> recent, metrics_.recent_losses(LossGuard::kWindow));
  guard_.begin(std::move(recent));
  return {};
}

// A run that goes on from another one's checkpoint under a recipe of its own. Where it comes from
// is written down first and stands in every checkpoint's record.
Status Run::branch_off() {
  NAITE_ASSIGN(const std::string theirs, sha256_file(request_.from / "tokenizer.json"));
  NAITE_ASSIGN(const std::string ours, sha256_file(directory_.path() / "tokenizer.json"));
  if (theirs != ours)
    return fail(
        "{} was trained with another tokenizer than this text gives; in the recipe, write "
        "[tokenizer] file = \"{}\" instead of vocab_size, and take a new --run directory",
        request_.from.string(), (request_.from / "tokenizer.json").string());
  NAITE_TRY(resume(request_.from, true));
  NAITE_TRY(write_branch());
  NAITE_ASSIGN(const auto tensors, stepper_.tensor_digests());
  NAITE_TRY(ledger_.initial(tensors));
  observer_.note(fmt::format("{} branches off {} after step {}", directory_.path().string(),
                             request_.from.string(), step()));
  return checkpoint();
}

void Run::enter_pace() {
  const Recipe& stage = stepper_.stage();
  pace_.flops_per_token = stepper_.model().cost(stage.data.sequence_length).training_flops;
  due_ = stage.checkpoint_steps();
  audits_ = stage.audit_steps();
}

Status Run::next_stage() {
  NAITE_TRY(stepper_.enter(curriculum_.stage_of(step())));
  enter_pace();
  observer_.note(fmt::format("stage {} begins after step {}", stepper_.stage().stage, step()));
  return {};
}

Result<Outcome> Run::loop(double peak_flops) {
  const int64_t total = curriculum_.total_steps();
  const int64_t last =
      request_.stop_after_step >= 0 ? std::min(request_.stop_after_step, total) : total;
  pace_ = {now_seconds(), step(), 0, peak_flops};
  enter_pace();
  try {
    NAITE_TRY(steps_to(last));
  } catch (const Interrupted&) {  // the half step is thrown away
  }
  if (writer_.stored_step() != step()) NAITE_TRY(store(Kind::kAutosave));
  return step() < total || owes_checkpoint_ ? Outcome::kStopped : Outcome::kFinished;
}

Status Run::steps_to(int64_t last) {
  if (owes_checkpoint_ && !stop_requested()) NAITE_TRY(checkpoint());
  while (step() < last && !stop_requested()) {
    if (step() == stepper_.stage().end_step()) NAITE_TRY(next_stage());
    NAITE_TRY(one_step());
    if (std::binary_search(due_.begin(), due_.end(), step())) {
      NAITE_TRY(checkpoint());
    } else if (std::binary_search(audits_.begin(), audits_.end(), step())) {
      NAITE_TRY(store(Kind::kAudit));
    } else if (now_seconds() - writer_.stored_at() >=
               stepper_.stage().checkpoint.autosave_seconds) {
      NAITE_TRY(store(Kind::kAutosave));
    }
  }
  return {};
}

// What stood before a bad step is saved.
Status Run::check_loss(const StepResult& result) {
  const Recipe& recipe = stepper_.stage();
  const std::string wrong = guard_.check(result, recipe.train.max_loss_ratio);
  if (wrong.empty()) return {};
  if (writer_.stored_step() != step()) NAITE_TRY(store(Kind::kAutosave));
  NAITE_TRY(writer_.wait());
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, directory_.states());
  std::string kept;
  for (const RunDirectory::State& state : states)
    if (state.step == step()) kept = state.path.string();
  return fail(
      "step {}: {}; the state before it is kept in {}. Branch off it with another seed or rate: "
      "naite train RECIPE --from {} --run NEW --set run.seed={} (or --set "
      "optimizer.learning_rate={:g})",
      step() + 1, wrong, kept, kept, recipe.seed + 1, recipe.optimizer.learning_rate / 2);
}

Status Run::one_step() {
  const double began = now_seconds();
  const auto accept = [this](const StepResult& r) -> Status {
    NAITE_TRY(check_loss(r));
    return ledger_.step(step() + 1, digest_of(r));
  };
  NAITE_ASSIGN(const StepResult result, stepper_.advance(accept, request_.stop));
  measured_.loss = result.loss;
  StepReport report;
  report.step = step();
  report.total_steps = curriculum_.total_steps();
  report.tokens = stepper_.stage().tokens_at(step());
  report.loss = result.loss;
  report.learning_rate = stepper_.stage().learning_rate(step() - 1);
  report.grad_norm = result.grad_norm;
  pace_.fill(report, began, stepper_.stage().train.batch_tokens);
  NAITE_TRY(metrics_.step(report));
  observer_.step(report);
  ledger_.tell_of_witnesses();
  kill_point("step");
  return {};
}

// What is published with a checkpoint.
Result<ValidationReport> Run::measure() {
  const Interruptible until(request_.stop);
  ValidationReport report;
  report.step = step();
  report.tokens = stepper_.stage().tokens_at(step());
  NAITE_ASSIGN(report.sources, stepper_.validate());
  NAITE_ASSIGN(report.samples, samples());
  if (stop_requested()) throw Interrupted();  // samples may have ended early
  return report;
}

// Averages where that is due, measures, samples, and stores the state.
Status Run::checkpoint() {
  owes_checkpoint_ = true;
  if (stepper_.stage().averages_at(step())) {
    // A stop while the mean is measured must leave the state that the mean is made from.
    if (writer_.stored_step() != step()) NAITE_TRY(store(Kind::kAutosave));
    NAITE_ASSIGN(formats::TrainingState* const host, writer_.host());
    const Recipe& stage = stepper_.stage();
    for (const int64_t earlier : stepper_.averaged())
      NAITE_TRY(
          ledger_.expect(directory_.checkpoint(stage.stage, earlier, stage.tokens_at(earlier))));
    NAITE_TRY(stepper_.average(*host));
  }
  NAITE_ASSIGN(ValidationReport report, measure());
  NAITE_TRY(metrics_.validation(report));
  measured_.validation = formats::Validation(report.sources.begin(), report.sources.end());
  report.checkpoint =
      directory_.checkpoint(stepper_.stage().stage, report.step, report.tokens).filename().string();
  NAITE_TRY(store(Kind::kCheckpoint));
  owes_checkpoint_ = false;
  observer_.validated(report);
  return {};
}

Status Run::store(Kind kind) { return writer_.store(kind, stepper_, measured_); }

Result<std::vector<std::pair<std::string, std::string>>> Run::samples() {
  const Recipe& recipe = stepper_.stage();
  const data::Tokenizer& tokenizer = prepared_.tokenizer;
  std::vector<std::pair<std::string, std::string>> out;
  if (recipe.sample.prompts.empty()) return out;
  infer::Generator generator(stepper_.model(), stepper_.parameters(), recipe.data.sequence_length);
  for (const std::string& prompt : recipe.sample.prompts) {
    std::vector<int32_t> ids = tokenizer.encode(prompt);
    const int32_t end = tokenizer.end_of_document();
    if (end >= 0) ids.insert(ids.begin(), end);  // every document starts with it
    // Room for one token more, but a prompt has one token at least.
    if (static_cast<int64_t>(ids.size()) >= generator.capacity())
      ids.resize(static_cast<size_t>(std::max<int64_t>(generator.capacity() - 1, 1)));
    infer::SamplingOptions options;
    options.max_tokens = recipe.sample.max_tokens;
    options.temperature = recipe.sample.temperature;
    options.top_p = recipe.sample.top_p;
    options.seed = static_cast<uint64_t>(recipe.seed);
    if (end >= 0) options.stop_tokens = {end};
    std::vector<int32_t> tokens;
    const Result<int64_t> count = generator.generate(ids, options, [&](int32_t token) {
      tokens.push_back(token);
      return !stop_requested();
    });
    // A sample that fails is no reason to stop: what is wrong shows in the loss.
    out.emplace_back(prompt,
                     count.ok() ? prompt + tokenizer.decode(tokens, true) : count.error().message);
  }
  return out;
}

// Where a run comes from, if not from random weights: as it was written down, or as the request
// says.
Result<std::optional<formats::Branch>> branch_of(const RunDirectory& directory,
                                                 const TrainRequest& request, bool has_begun,
                                                 const Curriculum& curriculum, int64_t vocab_size,
                                                 ThreadPool& pool) {
  if (fs::exists(directory.branch())) {
    NAITE_ASSIGN(const nlohmann::json value, read_json(directory.branch()));
    NAITE_ASSIGN(formats::Branch out,
                 formats::Branch::parse(value, directory.branch().string() + ":"));
    return std::optional(std::move(out));
  }
  if (request.start != nullptr) return std::optional(request.start->parent);
  if (request.from.empty() || has_begun) return std::optional<formats::Branch>();
  NAITE_ASSIGN(const formats::Cursor cursor, formats::read_cursor(request.from));
  if (cursor.step > curriculum.total_steps())
    return fail("{} is after step {}, the recipe has {}", request.from.string(), cursor.step,
                curriculum.total_steps());
  NAITE_ASSIGN(const formats::CheckpointDigests digests,
               formats::directory_digests(request.from, pool));
  formats::Branch out;
  out.from = record::public_name(request.from);
  out.step = cursor.step;
  out.state_digest = digests.state;
  out.recipe_digest = cursor.recipe_digest;
  NAITE_ASSIGN(const bool whole,
               takes_all_of(request.from, curriculum.stage_of(cursor.step), vocab_size));
  if (whole) out.whole = {cursor.tokens, cursor.seed, cursor.arithmetic};
  return std::optional(std::move(out));
}

Result<Outcome> train_run(Curriculum curriculum, const TrainRequest& request,
                          kernels::Kernels& kernels, ThreadPool& pool, Observer& observer) {
  const RunDirectory directory(request.run_directory);
  NAITE_TRY(directory.check_place());
  NAITE_TRY(make_directories(directory.path()));
  NAITE_ASSIGN(const FileLock lock,
               FileLock::acquire(directory.path() / ".lock", directory.path().string()));
  // Before anything else is busy.
  const double peak_flops = kernels.measure_peak_flops(curriculum.first().compute());
  Result<Prepared> prepared = prepare_run(
      curriculum, directory, pool.num_threads(), request.stop,
      [&](const data::PrepareProgress& progress) { observer.preparing(progress); },
      [&](const std::string& line) { observer.note(line); });
  if (!prepared.ok() && request.stop != nullptr && request.stop->load()) return Outcome::kStopped;
  if (!prepared.ok()) return prepared.error();
  NAITE_ASSIGN(Metrics metrics, Metrics::open(directory.path()));
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, directory.states());
  NAITE_ASSIGN(const std::optional<formats::Branch> branch,
               branch_of(directory, request, !states.empty(), curriculum,
                         prepared->tokenizer.vocab_size(), pool));
  LedgerKeeping ledger(directory, curriculum,
                       [&](const std::string& line) { observer.note(line); });
  NAITE_TRY(ledger.begin(states, request.keys, request.witnesses, prepared->manifest, branch,
                         request.stop));
  NAITE_ASSIGN(const bool has_seed, ledger.settle_seed(request.beacon_value));
  if (!has_seed) return Outcome::kStopped;
  Run run(curriculum, request, directory, *std::move(prepared), std::move(metrics), ledger, kernels,
          pool, observer);
  NAITE_ASSIGN(const std::optional<RunDirectory::State> newest, ledger.newest_own(states));
  try {
    NAITE_TRY(run.start_or_resume(newest, branch));
  } catch (const Interrupted&) {  // before the first step: the same command begins again
    return Outcome::kStopped;
  }
  const Result<Outcome> outcome = run.loop(peak_flops);
  const Status written = run.finish();
  if (!outcome) return outcome;
  NAITE_TRY(written);
  if (*outcome == Outcome::kFinished) NAITE_TRY(ledger.end(run.step()));
  ledger.settle_witnesses();
  return outcome;
}

}  // namespace

Result<Outcome> train(const Curriculum& curriculum, const TrainRequest& request,
                      kernels::Kernels& kernels, ThreadPool& pool, Observer& observer) {
  for (const Recipe& stage : curriculum.stages)
    if (stage.train.gradient_groups % request.engine.virtual_ranks != 0)
      return fail("--virtual-ranks {} must divide the {} gradient groups of the recipe",
                  request.engine.virtual_ranks, stage.train.gradient_groups);
  return train_run(curriculum, request, kernels, pool, observer);
}

}  // namespace naite::train
