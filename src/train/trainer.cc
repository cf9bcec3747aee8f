// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>

#include "data/loader.h"
#include "formats/checkpoint.h"
#include "formats/tfevents.h"
#include "infer/infer.h"
#include "train/derived.h"
#include "train/model_card.h"
#include "train/run_directory.h"
#include "train/run_log.h"

namespace naite::train {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

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
  Run(const Recipe& recipe, const TrainRequest& request, kernels::Kernels& kernels,
      ThreadPool& pool, Observer& observer)
      : recipe_(recipe),
        request_(request),
        directory_(request.run_directory),
        kernels_(kernels),
        pool_(pool),
        observer_(observer) {}

  Result<Outcome> train();

 private:
  enum class Kind { kAutosave, kAudit, kCheckpoint };

  Status open();
  Status open_engine();
  Status check_recipe();
  Status begin_log(const std::vector<RunDirectory::State>& states);
  Status start_or_resume();
  StoredState stored_state(int64_t step, const fs::path& path) const;
  Status log_states(const std::vector<RunDirectory::State>& states);
  Status log_end();
  Status log_step(const StepReport& report);
  Status store(Kind kind, const fs::path& path);
  Result<Outcome> loop();
  Status one_step();
  Status checkpoint();
  Status snapshot();
  Status log_validation(const ValidationReport& report);
  std::vector<std::string> samples();
  json record() const;
  bool stop_requested() const { return request_.stop != nullptr && request_.stop->load(); }

  Recipe recipe_;
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
  std::unique_ptr<RunLog> log_;      // none in a run that began without one
  formats::TrainingState snapshot_;  // untouched while writer_ works
  BackgroundWriter writer_;
  int64_t step_ = 0;  // steps done
  double last_loss_ = 0;
  double flops_per_token_ = 0;
  double last_save_ = 0, started_ = 0;
  int64_t started_at_step_ = 0;
  json last_validation_;
};

Result<Outcome> Run::train() {
  NAITE_TRY(make_directories(directory_.path()));
  NAITE_ASSIGN(const FileLock lock,
               FileLock::acquire(directory_.path() / ".lock", directory_.path().string()));
  NAITE_TRY(open());
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, directory_.states());
  NAITE_TRY(begin_log(states));
  if (log_) {
    NAITE_ASSIGN(const std::optional<int64_t> seed, log_->seed(recipe_, request_.beacon_value));
    if (!seed) {
      observer_.note(
          fmt::format("committed in {}; when the value of {} is public, give it with "
                      "--beacon-value",
                      directory_.ledger().string(), recipe_.beacon));
      return Outcome::kStopped;
    }
    recipe_.seed = *seed;
  }
  NAITE_TRY(open_engine());
  NAITE_TRY(start_or_resume());
  Result<Outcome> outcome = loop();
  const Status written = writer_.wait();
  if (!outcome) return outcome;
  NAITE_TRY(written);
  NAITE_TRY(log_end());
  return outcome;
}

Status Run::check_recipe() {
  const json resolved = recipe_.resolved();
  if (!fs::exists(directory_.recipe())) return write_file(directory_.recipe(), to_toml(resolved));
  NAITE_ASSIGN(const Recipe stored, load_recipe(directory_.recipe(), {}));
  if (stored.digest() == recipe_.digest()) return {};
  std::vector<std::string> differences = recipe_differences(stored.resolved(), resolved);
  if (differences.size() > 4) {
    const size_t more = differences.size() - 4;
    differences.resize(4);
    differences.push_back(fmt::format("and {} more", more));
  }
  return fail("{} belongs to another recipe ({}); choose another --run directory",
              directory_.path().string(), fmt::join(differences, "; "));
}

Status Run::open() {
  NAITE_TRY(check_recipe());
  NAITE_TRY(directory_.clean());
  data::PrepareRequest prepare;
  prepare.tokenizer = recipe_.tokenizer;
  prepare.data = recipe_.data;
  prepare.run_directory = directory_.path();
  prepare.base_directories = {recipe_.directory};
  prepare.num_threads = pool_.num_threads();
  prepare.progress = [this](const data::PrepareProgress& p) { observer_.preparing(p); };
  NAITE_ASSIGN(manifest_, data::prepare(prepare));
  NAITE_ASSIGN(tokenizer_, data::Tokenizer::load(directory_.path()));
  NAITE_ASSIGN(model_, recipe_.make_model(tokenizer_->vocab_size()));
  flops_per_token_ = model::training_flops_per_token(*model_, recipe_.data.sequence_length);
  NAITE_TRY(make_directories(directory_.checkpoints()));
  return make_directories(directory_.autosaves());
}

// What depends on the seed.
Status Run::open_engine() {
  NAITE_ASSIGN(
      data::Loader loader,
      data::Loader::open({directory_.path(), recipe_.data, static_cast<uint64_t>(recipe_.seed),
                          recipe_.rows_per_step(), recipe_.total_steps()}));
  loader_.emplace(std::move(loader));
  engine_ = std::make_unique<Engine>(*model_, kernels_, recipe_, request_.engine);
  NAITE_ASSIGN(formats::EventWriter events, formats::EventWriter::open(directory_.path()));
  events_.emplace(std::move(events));
  return {};
}

// Opens the log before anything is trained. A run that began without one stays without: its first
// steps cannot be entered any more.
Status Run::begin_log(const std::vector<RunDirectory::State>& states) {
  if (!states.empty() && !fs::exists(directory_.ledger())) {
    if (!recipe_.beacon.empty())
      return fail("{} has no log, which a run with seed = \"beacon\" needs: restore {}",
                  directory_.path().string(), directory_.ledger().string());
    observer_.note("no log: this run began without one");
    return {};
  }
  NAITE_ASSIGN(log_, RunLog::open(directory_, request_.keys, recipe_.name));
  if (log_->self_signed())
    observer_.note("unsigned: the log is signed by a key of this run alone (see naite key new)");
  else
    observer_.note(fmt::format("signed as {}", log_->vkey()));
  NAITE_ASSIGN(const Commitment commitment,
               commitment_of(recipe_, *model_, manifest_, directory_.path()));
  return log_->commit(commitment, states.empty() ? 0 : states.back().step);
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
  out.end_token = step * recipe_.train.batch_tokens;
  out.directory = path.lexically_relative(directory_.path()).generic_string();
  return out;
}

Status Run::log_end() {
  if (!log_ || step_ < recipe_.total_steps()) return {};
  NAITE_ASSIGN(
      const std::string text,
      read_file(directory_.checkpoint(step_, step_ * recipe_.train.batch_tokens) / "record.json"));
  NAITE_ASSIGN(const json record, parse_json(text, "record.json"));
  return log_->end(step_, record.value("state_digest", ""));
}

Status Run::start_or_resume() {
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, directory_.states());
  if (states.empty()) {
    NAITE_TRY(directory_.rewind_logs(-1));
    engine_->initialise(static_cast<uint64_t>(recipe_.seed), pool_);
    if (log_) NAITE_TRY(log_->initial(tensor_digests(*engine_, kernels_)));
    observer_.note(fmt::format("starting {} from random weights", directory_.path().string()));
    NAITE_TRY(checkpoint());
  } else {
    engine_->save(snapshot_);  // gives the shapes
    NAITE_TRY(formats::read_checkpoint(states.back().path, snapshot_));
    Table cursor(snapshot_.cursor, states.back().path.string() + "/state/cursor.json:");
    step_ = cursor.integer("step", std::nullopt, 0, recipe_.total_steps());
    const std::string digest = cursor.string("recipe_digest");
    NAITE_TRY(cursor.finish(true));
    if (digest != recipe_.digest())
      return fail("{} was made by another recipe; choose another --run directory",
                  states.back().path.string());
    engine_->load(snapshot_);
    NAITE_TRY(directory_.rewind_logs(step_));
    NAITE_TRY(log_states(states));
    if (step_ < recipe_.total_steps())
      observer_.note(fmt::format("resuming {} after step {}", directory_.path().string(), step_));
  }
  started_ = last_save_ = now_seconds();
  started_at_step_ = step_;
  return {};
}

Result<Outcome> Run::loop() {
  const std::vector<int64_t> due = recipe_.checkpoint_steps(), audits = recipe_.audit_steps();
  const int64_t last = request_.stop_after_step >= 0
                           ? std::min(request_.stop_after_step, recipe_.total_steps())
                           : recipe_.total_steps();
  bool saved = true;
  while (step_ < last && !stop_requested()) {
    NAITE_TRY(one_step());
    saved = true;
    if (std::binary_search(due.begin(), due.end(), step_)) {
      NAITE_TRY(checkpoint());
    } else if (std::binary_search(audits.begin(), audits.end(), step_)) {
      NAITE_TRY(store(Kind::kAudit, directory_.audit(step_)));
    } else if (now_seconds() - last_save_ >= recipe_.checkpoint.autosave_seconds) {
      NAITE_TRY(store(Kind::kAutosave, directory_.autosave(step_)));
    } else {
      saved = false;
    }
  }
  if (!saved) NAITE_TRY(store(Kind::kAutosave, directory_.autosave(step_)));
  return step_ < recipe_.total_steps() ? Outcome::kStopped : Outcome::kFinished;
}

Status Run::one_step() {
  const double begin = now_seconds();
  const StepResult result = engine_->gradient(*loader_, step_);
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm))
    return fail(
        "step {}: the loss is {} and the gradient norm {}; nothing of this step was kept, "
        "the last saved state stands; lower [optimizer] learning_rate or raise warmup_ratio",
        step_ + 1, result.loss, result.grad_norm);
  if (log_) NAITE_TRY(log_->step(step_ + 1, StepDigest::of(result)));
  engine_->update(step_, result.grad_norm);
  const double rate = recipe_.learning_rate(step_);
  ++step_;
  last_loss_ = result.loss;
  const double seconds = now_seconds() - begin;
  const double speed = static_cast<double>(recipe_.train.batch_tokens) / seconds;
  const double per_step =
      (now_seconds() - started_) / static_cast<double>(step_ - started_at_step_);
  StepReport report{step_,
                    recipe_.total_steps(),
                    step_ * recipe_.train.batch_tokens,
                    result.loss,
                    rate,
                    result.grad_norm,
                    speed,
                    0,
                    per_step * static_cast<double>(recipe_.total_steps() - step_)};
  if (request_.peak_flops > 0) report.mfu = speed * flops_per_token_ / request_.peak_flops;
  NAITE_TRY(log_step(report));
  observer_.step(report);
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
  json out = cursor_of(recipe_, step_);
  out["stage"] = 1;
  out["total_steps"] = recipe_.total_steps();
  out["planned_tokens"] = recipe_.total_steps() * recipe_.train.batch_tokens;
  out["name"] = recipe_.name;
  out["precision"] = recipe_.train.precision;
  if (step_ > 0) out["loss"] = last_loss_;
  out["validation"] = last_validation_;
  for (const data::ManifestSource& source : manifest_.sources)
    out["data"].push_back(
        {{"name", source.name}, {"license", source.license}, {"origin", source.origin}});
  return out;
}

// Copies the state to the host, after the write under way has ended.
Status Run::snapshot() {
  NAITE_TRY(writer_.wait());
  engine_->save(snapshot_);
  snapshot_.cursor = cursor_of(recipe_, step_);
  last_save_ = now_seconds();
  return {};
}

Status Run::checkpoint() {
  ValidationReport report;
  report.step = step_;
  report.tokens = step_ * recipe_.train.batch_tokens;
  for (int source = 0; source < loader_->num_sources(); ++source) {
    if (loader_->num_validation_rows(source) == 0) continue;
    report.sources.push_back(loader_->source_name(source));
    report.results.push_back(engine_->validate(*loader_, source));
  }
  report.samples = samples();
  NAITE_TRY(log_validation(report));
  const fs::path path = directory_.checkpoint(report.step, report.tokens);
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
  formats::CheckpointContent content = content_of(recipe_, *model_, *tokenizer_, directory_.path());
  content.state = &snapshot_;
  content.record = record();
  content.model_card = model_card(recipe_, *model_, manifest_, content.record);
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
                                                  {"prompt", recipe_.sample.prompts[i]},
                                                  {"text", report.samples[i]}}));
    NAITE_TRY(events_->text(report.step, fmt::format("samples/{}", i), report.samples[i]));
  }
  return events_->flush();
}

std::vector<std::string> Run::samples() {
  std::vector<std::string> out;
  if (recipe_.sample.prompts.empty()) return out;
  infer::Generator generator(*model_, engine_->parameters(), recipe_.data.sequence_length);
  for (const std::string& prompt : recipe_.sample.prompts) {
    std::vector<int32_t> ids = tokenizer_->encode(prompt);
    const int32_t end = tokenizer_->end_of_document();
    if (end >= 0) ids.insert(ids.begin(), end);  // every document starts with it
    if (static_cast<int64_t>(ids.size()) >= generator.capacity())
      ids.resize(generator.capacity() - 1);
    infer::SamplingOptions options;
    options.max_tokens = recipe_.sample.max_tokens;
    options.temperature = recipe_.sample.temperature;
    options.top_p = recipe_.sample.top_p;
    options.seed = static_cast<uint64_t>(recipe_.seed);
    options.stop_token = end;
    std::vector<int32_t> tokens;
    generator.generate(ids, options, [&](int32_t token) {
      tokens.push_back(token);
      return true;
    });
    out.push_back(prompt + tokenizer_->decode(tokens, true));
  }
  return out;
}

}  // namespace

Result<Outcome> train(const Recipe& recipe, const TrainRequest& request, kernels::Kernels& kernels,
                      ThreadPool& pool, Observer& observer) {
  if (recipe.train.gradient_groups % request.engine.virtual_ranks != 0)
    return fail("--virtual-ranks {} must divide the {} gradient groups of the recipe",
                request.engine.virtual_ranks, recipe.train.gradient_groups);
  return Run(recipe, request, kernels, pool, observer).train();
}

Result<fs::path> model_directory(const fs::path& path) {
  if (!fs::exists(path)) return fail("{} does not exist", path.string());
  if (!fs::exists(path / "checkpoints")) return path;
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, RunDirectory(path).states());
  if (states.empty()) return fail("{} has no checkpoint yet", path.string());
  return states.back().path;
}

}  // namespace naite::train
