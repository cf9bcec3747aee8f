// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <optional>
#include <thread>

#include "data/loader.h"
#include "formats/checkpoint.h"
#include "formats/tfevents.h"
#include "infer/infer.h"
#include "record/run_directory.h"
#include "record/run_ledger.h"
#include "train/derived.h"
#include "train/model_card.h"

namespace naite::train {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using record::Commitment;
using record::RunDirectory;
using record::RunLedger;
using record::StoredState;

constexpr size_t kLossWindow = 50;  // steps whose median a loss is measured against

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Writes states on a thread of its own, one at a time, from a snapshot.
class BackgroundWriter {
 public:
  ~BackgroundWriter() {
    if (thread_.joinable()) thread_.join();
  }
  // Waits for the write under way and returns its error.
  Status wait() {
    if (thread_.joinable()) thread_.join();
    return std::exchange(status_, Status());
  }
  void start(std::function<Status()> work) {
    thread_ = std::thread([this, work = std::move(work)] {
      set_float_mode();
      status_ = work();
    });
  }

 private:
  std::thread thread_;
  Status status_;
};

// Everything of one run while it is trained.
class Run {
 public:
  Run(const Curriculum& curriculum, const TrainRequest& request, kernels::Kernels& kernels,
      ThreadPool& pool, Observer& observer)
      : curriculum_(curriculum),
        recipe_(&curriculum_.first()),
        request_(request),
        directory_(request.run_directory),
        kernels_(kernels),
        pool_(pool),
        observer_(observer) {}

  Result<Outcome> train();

 private:
  enum class Kind { kAutosave, kAudit, kCheckpoint };

  Status open();
  Status check_recipe();
  Status check_measurements(const Curriculum& stored) const;
  Status read_branch(const std::vector<RunDirectory::State>& states);
  Status begin_log(const std::vector<RunDirectory::State>& states);
  Result<bool> settle_seed();
  StoredState stored_state(int64_t step, const fs::path& path) const;
  Status log_states(const std::vector<RunDirectory::State>& states);
  Status log_end();
  void tell_of_witnesses();
  Status start_or_resume();
  Status start();
  Status resume(const fs::path& state, bool of_another_recipe);
  Status branch();
  Status enter_stage(const Recipe& stage);
  Result<Outcome> loop();
  Status check_loss(const StepResult& result);
  Status one_step();
  Status log_step(const StepReport& report);
  Status checkpoint();
  Status average();
  Status autosave() { return store(Kind::kAutosave, directory_.autosave(step_)); }
  Status store(Kind kind, const fs::path& path);
  Status snapshot();
  Status log_validation(const ValidationReport& report);
  Result<std::vector<std::string>> samples();
  json record() const;
  bool stop_requested() const { return request_.stop != nullptr && request_.stop->load(); }

  Curriculum curriculum_;  // its seed may come from a beacon
  const Recipe* recipe_;   // the stage under way
  const TrainRequest& request_;
  const RunDirectory directory_;
  kernels::Kernels& kernels_;
  ThreadPool& pool_;
  Observer& observer_;

  data::Manifest manifest_;
  std::unique_ptr<model::Model> model_;
  std::optional<data::Tokenizer> tokenizer_;
  std::optional<data::Loader> loader_;
  std::unique_ptr<Engine> engine_;
  std::optional<formats::EventWriter> events_;
  std::unique_ptr<RunLedger> log_;   // none in a run that began without one
  formats::TrainingState snapshot_;  // untouched while writer_ works
  BackgroundWriter writer_;
  int64_t step_ = 0;  // steps done
  double last_loss_ = 0;
  double flops_per_token_ = 0;
  double peak_flops_ = 0;  // of the machine, measured at start; 0: not known
  double last_save_ = 0, started_ = 0;
  int64_t started_at_step_ = 0;
  json last_validation_;
  json branch_;                        // where the run comes from, if from a checkpoint
  std::vector<int64_t> due_, audits_;  // steps of the stage's checkpoints, and of its other states
  int64_t saved_step_ = -1;
  std::deque<double> recent_losses_;
};

Result<Outcome> Run::train() {
  NAITE_TRY(directory_.check_place());
  NAITE_TRY(make_directories(directory_.path()));
  NAITE_ASSIGN(const FileLock lock,
               FileLock::acquire(directory_.path() / ".lock", directory_.path().string()));
  const Status opened = open();
  if (!opened.ok() && stop_requested()) return Outcome::kStopped;
  NAITE_TRY(opened);
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, directory_.states());
  NAITE_TRY(read_branch(states));
  NAITE_TRY(begin_log(states));
  NAITE_ASSIGN(const bool has_seed, settle_seed());
  if (!has_seed) return Outcome::kStopped;
  NAITE_TRY(start_or_resume());
  Result<Outcome> outcome = loop();
  const Status written = writer_.wait();
  if (!outcome) return outcome;
  NAITE_TRY(written);
  NAITE_TRY(log_end());
  if (log_ && log_->witnesses() != nullptr) log_->witnesses()->settle();
  tell_of_witnesses();
  return outcome;
}

void Run::tell_of_witnesses() {
  if (!log_ || log_->witnesses() == nullptr) return;
  for (const std::string& note : log_->witnesses()->take_notes()) observer_.note(note);
}

Status Run::check_recipe() {
  const json resolved = curriculum_.resolved();
  if (!fs::exists(directory_.recipe())) return write_file(directory_.recipe(), to_toml(resolved));
  NAITE_ASSIGN(const Curriculum stored, load_recipe(directory_.recipe(), {}));
  if (stored.digest() == curriculum_.digest()) return check_measurements(stored);
  std::vector<std::string> differences = recipe_differences(stored.resolved(), resolved);
  if (differences.size() > 4) {
    const size_t more = differences.size() - 4;
    differences.resize(4);
    differences.push_back(fmt::format("and {} more", more));
  }
  return fail("{} belongs to another recipe ({}); choose another --run directory",
              directory_.path().string(), fmt::join(differences, "; "));
}

// The rest may change on the way; but what is measured stands in the log, and whoever checks it
// measures as recipe.toml says.
Status Run::check_measurements(const Curriculum& stored) const {
  for (size_t i = 0; i < stored.stages.size(); ++i) {
    const int64_t before = stored.stages[i].train.validation_tokens;
    const int64_t now = curriculum_.stages[i].train.validation_tokens;
    if (before != now)
      return fail(
          "{} was begun with train.validation_tokens = {}, not {}: a run measures itself the same "
          "way from end to end; give {} again, or another --run directory",
          directory_.path().string(), before, now, before);
  }
  return {};
}

Status Run::open() {
  peak_flops_ = kernels_.measure_peak_flops(recipe_->compute());  // before anything else is busy
  NAITE_TRY(check_recipe());
  NAITE_TRY(directory_.clean());
  data::PrepareRequest prepare;
  prepare.tokenizer = recipe_->tokenizer;
  prepare.data = recipe_->data;
  prepare.run_directory = directory_.path();
  prepare.base_directories = {recipe_->directory};
  prepare.num_threads = pool_.num_threads();
  prepare.stop = request_.stop;
  prepare.progress = [this](const data::PrepareProgress& p) { observer_.preparing(p); };
  NAITE_ASSIGN(manifest_, data::prepare(prepare));
  NAITE_ASSIGN(tokenizer_, data::Tokenizer::load(directory_.path()));
  NAITE_ASSIGN(formats::EventWriter events, formats::EventWriter::open(directory_.path()));
  events_.emplace(std::move(events));
  NAITE_TRY(make_directories(directory_.checkpoints()));
  return make_directories(directory_.autosaves());
}

// Where the run comes from, if not from random weights: as it was written down, or as --from says.
Status Run::read_branch(const std::vector<RunDirectory::State>& states) {
  if (fs::exists(directory_.branch())) {
    NAITE_ASSIGN(branch_, read_json(directory_.branch()));
    return {};
  }
  if (request_.start != nullptr) branch_ = request_.start->parent;
  if (request_.from.empty() || !states.empty()) return {};
  const std::string name = (request_.from / "state/cursor.json").string();
  NAITE_ASSIGN(const json parsed, read_json(name));
  Table cursor(parsed, name + ":");
  const int64_t step = cursor.integer("step", std::nullopt, 0, curriculum_.total_steps());
  const std::string recipe_digest = cursor.string("recipe_digest");
  NAITE_TRY(cursor.finish(true));
  NAITE_ASSIGN(const std::string digest, formats::state_digest(request_.from));
  branch_ = {{"from", record::public_name(request_.from)},
             {"step", step},
             {"state_digest", digest},
             {"recipe_digest", recipe_digest}};
  return {};
}

// Opens the log and commits before anything is trained. A run that began without a log stays
// without: its first steps cannot be entered any more.
Status Run::begin_log(const std::vector<RunDirectory::State>& states) {
  if (!states.empty() && !fs::exists(directory_.ledger())) {
    if (!recipe_->beacon.empty())
      return fail("{} has no log, which a run with seed = \"beacon\" needs: restore {}",
                  directory_.path().string(), directory_.ledger().string());
    observer_.note("no log: this run began without one");
    return {};
  }
  NAITE_ASSIGN(log_, RunLedger::open(directory_, request_.keys, recipe_->name));
  if (log_->self_signed())
    observer_.note("unsigned: the log is signed by a key of this run alone (see naite key new)");
  else
    observer_.note(fmt::format("signed as {}", log_->vkey()));
  NAITE_TRY(log_->begin_witnessing(request_.witnesses, request_.stop));
  NAITE_ASSIGN(const Commitment commitment,
               commitment_of(curriculum_, manifest_, branch_, directory_.path()));
  return log_->commit(commitment, states.empty() ? 0 : states.back().step);
}

// The seed that the log has, from now on in every stage; false while a beacon's value is missing.
Result<bool> Run::settle_seed() {
  if (!log_) return true;
  NAITE_ASSIGN(const std::optional<int64_t> seed,
               log_->seed(recipe_->seed, recipe_->beacon, request_.beacon_value));
  if (!seed) {
    observer_.note(
        fmt::format("committed in {}; when the value of {} is public, give it with "
                    "--beacon-value",
                    directory_.ledger().string(), recipe_->beacon));
    return false;
  }
  for (Recipe& stage : curriculum_.stages) stage.seed = *seed;
  return true;
}

// States that a killed process stored and did not come to enter.
Status Run::log_states(const std::vector<RunDirectory::State>& states) {
  if (!log_) return {};
  for (const RunDirectory::State& state : states) {
    if (state.path.parent_path() == directory_.autosaves()) continue;
    NAITE_TRY(log_->stored(stored_state(state.step, state.path)));
  }
  return {};
}

StoredState Run::stored_state(int64_t step, const fs::path& path) const {
  StoredState out;
  out.checkpoint = path.parent_path() == directory_.checkpoints();
  out.step = step;
  out.end_token = curriculum_.stage_of(step).tokens_at(step);
  out.directory = path.lexically_relative(directory_.path()).generic_string();
  return out;
}

Status Run::log_end() {
  if (!log_ || step_ < curriculum_.total_steps()) return {};
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, directory_.states());
  NAITE_ASSIGN(const json record, read_json(states.back().path / "record.json"));
  return log_->end(step_, record.value("state_digest", ""));
}

// Model, order of the data and engine of a stage; the training state passes over from the one
// before.
Status Run::enter_stage(const Recipe& stage) {
  NAITE_TRY(writer_.wait());
  const bool continues = engine_ != nullptr;
  if (continues) NAITE_TRY(engine_->save(snapshot_));
  engine_.reset();
  recipe_ = &stage;
  NAITE_ASSIGN(model_, stage.make_model(tokenizer_->vocab_size()));
  NAITE_ASSIGN(data::Loader loader,
               data::Loader::open({directory_.path(), stage.data, stage.loader_seed(),
                                   stage.rows_per_step(), stage.total_steps()}));
  loader_.emplace(std::move(loader));
  engine_ = std::make_unique<Engine>(*model_, kernels_, stage, request_.engine);
  flops_per_token_ = model::training_flops_per_token(*model_, stage.data.sequence_length);
  due_ = stage.checkpoint_steps();
  audits_ = stage.audit_steps();
  if (!continues) return {};
  NAITE_TRY(engine_->check_shapes(snapshot_, fmt::format("stage {}", stage.stage)));
  NAITE_TRY(engine_->load(snapshot_));
  observer_.note(fmt::format("stage {} begins after step {}", stage.stage, step_));
  return {};
}

Status Run::start_or_resume() {
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, directory_.states());
  if (!states.empty() && !request_.from.empty())
    return fail("{} has begun already; --from starts a new --run directory",
                directory_.path().string());
  if (!states.empty() && request_.start != nullptr)
    return fail("{} has begun already; choose another --run directory", directory_.path().string());
  if (!states.empty()) {
    NAITE_TRY(resume(states.back().path, false));
    NAITE_TRY(log_states(states));
    if (step_ < curriculum_.total_steps())
      observer_.note(fmt::format("resuming {} after step {}", directory_.path().string(), step_));
  } else if (!request_.from.empty()) {
    NAITE_TRY(branch());
  } else {
    NAITE_TRY(start());
  }
  started_ = last_save_ = now_seconds();
  started_at_step_ = step_;
  return {};
}

// From random weights, or from those that another model gave.
Status Run::start() {
  NAITE_TRY(directory_.rewind_logs(-1));
  NAITE_TRY(events_->rewind(-1));
  NAITE_TRY(enter_stage(curriculum_.first()));
  NAITE_TRY(engine_->initialise(static_cast<uint64_t>(recipe_->seed), pool_));
  if (request_.start != nullptr) {
    if (request_.start->vocab_size != model_->vocab_size())
      return fail(
          "{}: the tokenizer has {} entries, the parent's {}; [tokenizer] file must name the "
          "parent's tokenizer.json",
          recipe_->name, model_->vocab_size(), request_.start->vocab_size);
    NAITE_TRY(engine_->save(snapshot_));
    snapshot_.masters = request_.start->masters;
    NAITE_TRY(engine_->load(snapshot_));
    NAITE_TRY(write_file(directory_.branch(), branch_.dump(2) + "\n"));
  }
  if (log_) {
    NAITE_ASSIGN(const auto tensors, tensor_digests(*engine_, kernels_));
    NAITE_TRY(log_->initial(tensors));
  }
  observer_.note(fmt::format("starting {} from {} weights", directory_.path().string(),
                             request_.start == nullptr ? "random" : "grown"));
  return checkpoint();
}

// Loads a state. Another recipe's is taken only to branch off.
Status Run::resume(const fs::path& state, bool of_another_recipe) {
  NAITE_ASSIGN(const json parsed, read_json(state / "state/cursor.json"));
  Table cursor(parsed, state.string() + "/state/cursor.json:");
  step_ = cursor.integer("step", std::nullopt, 0, curriculum_.total_steps());
  const std::string digest = cursor.string("recipe_digest");
  NAITE_TRY(cursor.finish(true));
  if (!of_another_recipe && digest != curriculum_.digest())
    return fail("{} was made by another recipe; choose another --run directory", state.string());
  NAITE_TRY(enter_stage(curriculum_.stage_of(step_)));
  NAITE_TRY(engine_->save(snapshot_));  // gives the shapes
  NAITE_TRY(formats::read_checkpoint(state, snapshot_));
  NAITE_TRY(engine_->load(snapshot_));
  saved_step_ = step_;
  NAITE_TRY(directory_.rewind_logs(step_));
  NAITE_TRY(events_->rewind(step_));
  NAITE_ASSIGN(recent_losses_, directory_.recent_losses(kLossWindow));
  return {};
}

// A run that goes on from another one's checkpoint under a recipe of its own. Where it comes from
// is written down first and stands in every checkpoint's record.
Status Run::branch() {
  NAITE_ASSIGN(const std::string theirs, sha256_file(request_.from / "tokenizer.json"));
  NAITE_ASSIGN(const std::string ours, sha256_file(directory_.path() / "tokenizer.json"));
  if (theirs != ours)
    return fail(
        "{} was trained with another tokenizer than this text gives; in the recipe, write "
        "[tokenizer] file = \"{}\" instead of vocab_size, and take a new --run directory",
        request_.from.string(), (request_.from / "tokenizer.json").string());
  NAITE_TRY(resume(request_.from, true));
  NAITE_TRY(write_file(directory_.branch(), branch_.dump(2) + "\n"));
  if (log_) {
    NAITE_ASSIGN(const auto tensors, tensor_digests(*engine_, kernels_));
    NAITE_TRY(log_->initial(tensors));
  }
  observer_.note(fmt::format("{} branches off {} after step {}", directory_.path().string(),
                             request_.from.string(), step_));
  return checkpoint();
}

Result<Outcome> Run::loop() {
  const int64_t total = curriculum_.total_steps();
  const int64_t last =
      request_.stop_after_step >= 0 ? std::min(request_.stop_after_step, total) : total;
  while (step_ < last && !stop_requested()) {
    if (step_ == recipe_->end_step()) NAITE_TRY(enter_stage(curriculum_.stage_of(step_)));
    NAITE_TRY(one_step());
    if (std::binary_search(due_.begin(), due_.end(), step_)) {
      NAITE_TRY(checkpoint());
    } else if (std::binary_search(audits_.begin(), audits_.end(), step_)) {
      NAITE_TRY(store(Kind::kAudit, directory_.audit(step_)));
    } else if (now_seconds() - last_save_ >= recipe_->checkpoint.autosave_seconds) {
      NAITE_TRY(autosave());
    }
  }
  if (saved_step_ != step_) NAITE_TRY(autosave());
  return step_ < total ? Outcome::kStopped : Outcome::kFinished;
}

// A loss that is no number, or far above the recent ones, ends the run before it spoils the state:
// what stood before the step is saved.
Status Run::check_loss(const StepResult& result) {
  std::string wrong;
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm))
    wrong = fmt::format("the loss is {} and the gradient norm {}", result.loss, result.grad_norm);
  const double limit = recipe_->train.max_loss_ratio;
  if (wrong.empty() && limit > 0 && recent_losses_.size() >= kLossWindow / 2) {
    std::vector<double> sorted(recent_losses_.begin(), recent_losses_.end());
    std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
    const double median = sorted[sorted.size() / 2];
    if (result.loss > limit * median)
      wrong = fmt::format("the loss {:.4f} is more than {} times {:.4f}, its recent median",
                          result.loss, limit, median);
  }
  if (wrong.empty()) {
    recent_losses_.push_back(result.loss);
    if (recent_losses_.size() > kLossWindow) recent_losses_.pop_front();
    return {};
  }
  if (saved_step_ != step_) NAITE_TRY(autosave());
  NAITE_TRY(writer_.wait());
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, directory_.states());
  return fail(
      "step {}: {}; the state before it is kept in {}. Branch off it with another seed or rate: "
      "naite train RECIPE --from {} --run NEW --set run.seed={} (or --set "
      "optimizer.learning_rate={:g})",
      step_ + 1, wrong, states.back().path.string(), states.back().path.string(), recipe_->seed + 1,
      recipe_->optimizer.learning_rate / 2);
}

Status Run::one_step() {
  const double begin = now_seconds();
  NAITE_ASSIGN(const StepResult result, engine_->gradient(*loader_, step_));
  NAITE_TRY(check_loss(result));
  if (log_) NAITE_TRY(log_->step(step_ + 1, digest_of(result)));
  NAITE_TRY(engine_->update(step_, result.grad_norm));
  const double rate = recipe_->learning_rate(step_);
  ++step_;
  last_loss_ = result.loss;
  const double seconds = now_seconds() - begin;
  const double speed = static_cast<double>(recipe_->train.batch_tokens) / seconds;
  const double per_step =
      (now_seconds() - started_) / static_cast<double>(step_ - started_at_step_);
  StepReport report{step_,
                    curriculum_.total_steps(),
                    recipe_->tokens_at(step_),
                    result.loss,
                    rate,
                    result.grad_norm,
                    speed,
                    0,
                    per_step * static_cast<double>(curriculum_.total_steps() - step_)};
  if (peak_flops_ > 0) report.mfu = speed * flops_per_token_ / peak_flops_;
  NAITE_TRY(log_step(report));
  observer_.step(report);
  tell_of_witnesses();
  kill_point("step");
  return {};
}

Status Run::log_step(const StepReport& report) {
  NAITE_TRY(directory_.append("log.jsonl", {{"step", report.step},
                                            {"tokens", report.tokens},
                                            {"loss", report.loss},
                                            {"learning_rate", report.learning_rate},
                                            {"grad_norm", report.grad_norm},
                                            {"tokens_per_second", report.tokens_per_second},
                                            {"mfu", report.mfu}}));
  NAITE_TRY(events_->scalar(step_, "train/loss", report.loss));
  NAITE_TRY(events_->scalar(step_, "train/learning_rate", report.learning_rate));
  NAITE_TRY(events_->scalar(step_, "train/grad_norm", report.grad_norm));
  return events_->scalar(step_, "train/tokens_per_second", report.tokens_per_second);
}

json Run::record() const {
  json out = cursor_of(curriculum_, step_);
  out["stage"] = recipe_->stage;
  out["total_steps"] = curriculum_.total_steps();
  out["planned_tokens"] = curriculum_.total_tokens();
  out["name"] = recipe_->name;
  out["precision"] = recipe_->train.precision;
  if (step_ > 0) out["loss"] = last_loss_;
  out["validation"] = last_validation_;
  if (!branch_.is_null()) out["branch"] = branch_;
  // What this stage really read so far: the schedule of the weights in whole rows.
  const int64_t steps = step_ - recipe_->first_step;
  const std::vector<int64_t> tokens = loader_->tokens_by_source(0, steps);
  const std::vector<double> epochs = loader_->epochs_by_source(steps);
  for (size_t i = 0; i < manifest_.sources.size(); ++i) {
    const data::ManifestSource& source = manifest_.sources[i];
    out["data"].push_back({{"name", source.name},
                           {"license", source.license},
                           {"origin", source.origin},
                           {"stage_tokens", tokens[i]},
                           {"stage_epochs", epochs[i]}});
  }
  return out;
}

// Copies the state to the host, after the write under way has ended.
Status Run::snapshot() {
  NAITE_TRY(writer_.wait());
  NAITE_TRY(engine_->save(snapshot_));
  snapshot_.cursor = cursor_of(curriculum_, step_);
  last_save_ = now_seconds();
  saved_step_ = step_;
  return {};
}

// At an averaging step the mean goes on as the parameters.
Status Run::average() {
  if (!is_averaged(*recipe_, step_)) return {};
  NAITE_TRY(writer_.wait());
  NAITE_TRY(engine_->save(snapshot_));
  NAITE_TRY(average_checkpoints(*recipe_, step_, directory_, snapshot_));
  NAITE_TRY(engine_->load(snapshot_));
  return {};
}

Status Run::checkpoint() {
  NAITE_TRY(average());
  ValidationReport report;
  report.step = step_;
  report.tokens = recipe_->tokens_at(step_);
  for (int source = 0; source < loader_->num_sources(); ++source) {
    if (loader_->num_validation_rows(source) == 0) continue;
    report.sources.push_back(loader_->source_name(source));
    NAITE_ASSIGN(const Engine::Validation found, engine_->validate(*loader_, source));
    report.results.push_back(found);
  }
  NAITE_ASSIGN(report.samples, samples());
  NAITE_TRY(log_validation(report));
  const fs::path path = directory_.checkpoint(recipe_->stage, report.step, report.tokens);
  report.checkpoint = path.filename().string();
  NAITE_TRY(store(Kind::kCheckpoint, path));
  observer_.validated(report);
  return {};
}

// Writes the state in the background, in step with the log: steps before the state that they lead
// to, the state's entry when it is there.
Status Run::store(Kind kind, const fs::path& path) {
  NAITE_TRY(snapshot());
  if (kind == Kind::kAutosave) kill_point("autosave");
  if (kind == Kind::kAudit) NAITE_TRY(make_directories(directory_.audits()));
  formats::CheckpointContent content =
      content_of(*recipe_, *model_, *tokenizer_, directory_.path());
  content.state = &snapshot_;
  content.record = record();
  content.model_card = model_card(*recipe_, *model_, manifest_, content.record);
  const int64_t step = step_;
  if (log_ && kind == Kind::kCheckpoint)
    content.finish = [this, step, name = path.filename().string()](const fs::path& directory) {
      return log_->sign_checkpoint(directory, name, step);
    };
  writer_.start([this, kind, path, step, content = std::move(content)]() -> Status {
    if (log_) NAITE_TRY(log_->flush(step));
    NAITE_TRY(formats::write_checkpoint(path, content));
    if (log_ && kind != Kind::kAutosave) NAITE_TRY(log_->stored(stored_state(step, path)));
    return directory_.remove_autosaves_except(kind == Kind::kAutosave ? step : -1);
  });
  return {};
}

Status Run::log_validation(const ValidationReport& report) {
  last_validation_ = json::object();
  json line = {{"step", report.step}, {"tokens", report.tokens}};
  double loss = 0, bits = 0;
  for (size_t i = 0; i < report.sources.size(); ++i) {
    const Engine::Validation& v = report.results[i];
    last_validation_[report.sources[i]] = {{"loss", v.loss}, {"bits_per_byte", v.bits_per_byte}};
    loss += v.loss / static_cast<double>(report.sources.size());
    bits += v.bits_per_byte / static_cast<double>(report.sources.size());
    NAITE_TRY(events_->scalar(report.step, "validation/bits_per_byte/" + report.sources[i],
                              v.bits_per_byte));
  }
  if (!report.sources.empty()) {
    line["val_loss"] = loss;
    line["val_bpb"] = bits;
    line["validation"] = last_validation_;
    NAITE_TRY(directory_.append("log.jsonl", line));
  }
  for (size_t i = 0; i < report.samples.size(); ++i) {
    NAITE_TRY(directory_.append("samples.jsonl", {{"step", report.step},
                                                  {"prompt", recipe_->sample.prompts[i]},
                                                  {"text", report.samples[i]}}));
    NAITE_TRY(events_->text(report.step, fmt::format("samples/{}", i), report.samples[i]));
  }
  return events_->flush();
}

Result<std::vector<std::string>> Run::samples() {
  std::vector<std::string> out;
  if (recipe_->sample.prompts.empty()) return out;
  infer::Generator generator(*model_, engine_->parameters(), recipe_->data.sequence_length);
  for (const std::string& prompt : recipe_->sample.prompts) {
    std::vector<int32_t> ids = tokenizer_->encode(prompt);
    const int32_t end = tokenizer_->end_of_document();
    if (end >= 0) ids.insert(ids.begin(), end);  // every document starts with it
    if (static_cast<int64_t>(ids.size()) >= generator.capacity())
      ids.resize(generator.capacity() - 1);
    infer::SamplingOptions options;
    options.max_tokens = recipe_->sample.max_tokens;
    options.temperature = recipe_->sample.temperature;
    options.top_p = recipe_->sample.top_p;
    options.seed = static_cast<uint64_t>(recipe_->seed);
    options.stop_token = end;
    std::vector<int32_t> tokens;
    NAITE_TRY(generator.generate(ids, options, [&](int32_t token) {
      tokens.push_back(token);
      return true;
    }));
    out.push_back(prompt + tokenizer_->decode(tokens, true));
  }
  return out;
}

}  // namespace

Result<Outcome> train(const Curriculum& curriculum, const TrainRequest& request,
                      kernels::Kernels& kernels, ThreadPool& pool, Observer& observer) {
  for (const Recipe& stage : curriculum.stages)
    if (stage.train.gradient_groups % request.engine.virtual_ranks != 0)
      return fail("--virtual-ranks {} must divide the {} gradient groups of the recipe",
                  request.engine.virtual_ranks, stage.train.gradient_groups);
  return Run(curriculum, request, kernels, pool, observer).train();
}

Result<fs::path> model_directory(const fs::path& path) {
  if (!fs::exists(path)) return fail("{} does not exist", path.string());
  if (!fs::exists(path / "checkpoints")) return path;
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, RunDirectory(path).states());
  if (states.empty()) return fail("{} has no checkpoint yet", path.string());
  return states.back().path;
}

}  // namespace naite::train
