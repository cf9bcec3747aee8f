// SPDX-License-Identifier: Apache-2.0
#pragma once
// A recipe: everything that decides the bits of a run, and the names and prompts around it. What
// belongs to the machine (device, threads, ranks, recomputation) is not in here.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/manifest.h"
#include "data/options.h"
#include "formats/record.h"
#include "formats/stored.h"
#include "kernels/kernels.h"
#include "model/model.h"

namespace naite::train {

struct TrainOptions {
  int64_t tokens = 0;              // the budget; rounds up to whole steps
  int64_t batch_tokens = 0;        // per step
  int64_t micro_batch_tokens = 0;  // per replay of the tape
  std::string precision = "bf16";
  double max_grad_norm = 1.0;          // 0: no clipping
  int64_t gradient_groups = 0;         // resolved: a power of two
  int64_t validation_tokens = 0;       // at most so many per source and measurement
  std::vector<std::string> trainable;  // names of tensors, * stands for anything; others stay
  double max_loss_ratio = 0;  // a loss this many times its recent median stops the run; 0: never
};

struct MuonOptions {
  double weight_decay = 0.1;
  double momentum = 0.95;
  double qk_clip = 0;  // the largest score of attention that is let stand; 0: any
};

struct OptimizerOptions {
  std::string name = "adamw";
  double learning_rate = 0;
  // AdamW: of every parameter or, with Muon, of embedding, head and vectors ([optimizer.adamw]).
  double weight_decay = 0.1;
  double beta1 = 0.9, beta2 = 0.95;
  double epsilon = 1e-8;
  double other_learning_rate = 0;  // with Muon: AdamW's
  MuonOptions muon;
};

struct ScheduleOptions {
  std::string kind = "wsd";
  std::string decay = "linear";  // of wsd: linear, cosine, inverse_square_root
  double warmup_ratio = 0.02, decay_ratio = 0.2, min_learning_rate_ratio = 0.1;
};

// Checkpoint averaging while wsd decays: at every averaging step the mean of the last checkpoints
// of such steps, the running parameters being the newest, goes on as the parameters.
struct AveragingOptions {
  int64_t last = 1;  // how many are averaged; 1: none
  double every = 0;  // share of the stage's steps
};

struct CheckpointOptions {
  double every = 0.1;      // share of the steps
  double audit_every = 0;  // states stored for replays, between checkpoints; 0: none
  double autosave_seconds = 60;
};

struct SampleOptions {
  std::vector<std::string> prompts;
  int64_t max_tokens = 64;
  double temperature = 0.8;
  double top_p = 0.95;
};

// What one stage of a run trains on and how. A recipe without [[stage]] is a run of one stage.
struct Recipe {
  std::string name;
  int64_t seed = 0;
  // seed = "beacon": the value of this public source, named before it is known, makes the seed with
  // the run's commitment (record/history.h). `seed` is set when it is known.
  std::string beacon;
  const kernels::Arithmetic* arithmetic = &kernels::kChain1;  // of the published ones
  std::string objective = "pretrain";  // what the stage trains for; train/objective.h
  data::TokenizerOptions tokenizer;
  data::DataOptions data;
  nlohmann::json model;  // the [model] table as given; vocab_size comes from the tokenizer
  TrainOptions train;
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  AveragingOptions averaging;
  CheckpointOptions checkpoint;
  SampleOptions sample;
  double growth_noise = 0.01;       // of copied weights, over their root mean square; train/grow.h
  std::filesystem::path directory;  // of the recipe file; relative data paths may start there

  // Steps and tokens count through all stages; a stage owns [first_step, end_step()).
  int stage = 1;
  int64_t first_step = 0, first_tokens = 0;

  // The tables of one stage; `name` stands for their source in messages.
  static Result<Recipe> read(const nlohmann::json& value, const std::string& name);

  int64_t total_steps() const;  // of this stage
  int64_t end_step() const { return first_step + total_steps(); }
  // Tokens trained when `step` steps of the run are done, within this stage.
  int64_t tokens_at(int64_t step) const {
    return first_tokens + (step - first_step) * train.batch_tokens;
  }
  int64_t rows_per_step() const { return train.batch_tokens / data.sequence_length; }
  int64_t num_micro_batches() const { return train.batch_tokens / train.micro_batch_tokens; }
  kernels::DType compute() const;
  formats::StoredType weights_type() const;  // of model.safetensors
  // Steps after which a checkpoint is written, ascending; the first and the last one and all
  // averaging steps included.
  std::vector<int64_t> checkpoint_steps() const;
  std::vector<int64_t> averaging_steps() const;  // ascending
  bool averages_at(int64_t step) const;          // the parameters after it are a mean
  // Steps between those after which a state is stored for replays.
  std::vector<int64_t> audit_steps() const;
  double learning_rate(int64_t step) const;  // for the update number `step` of the run, from 0
  double other_learning_rate(int64_t step) const;  // of embedding, head and vectors
  uint64_t loader_seed() const;
  bool trains(const std::string& tensor) const;  // train.trainable names it

  // The architecture with the tokenizer's real vocabulary size.
  Result<std::unique_ptr<model::Model>> make_model(int64_t vocab_size) const;
  // Every key with its resolved value, in the recipe's own form.
  nlohmann::json resolved() const;

 private:
  double scheduled(double peak, int64_t step) const;
  double decayed(double peak, double x) const;
  int64_t decay_steps() const;  // of wsd
};

// A run: its stages in order. [[stage]] repeats tables of the recipe, key by key on top of them; a
// source of a stage that has the name of one of the recipe inherits its keys, and sources that a
// stage does not name weigh nothing in it.
struct Curriculum {
  std::vector<Recipe> stages;

  const Recipe& first() const { return stages.front(); }
  int64_t total_steps() const { return stages.back().end_step(); }
  int64_t total_tokens() const { return stages.back().tokens_at(total_steps()); }
  // The stage that the update number `step` belongs to; past the end, the last one.
  const Recipe& stage_of(int64_t step) const;
  formats::Cursor cursor(int64_t step) const;  // state/cursor.json after `step` steps
  nlohmann::json resolved() const;
  // SHA-256 of the keys that decide bits: names, paths, prompts and autosaves stay outside.
  std::string digest() const;
  // Everything that decides the bits of the trained model: every stage with every default, the
  // architecture in full, and the data by their digest (data_digest()) instead of by names and
  // paths. Its canonical JSON is what a run commits to before its first step.
  Result<nlohmann::json> training(int64_t vocab_size, const std::string& data_digest) const;
  // When states are to be stored, stage by stage: what may change on the way.
  nlohmann::json plan() const;
  // The same under another plan. `name` as in parse_recipe().
  Result<Curriculum> with_plan(const nlohmann::json& plan, const std::string& name) const;
};

// `overrides` are "key=value" texts of --set, applied in order.
Result<Curriculum> load_recipe(const std::filesystem::path& path,
                               const std::vector<std::string>& overrides);
// `name` stands for the source in messages.
Result<Curriculum> parse_recipe(const nlohmann::json& value, const std::string& name);

// What the packed text is, whatever its files and sources are called and wherever they lie: SHA-256
// over canonical JSON of the manifest without names, paths and options.
Result<std::string> data_digest(const data::Manifest& manifest);

// The first few keys in which two resolved recipes differ, "key: a -> b" each.
std::vector<std::string> recipe_differences(const nlohmann::json& a, const nlohmann::json& b);

}  // namespace naite::train
