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
#include "train/model_card.h"
#include "train/run_directory.h"

namespace naite::train {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

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
  // `snapshot` must stay untouched until the next wait().
  void start(fs::path directory, formats::CheckpointContent content,
             std::function<Status()> afterwards) {
    thread_ = std::thread([this, directory = std::move(directory), content = std::move(content),
                           afterwards = std::move(afterwards)] {
      set_float_mode();
      status_ = formats::write_checkpoint(directory, content);
      if (status_.ok()) status_ = afterwards();
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
        recipe_(&curriculum.first()),
        request_(request),
        directory_(request.run_directory),
        kernels_(kernels),
        pool_(pool),
        observer_(observer) {}

  Result<Outcome> train();

 private:
  Status open();
  Status check_recipe();
  Status start_or_resume();
  Status start();
  Status resume(const fs::path& state, bool of_another_recipe);
  Status branch();
  Status enter_stage(const Recipe& stage);
  Result<Outcome> loop();
  Status check_loss(const StepResult& result);
  Status one_step();
  Status checkpoint();
  Status average();
  Status autosave();
  Status snapshot();
  Status log_validation(const ValidationReport& report);
  std::vector<std::string> samples();
  json record() const;
  json cursor() const;
  bool stop_requested() const { return request_.stop != nullptr && request_.stop->load(); }

  const Curriculum& curriculum_;
  const Recipe* recipe_;  // the stage under way
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
  formats::TrainingState snapshot_;
  BackgroundWriter writer_;
  int64_t step_ = 0;  // steps done
  double last_loss_ = 0;
  double flops_per_token_ = 0;
  double peak_flops_ = 0;  // of the machine, measured at start; 0: not known
  double last_save_ = 0, started_ = 0;
  int64_t started_at_step_ = 0;
  json last_validation_;
  json branch_;               // where the run comes from, if from a checkpoint
  json parent_;               // of a grown model: what it grew from
  std::vector<int64_t> due_;  // steps of the stage's checkpoints
  int64_t saved_step_ = -1;
  std::deque<double> recent_losses_;
};

Result<Outcome> Run::train() {
  NAITE_TRY(make_directories(directory_.path()));
  NAITE_ASSIGN(const FileLock lock,
               FileLock::acquire(directory_.path() / ".lock", directory_.path().string()));
  const Status opened = open();
  if (!opened.ok() && stop_requested()) return Outcome::kStopped;
  NAITE_TRY(opened);
  NAITE_TRY(start_or_resume());
  Result<Outcome> outcome = loop();
  const Status written = writer_.wait();
  if (!outcome) return outcome;
  NAITE_TRY(written);
  return outcome;
}

Status Run::check_recipe() {
  const json resolved = curriculum_.resolved();
  if (!fs::exists(directory_.recipe())) return write_file(directory_.recipe(), to_toml(resolved));
  NAITE_ASSIGN(const Curriculum stored, load_recipe(directory_.recipe(), {}));
  if (stored.digest() == curriculum_.digest()) return {};
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

// Model, order of the data and engine of a stage; the training state passes over from the one
// before.
Status Run::enter_stage(const Recipe& stage) {
  NAITE_TRY(writer_.wait());
  const bool continues = engine_ != nullptr;
  if (continues) engine_->save(snapshot_);
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
  if (!continues) return {};
  NAITE_TRY(engine_->check_shapes(snapshot_, fmt::format("stage {}", stage.stage)));
  engine_->load(snapshot_);
  observer_.note(fmt::format("stage {} begins after step {}", stage.stage, step_));
  return {};
}

Status Run::start_or_resume() {
  NAITE_ASSIGN(const std::vector<RunDirectory::State> states, directory_.states());
  if (!states.empty() && !request_.from.empty())
    return fail("{} has begun already; --from starts a new --run directory",
                directory_.path().string());
  if (!states.empty() && request_.start != nullptr)
    return fail("{} has begun already; choose another --run directory",
                directory_.path().string());
  if (!states.empty()) {
    NAITE_TRY(resume(states.back().path, false));
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
  NAITE_TRY(enter_stage(curriculum_.first()));
  engine_->initialise(static_cast<uint64_t>(recipe_->seed), pool_);
  if (request_.start != nullptr) {
    if (request_.start->vocab_size != model_->vocab_size())
      return fail(
          "{}: the tokenizer has {} entries, the parent's {}; [tokenizer] file must name the "
          "parent's tokenizer.json",
          recipe_->name, model_->vocab_size(), request_.start->vocab_size);
    engine_->save(snapshot_);
    snapshot_.masters = request_.start->masters;
    engine_->load(snapshot_);
    parent_ = request_.start->parent;
  }
  observer_.note(fmt::format("starting {} from {} weights", directory_.path().string(),
                             request_.start == nullptr ? "random" : "grown"));
  return checkpoint();
}

// Loads a state. Another recipe's is taken only to branch off.
Status Run::resume(const fs::path& state, bool of_another_recipe) {
  NAITE_ASSIGN(const std::string text, read_file(state / "state/cursor.json"));
  NAITE_ASSIGN(const json parsed, parse_json(text, state.string() + "/state/cursor.json"));
  Table cursor(parsed, state.string() + "/state/cursor.json:");
  step_ = cursor.integer("step", std::nullopt, 0, curriculum_.total_steps());
  const std::string digest = cursor.string("recipe_digest");
  if (cursor.has("parent")) parent_ = *cursor.raw("parent");
  NAITE_TRY(cursor.finish(true));
  if (!of_another_recipe && digest != curriculum_.digest())
    return fail("{} was made by another recipe; choose another --run directory", state.string());
  NAITE_TRY(enter_stage(curriculum_.stage_of(step_)));
  engine_->save(snapshot_);  // gives the shapes
  NAITE_TRY(formats::read_checkpoint(state, snapshot_));
  engine_->load(snapshot_);
  NAITE_TRY(directory_.rewind_logs(step_));
  NAITE_ASSIGN(recent_losses_, directory_.recent_losses(kLossWindow));
  if (!fs::exists(directory_.branch())) return {};
  NAITE_ASSIGN(const std::string branch, read_file(directory_.branch()));
  NAITE_ASSIGN(branch_, parse_json(branch, directory_.branch().string()));
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
  NAITE_ASSIGN(const std::string digest, formats::state_digest(request_.from));
  branch_ = {{"from", fs::absolute(request_.from).lexically_normal().string()},
             {"step", step_},
             {"state_digest", digest},
             {"recipe_digest", snapshot_.cursor["recipe_digest"]}};
  NAITE_TRY(write_file(directory_.branch(), branch_.dump(2) + "\n"));
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
  const StepResult result = engine_->gradient(*loader_, step_);
  NAITE_TRY(check_loss(result));
  engine_->update(step_, result.grad_norm);
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
  NAITE_TRY(events_->scalar(step_, "train/tokens_per_second", report.tokens_per_second));
  observer_.step(report);
  kill_point("step");
  return {};
}

json Run::cursor() const {
  json out = {{"format", 1},
              {"step", step_},
              {"tokens", recipe_->tokens_at(step_)},
              {"seed", recipe_->seed},
              {"arithmetic", recipe_->arithmetic},
              {"recipe_digest", curriculum_.digest()}};
  if (!parent_.is_null()) out["parent"] = parent_;
  return out;
}

json Run::record() const {
  json out = cursor();
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
  engine_->save(snapshot_);
  snapshot_.cursor = cursor();
  last_save_ = now_seconds();
  saved_step_ = step_;
  return {};
}

namespace {

formats::CheckpointContent content_of(const formats::TrainingState& state, const Recipe& recipe,
                                      const model::Model& model, const data::Tokenizer& tokenizer,
                                      const data::Manifest& manifest, json record,
                                      const fs::path& run) {
  formats::CheckpointContent content;
  content.state = &state;
  content.config = model.config();
  content.generation_config = {{"do_sample", true}, {"temperature", 0.8}, {"top_p", 0.95}};
  if (const int32_t end = tokenizer.end_of_document(); end >= 0) {
    content.config["bos_token_id"] = end;
    content.config["eos_token_id"] = end;
    content.generation_config["bos_token_id"] = end;
    content.generation_config["eos_token_id"] = end;
  }
  content.dtype =
      recipe.train.precision == "bf16" ? formats::StoredType::kBf16 : formats::StoredType::kF32;
  content.model_card = model_card(recipe, model, manifest, record);
  content.record = std::move(record);
  content.tokenizer_directory = run;
  return content;
}

}  // namespace

// Replaces the parameters by their mean with the checkpoints of the averaging steps before.
Status Run::average() {
  const std::vector<int64_t> steps = recipe_->averaging_steps();
  const auto here = std::find(steps.begin(), steps.end(), step_);
  const int64_t before =
      here == steps.end() ? 0 : std::min(recipe_->averaging.last - 1, here - steps.begin());
  if (before == 0) return {};
  NAITE_TRY(writer_.wait());
  engine_->save(snapshot_);
  std::vector<float> sum(snapshot_.masters.size(), 0.0f), masters;
  const auto add = [&](const std::vector<float>& values) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] = sum[i] + values[i];
  };
  for (auto step = here - before; step != here; ++step) {
    NAITE_TRY(formats::read_masters(
        directory_.checkpoint(recipe_->stage, *step, recipe_->tokens_at(*step)), snapshot_.specs,
        masters));
    add(masters);
  }
  add(snapshot_.masters);
  const float share = static_cast<float>(1.0 / static_cast<double>(before + 1));
  for (size_t i = 0; i < sum.size(); ++i) snapshot_.masters[i] = sum[i] * share;
  engine_->load(snapshot_);
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
    report.results.push_back(engine_->validate(*loader_, source));
  }
  report.samples = samples();
  NAITE_TRY(log_validation(report));
  NAITE_TRY(snapshot());
  const fs::path path = directory_.checkpoint(recipe_->stage, report.step, report.tokens);
  report.checkpoint = path.filename().string();
  writer_.start(
      path,
      content_of(snapshot_, *recipe_, *model_, *tokenizer_, manifest_, record(), directory_.path()),
      [this] { return directory_.remove_autosaves_except(-1); });
  observer_.validated(report);
  return {};
}

Status Run::autosave() {
  NAITE_TRY(snapshot());
  const int64_t step = step_;
  kill_point("autosave");
  writer_.start(
      directory_.autosave(step),
      content_of(snapshot_, *recipe_, *model_, *tokenizer_, manifest_, record(), directory_.path()),
      [this, step] { return directory_.remove_autosaves_except(step); });
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

std::vector<std::string> Run::samples() {
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
    generator.generate(ids, options, [&](int32_t token) {
      tokens.push_back(token);
      return true;
    });
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
