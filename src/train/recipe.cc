// SPDX-License-Identifier: Apache-2.0
#include "train/recipe.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace naite::train {

namespace {

using nlohmann::json;

constexpr int64_t kTokensMax = int64_t{1} << 50;
constexpr double kPi = 3.14159265358979323846;

Status read_run(Table table, Recipe& recipe) {
  recipe.name = table.string("name", "run");
  recipe.seed = table.integer("seed", 42, 0, INT64_MAX);
  recipe.arithmetic = table.choice("arithmetic", "chain-1", {"chain-1"});
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
                    int64_t{1} << 31);
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
          {"muon", {{"weight_decay", o.muon.weight_decay}, {"momentum", o.muon.momentum}}},
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

// "10%" as 0.1; `fallback` empty: the key must be there.
double read_percentage(Table& table, const char* key, std::optional<std::string> fallback) {
  const std::string text = table.string(key, std::move(fallback));
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
  recipe.averaging.every = read_percentage(table, "every", std::nullopt);
  if (recipe.schedule.kind != "wsd")
    table.adopt(fail("{} is for the decay of [schedule] kind = \"wsd\"", table.where()));
  return table.finish();
}

Status read_checkpoint(Table table, CheckpointOptions& c) {
  c.every = read_percentage(table, "every", "10%");
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

void flatten(const json& value, const std::string& path,
             std::vector<std::pair<std::string, std::string>>& out) {
  if (value.is_structured()) {
    for (const auto& [key, item] : value.items())
      flatten(item, path.empty() ? key : path + "." + key, out);
  } else {
    out.emplace_back(path, value.dump());
  }
}

}  // namespace

int64_t Recipe::total_steps() const {
  return (train.tokens + train.batch_tokens - 1) / train.batch_tokens;
}

kernels::DType Recipe::compute() const {
  return train.precision == "bf16" ? kernels::DType::kBf16 : kernels::DType::kF32;
}

std::vector<int64_t> Recipe::steps_every(double share) const {
  std::vector<int64_t> steps{0};
  const int64_t total = total_steps();
  // p% falls at ceil(p x steps); a hair is taken off so that 10% of 100 is 10 in floating point
  // too.
  for (int64_t i = 1; static_cast<double>(i) * share < 1.0 - 1e-9; ++i) {
    const double at = static_cast<double>(i) * share * static_cast<double>(total);
    const auto step = static_cast<int64_t>(std::ceil(at - 1e-6));
    if (step > steps.back() && step < total) steps.push_back(step);
  }
  steps.push_back(total);
  return steps;
}

std::vector<int64_t> Recipe::averaging_steps() const {
  if (averaging.last < 2) return {};
  std::vector<int64_t> steps = steps_every(averaging.every);
  const int64_t decay_begin = total_steps() - decay_steps();
  std::erase_if(steps, [&](int64_t step) { return step <= decay_begin; });
  return steps;
}

std::vector<int64_t> Recipe::checkpoint_steps() const {
  const std::vector<int64_t> regular = steps_every(checkpoint.every);
  const std::vector<int64_t> averaged = averaging_steps();
  std::vector<int64_t> steps;
  std::set_union(regular.begin(), regular.end(), averaged.begin(), averaged.end(),
                 std::back_inserter(steps));
  return steps;
}

int64_t Recipe::decay_steps() const {
  return static_cast<int64_t>(
      std::ceil(schedule.decay_ratio * static_cast<double>(total_steps()) - 1e-6));
}

double Recipe::learning_rate(int64_t step) const {
  return scheduled(optimizer.learning_rate, step);
}

double Recipe::other_learning_rate(int64_t step) const {
  return scheduled(optimizer.other_learning_rate, step);
}

double Recipe::scheduled(double peak, int64_t step) const {
  const double total = static_cast<double>(total_steps());
  const double warmup = std::ceil(schedule.warmup_ratio * total - 1e-6);
  const double done = static_cast<double>(step);
  const double low = schedule.min_learning_rate_ratio;
  if (done < warmup) return peak * (done + 1) / warmup;
  if (schedule.kind == "cosine") {
    const double x = (done + 1 - warmup) / (total - warmup);
    return peak * (low + (1 - low) * 0.5 * (1 + exact_cos(kPi * x)));
  }
  const auto decay = static_cast<double>(decay_steps());
  if (schedule.kind == "wsd" && done >= total - decay)
    return decayed(peak, (done + 1 - (total - decay)) / decay);
  return peak;
}

// The tail of wsd after the share x of it; at 1 every form has come down to the lowest rate.
double Recipe::decayed(double peak, double x) const {
  const double low = schedule.min_learning_rate_ratio;
  if (schedule.decay == "cosine") return peak * (low + (1 - low) * 0.5 * (1 + exact_cos(kPi * x)));
  if (schedule.decay == "inverse_square_root")
    return peak / std::sqrt(1 + (1 / (low * low) - 1) * x);
  return peak * (1 - (1 - low) * x);
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
  out["run"] = {{"name", name}, {"seed", seed}, {"arithmetic", arithmetic}};
  out["tokenizer"] = tokenizer.to_json();
  out["data"] = data.to_json();
  out["model"] = model;
  out["train"] = {{"tokens", train.tokens},
                  {"batch_tokens", train.batch_tokens},
                  {"micro_batch_tokens", train.micro_batch_tokens},
                  {"precision", train.precision},
                  {"max_grad_norm", train.max_grad_norm},
                  {"gradient_groups", train.gradient_groups},
                  {"validation_tokens", train.validation_tokens}};
  out["optimizer"] = optimizer_json(optimizer);
  out["schedule"] = {{"kind", schedule.kind},
                     {"warmup_ratio", schedule.warmup_ratio},
                     {"decay_ratio", schedule.decay_ratio},
                     {"min_learning_rate_ratio", schedule.min_learning_rate_ratio}};
  // Keys that came later are written only where they say something: older digests stay.
  if (schedule.decay != "linear") out["schedule"]["decay"] = schedule.decay;
  out["checkpoint"] = {{"every", percent_text(checkpoint.every)},
                       {"autosave_seconds", checkpoint.autosave_seconds}};
  out["sample"] = {{"prompts", sample.prompts},
                   {"max_tokens", sample.max_tokens},
                   {"temperature", sample.temperature},
                   {"top_p", sample.top_p}};
  if (averaging.last > 1)
    out["averaging"] = {{"last", averaging.last}, {"every", percent_text(averaging.every)}};
  if (growth_noise != Recipe().growth_noise) out["growth"] = {{"noise", growth_noise}};
  return out;
}

std::string Recipe::digest() const {
  json out = resolved();
  out["run"].erase("name");
  out.erase("sample");
  out.erase("checkpoint");
  out["train"].erase("validation_tokens");
  out["tokenizer"].erase("file");
  if (out["data"].contains("source"))
    for (json& source : out["data"]["source"]) source.erase("path");
  return sha256_hex(out.dump());
}

Result<Recipe> parse_recipe(const json& value, const std::string& name) {
  Recipe recipe;
  Table root(value, name + ":");
  static const std::vector<std::string> kTables = {"run",      "tokenizer",  "data",
                                                   "model",    "train",      "optimizer",
                                                   "schedule", "checkpoint", "sample",
                                                   "growth",   "averaging"};
  root.ignore(kTables);
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
  return recipe;
}

Result<Recipe> load_recipe(const std::filesystem::path& path,
                           const std::vector<std::string>& overrides) {
  NAITE_ASSIGN(const std::string text, read_file(path));
  NAITE_ASSIGN(json value, parse_toml(text, path.string()));
  for (const std::string& item : overrides) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos)
      return fail("--set {}: write key=value, for example --set train.tokens=1000000", item);
    NAITE_TRY(set_by_path(value, item.substr(0, equals), item.substr(equals + 1)));
  }
  NAITE_ASSIGN(Recipe recipe, parse_recipe(value, path.string()));
  recipe.directory = path.parent_path();
  return recipe;
}

std::vector<std::string> recipe_differences(const json& a, const json& b) {
  std::vector<std::pair<std::string, std::string>> left, right;
  flatten(a, "", left);
  flatten(b, "", right);
  std::vector<std::string> out;
  auto find = [](const auto& list, const std::string& key) -> const std::string* {
    for (const auto& [name, value] : list)
      if (name == key) return &value;
    return nullptr;
  };
  for (const auto& [key, value] : left) {
    const std::string* other = find(right, key);
    if (other == nullptr)
      out.push_back(fmt::format("{}: {} -> (absent)", key, value));
    else if (*other != value)
      out.push_back(fmt::format("{}: {} -> {}", key, value, *other));
  }
  for (const auto& [key, value] : right)
    if (find(left, key) == nullptr) out.push_back(fmt::format("{}: (absent) -> {}", key, value));
  return out;
}

}  // namespace naite::train
