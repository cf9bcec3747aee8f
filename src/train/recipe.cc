// SPDX-License-Identifier: Apache-2.0
#include "train/recipe.h"

#include <fnmatch.h>

#include <algorithm>

#include "base/names.h"
#include "train/objective.h"

namespace naite::train {

namespace {

using nlohmann::json;

constexpr int64_t kTokensMax = int64_t{1} << 50;

Status read_run(Table table, Recipe& recipe) {
  recipe.name = table.string("name", "run");
  if (!is_file_name(recipe.name))
    table.reject("name", "a name, not a path (that is what --run is for), of at most 128 bytes");
  const json* seed = table.raw("seed");
  const bool from_beacon = seed != nullptr && *seed == "beacon";
  if (!from_beacon) recipe.seed = table.integer("seed", 42, 0, INT64_MAX);
  recipe.beacon = table.string("beacon", "");
  if (from_beacon == recipe.beacon.empty())
    table.reject("beacon", from_beacon ? "the name of a future public value, as seed = \"beacon\""
                                       : "absent unless seed = \"beacon\"");
  const std::string arithmetic = table.choice("arithmetic", "chain-1", kernels::arithmetic_names());
  if (const auto* found = kernels::find_arithmetic(arithmetic)) recipe.arithmetic = found;
  return table.finish();
}

// The default number of gradient groups: the largest power of two up to 8 that divides the count.
int64_t default_groups(int64_t micro_batches) {
  int64_t groups = 8;
  while (micro_batches % groups != 0) groups /= 2;
  return groups;
}

Status read_train(Table table, Recipe& recipe) {
  TrainOptions& t = recipe.train;
  const int64_t row = recipe.data.sequence_length;
  t.tokens = table.integer("tokens", std::nullopt, 1, kTokensMax);
  t.batch_tokens = table.integer("batch_tokens", std::nullopt, 1, int64_t{1} << 40);
  if (t.batch_tokens % row != 0)
    table.reject("batch_tokens", fmt::format("a multiple of sequence_length = {}", row));
  t.micro_batch_tokens =
      table.integer("micro_batch_tokens",
                    std::min<int64_t>(t.batch_tokens, std::max<int64_t>(row, 4096 / row * row)), 1,
                    int64_t{1} << 24);
  if (t.micro_batch_tokens % row != 0)
    table.reject("micro_batch_tokens", fmt::format("a multiple of sequence_length = {}", row));
  if (t.micro_batch_tokens % 2 != 0) table.reject("micro_batch_tokens", "even");
  if (t.batch_tokens % t.micro_batch_tokens != 0)
    table.reject("micro_batch_tokens",
                 fmt::format("a divisor of batch_tokens = {}", t.batch_tokens));
  t.precision = table.choice("precision", "bf16", {"bf16", "fp32"});
  t.max_grad_norm = table.number("max_grad_norm", 1.0, 0, 1e9);
  const int64_t micro_batches = std::max<int64_t>(1, t.batch_tokens / t.micro_batch_tokens);
  t.gradient_groups = table.integer("gradient_groups", default_groups(micro_batches), 1, 1 << 20);
  const bool power_of_two = (t.gradient_groups & (t.gradient_groups - 1)) == 0;
  if (!power_of_two || micro_batches % t.gradient_groups != 0)
    table.reject("gradient_groups",
                 fmt::format("a power of two that divides the {} micro-batches", micro_batches));
  t.validation_tokens = table.integer("validation_tokens", 131072, 1, kTokensMax);
  t.trainable = table.has("trainable") ? table.strings("trainable") : std::vector<std::string>{"*"};
  if (t.trainable.empty()) table.reject("trainable", "names of tensors, such as [\"*.mlp.*\"]");
  t.max_loss_ratio = table.number("max_loss_ratio", 3.0, 0, 1e9);
  if (t.max_loss_ratio > 0 && t.max_loss_ratio <= 1)
    table.reject("max_loss_ratio", "above 1, or 0 for never");
  return table.finish();
}

void read_adamw(Table& table, OptimizerOptions& o) {
  o.weight_decay = table.number("weight_decay", 0.1, 0, 1e3);
  const std::vector<double> betas = table.numbers("betas", {0.9, 0.95});
  const bool valid =
      betas.size() == 2 && betas[0] >= 0 && betas[0] < 1 && betas[1] >= 0 && betas[1] < 1;
  if (!valid) table.reject("betas", "two numbers from 0 to below 1");
  if (valid) {
    o.beta1 = betas[0];
    o.beta2 = betas[1];
  }
  o.epsilon = table.number("epsilon", 1e-8, 1e-30, 1);
}

Status read_optimizer(Table table, OptimizerOptions& o) {
  o.name = table.choice("name", "adamw", {"adamw", "muon"});
  o.learning_rate = table.number("learning_rate", std::nullopt, 0, 1e3);
  o.other_learning_rate = o.learning_rate;
  if (o.name == "adamw") {
    read_adamw(table, o);
    return table.finish();
  }
  Table muon = table.table("muon"), adamw = table.table("adamw");
  o.muon.weight_decay = muon.number("weight_decay", 0.1, 0, 1e3);
  o.muon.momentum = muon.number("momentum", 0.95, 0, 1 - 1e-6);
  o.muon.qk_clip = muon.number("qk_clip", 0.0, 0, 1e6);
  o.other_learning_rate = adamw.number("learning_rate", o.learning_rate, 0, 1e3);
  read_adamw(adamw, o);
  table.adopt(muon.finish());
  table.adopt(adamw.finish());
  return table.finish();
}

json optimizer_json(const OptimizerOptions& o) {
  json adamw = {{"learning_rate", o.other_learning_rate},
                {"weight_decay", o.weight_decay},
                {"betas", {o.beta1, o.beta2}},
                {"epsilon", o.epsilon}};
  if (o.name == "adamw") {
    adamw["name"] = o.name;
    return adamw;
  }
  return {{"name", o.name},
          {"learning_rate", o.learning_rate},
          {"muon",
           {{"weight_decay", o.muon.weight_decay},
            {"momentum", o.muon.momentum},
            {"qk_clip", o.muon.qk_clip}}},
          {"adamw", adamw}};
}

Status read_schedule(Table table, ScheduleOptions& s) {
  s.kind = table.choice("kind", "wsd", {"wsd", "cosine", "constant"});
  s.warmup_ratio = table.number("warmup_ratio", 0.02, 0, 1);
  s.decay_ratio = table.number("decay_ratio", 0.2, 0, 1);
  s.min_learning_rate_ratio = table.number("min_learning_rate_ratio", 0.1, 0, 1);
  if (s.kind == "wsd")
    s.decay = table.choice("decay", "linear", {"linear", "cosine", "inverse_square_root"});
  if (s.decay == "inverse_square_root" && s.min_learning_rate_ratio == 0)
    table.reject("min_learning_rate_ratio", "above 0: an inverse square root never reaches it");
  if (s.kind == "wsd" && s.warmup_ratio + s.decay_ratio > 1)
    table.reject("decay_ratio", "at most 1 - warmup_ratio");
  return table.finish();
}

// "10%" as 0.1; a default after telling the table what is wrong.
double read_percentage(Table& table, std::string_view key, const std::string& text) {
  double percent = 0;
  size_t used = 0;
  try {
    percent = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const bool valid = used > 0 && text.substr(used) == "%" && percent > 0 && percent <= 100;
  if (!valid) table.reject(key, "a percentage such as \"10%\"");
  return valid ? percent / 100 : 1;
}

Status read_averaging(Table table, Recipe& recipe) {
  recipe.averaging.last = table.integer("last", std::nullopt, 2, 1000);
  recipe.averaging.every = read_percentage(table, "every", table.string("every"));
  if (recipe.schedule.kind != "wsd")
    table.adopt(fail("{} is for the decay of [schedule] kind = \"wsd\"", table.where()));
  return table.finish();
}

Status read_checkpoint(Table table, CheckpointOptions& c) {
  c.every = read_percentage(table, "every", table.string("every", "10%"));
  const std::string audit = table.string("audit_every", "");
  if (!audit.empty()) c.audit_every = read_percentage(table, "audit_every", audit);
  c.autosave_seconds = table.number("autosave_seconds", 60, 0, 1e9);
  return table.finish();
}

Status read_sample(Table table, SampleOptions& s) {
  s.prompts = table.strings("prompts");
  s.max_tokens = table.integer("max_tokens", 64, 1, 1 << 20);
  s.temperature = table.number("temperature", 0.8, 0, 100);
  s.top_p = table.number("top_p", 0.95, 1e-6, 1);
  return table.finish();
}

Status read_growth(Table table, Recipe& recipe) {
  recipe.growth_noise = table.number("noise", recipe.growth_noise, 0, 1);
  return table.finish();
}

std::string percent_text(double share) {
  std::string text = fmt::format("{:.6f}", share * 100);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + "%";
}

}  // namespace

int64_t Recipe::total_steps() const {
  return (train.tokens + train.batch_tokens - 1) / train.batch_tokens;
}

kernels::DType Recipe::compute() const {
  return train.precision == "bf16" ? kernels::DType::kBf16 : kernels::DType::kF32;
}

formats::StoredType Recipe::weights_type() const {
  return train.precision == "bf16" ? formats::StoredType::kBf16 : formats::StoredType::kF32;
}

// Every stage walks its sources in an order of its own; the first one's key is the run's seed.
uint64_t Recipe::loader_seed() const {
  constexpr uint64_t kGoldenRatio = 0x9e3779b97f4a7c15;
  return static_cast<uint64_t>(seed) + static_cast<uint64_t>(stage - 1) * kGoldenRatio;
}

bool Recipe::trains(const std::string& tensor) const {
  return std::any_of(train.trainable.begin(), train.trainable.end(), [&](const std::string& glob) {
    return fnmatch(glob.c_str(), tensor.c_str(), 0) == 0;
  });
}

Result<std::unique_ptr<model::Model>> Recipe::make_model(int64_t vocab_size) const {
  json config = model;
  config["vocab_size"] = vocab_size;
  if (!config.contains("max_position_embeddings"))
    config["max_position_embeddings"] = data.sequence_length;
  return model::make_model(config, name + ": [model]", true);
}

json Recipe::resolved() const {
  json out;
  out["run"] = {{"name", name}, {"seed", seed}, {"arithmetic", arithmetic->name}};
  if (!beacon.empty()) {
    out["run"]["seed"] = "beacon";
    out["run"]["beacon"] = beacon;
  }
  out["tokenizer"] = tokenizer.to_json();
  out["data"] = data.to_json();
  out["model"] = model;
  out["train"] = {{"tokens", train.tokens},
                  {"batch_tokens", train.batch_tokens},
                  {"micro_batch_tokens", train.micro_batch_tokens},
                  {"precision", train.precision},
                  {"max_grad_norm", train.max_grad_norm},
                  {"gradient_groups", train.gradient_groups},
                  {"validation_tokens", train.validation_tokens},
                  {"trainable", train.trainable},
                  {"max_loss_ratio", train.max_loss_ratio}};
  out["optimizer"] = optimizer_json(optimizer);
  out["schedule"] = {{"kind", schedule.kind},
                     {"warmup_ratio", schedule.warmup_ratio},
                     {"decay_ratio", schedule.decay_ratio},
                     {"min_learning_rate_ratio", schedule.min_learning_rate_ratio}};
  // Keys that came later are written only where they say something: older digests stay.
  if (schedule.decay != "linear") out["schedule"]["decay"] = schedule.decay;
  out["checkpoint"] = {{"every", percent_text(checkpoint.every)},
                       {"autosave_seconds", checkpoint.autosave_seconds}};
  if (checkpoint.audit_every > 0)
    out["checkpoint"]["audit_every"] = percent_text(checkpoint.audit_every);
  out["sample"] = {{"prompts", sample.prompts},
                   {"max_tokens", sample.max_tokens},
                   {"temperature", sample.temperature},
                   {"top_p", sample.top_p}};
  if (averaging.last > 1)
    out["averaging"] = {{"last", averaging.last}, {"every", percent_text(averaging.every)}};
  if (growth_noise != Recipe().growth_noise) out["growth"] = {{"noise", growth_noise}};
  if (objective != Recipe().objective) out["objective"] = objective;
  return out;
}

Result<Recipe> Recipe::read(const json& value, const std::string& name) {
  Recipe recipe;
  Table root(value, name + ":");
  static const std::vector<std::string> kTables = {"run",    "tokenizer", "data",     "model",
                                                   "train",  "optimizer", "schedule", "checkpoint",
                                                   "sample", "growth",    "averaging"};
  root.ignore(kTables);
  recipe.objective = root.choice("objective", recipe.objective, objective_names());
  NAITE_TRY(root.finish());
  for (const std::string& key : kTables)
    if (value.contains(key) && !value[key].is_object())
      return fail("{}: [{}] must be a table", name, key);
  static const json kEmpty = json::object();
  auto part = [&](const char* key) -> const json& {
    return value.contains(key) ? value[key] : kEmpty;
  };
  auto table = [&](const char* key) {
    return Table(part(key), fmt::format("{}: [{}]", name, key));
  };
  NAITE_TRY(read_run(table("run"), recipe));
  Table tokenizer = table("tokenizer");
  NAITE_ASSIGN(recipe.tokenizer, data::TokenizerOptions::from_table(tokenizer));
  Table data = table("data");
  NAITE_ASSIGN(recipe.data, data::DataOptions::from_table(data));
  NAITE_TRY(read_train(table("train"), recipe));
  NAITE_TRY(read_optimizer(table("optimizer"), recipe.optimizer));
  NAITE_TRY(read_schedule(table("schedule"), recipe.schedule));
  if (value.contains("averaging")) NAITE_TRY(read_averaging(table("averaging"), recipe));
  NAITE_TRY(read_checkpoint(table("checkpoint"), recipe.checkpoint));
  NAITE_TRY(read_sample(table("sample"), recipe.sample));
  NAITE_TRY(read_growth(table("growth"), recipe));
  if (!value.contains("model")) return fail("{} needs the table [model]", name);
  recipe.model = value["model"];
  if (recipe.model.contains("vocab_size"))
    return fail("{}: [model] `vocab_size` comes from [tokenizer]; remove it", name);
  // Checks the model's keys now, with a stand-in for the vocabulary that is not known yet.
  json probe = recipe.model;
  probe["vocab_size"] = std::max<int64_t>(2, recipe.tokenizer.vocab_size);
  NAITE_ASSIGN(const std::unique_ptr<model::Model> model,
               model::make_model(probe, name + ": [model]", true));
  if (recipe.model.contains("max_position_embeddings") &&
      model->max_position_embeddings() < recipe.data.sequence_length)
    return fail("{}: [model] `max_position_embeddings` = {} is below sequence_length = {}", name,
                model->max_position_embeddings(), recipe.data.sequence_length);
  if (recipe.optimizer.muon.qk_clip > 0 && model->scored_heads().empty())
    return fail(
        "{}: [optimizer.muon] `qk_clip` needs queries and keys that are projections alone; a {} "
        "has biases or norms in them",
        name, recipe.model["model_type"].get<std::string>());
  for (const tape::ParameterSpec& spec : model->parameters())
    for (int64_t i = 1; i < spec.count; ++i)
      if (recipe.trains(spec.tensor(i).name) != recipe.trains(spec.tensor(0).name))
        return fail("{}: [train] `trainable` must name all of {} or none", name, spec.name);
  return recipe;
}

}  // namespace naite::train
