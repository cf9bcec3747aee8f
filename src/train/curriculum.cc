// SPDX-License-Identifier: Apache-2.0
// The stages of a run: how [[stage]] tables lie on top of the recipe's, and what decides bits.
#include <algorithm>

#include "base/json_text.h"
#include "ledger/canonical_json.h"
#include "train/objective.h"
#include "train/recipe.h"

namespace naite::train {

using nlohmann::json;

const Recipe& Curriculum::stage_of(int64_t step) const {
  for (const Recipe& stage : stages)
    if (step < stage.end_step()) return stage;
  return stages.back();
}

formats::Cursor Curriculum::cursor(int64_t step) const {
  return {step, stage_of(step).tokens_at(step), first().seed, std::string(first().arithmetic->name),
          digest()};
}

json Curriculum::resolved() const {
  if (stages.size() == 1) return stages[0].resolved();
  json out = json::object();
  for (const Recipe& stage : stages) {
    json tables = stage.resolved();
    for (const char* whole : {"run", "tokenizer", "sample", "growth"}) {
      if (!tables.contains(whole)) continue;
      out[whole] = tables[whole];
      tables.erase(whole);
    }
    out["stage"].push_back(std::move(tables));
  }
  return out;
}

namespace {

// Keys that change no bit of the weights.
void keep_what_decides_bits(json& tables) {
  tables.erase("checkpoint");
  for (const char* key : {"validation_tokens", "max_loss_ratio"}) tables["train"].erase(key);
  for (json& source : tables["data"]["source"]) source.erase("path");
}

}  // namespace

std::string Curriculum::digest() const {
  json out = resolved();
  out["run"].erase("name");
  out.erase("sample");
  out["tokenizer"].erase("file");
  if (out.contains("stage"))
    for (json& stage : out["stage"]) keep_what_decides_bits(stage);
  else
    keep_what_decides_bits(out);
  return sha256_hex(out.dump());
}

Result<json> Curriculum::training(int64_t vocab_size, const std::string& data_digest) const {
  json out = {
      {"run", first().resolved()["run"]}, {"data_digest", data_digest}, {"stages", json::array()}};
  out["run"].erase("name");
  if (first().beacon.empty()) out["run"]["seed"] = fmt::format("{}", first().seed);  // any int64
  for (const Recipe& stage : stages) {
    json tables = stage.resolved();
    for (const char* outside : {"run", "sample", "tokenizer"}) tables.erase(outside);
    keep_what_decides_bits(tables);
    NAITE_ASSIGN(const std::unique_ptr<model::Model> model, stage.make_model(vocab_size));
    tables["model"] = model->config();
    // Languages default to names; what packing sees of them is which sources share one.
    std::vector<std::string> languages;
    for (json& source : tables["data"]["source"]) {
      const auto language = source["language"].get<std::string>();
      auto known = std::find(languages.begin(), languages.end(), language);
      if (known == languages.end()) known = languages.insert(known, language);
      source = {{"weight", source["weight"]}, {"language", known - languages.begin()}};
    }
    out["stages"].push_back(std::move(tables));
  }
  return out;
}

json Curriculum::plan() const {
  json out = json::array();
  for (const Recipe& stage : stages) {
    json checkpoint = stage.resolved()["checkpoint"];
    checkpoint.erase("autosave_seconds");
    out.push_back(std::move(checkpoint));
  }
  return out;
}

Result<std::string> data_digest(const data::Manifest& manifest) {
  json value = manifest.to_json();
  value.erase("options");
  for (json& source : value["sources"]) {
    source.erase("name");
    source.erase("language");  // of the recipe: Curriculum::training()
    for (json& file : source["files"]) file.erase("path");
    for (const char* split : {"train", "validation"})
      for (json& shard : source[split]["shards"]) shard.erase("file");
  }
  NAITE_ASSIGN(const std::string text, ledger::canonical_json(value));
  return sha256_hex(text);
}

namespace {

void flatten(const json& value, const std::string& path,
             std::vector<std::pair<std::string, std::string>>& out) {
  if (value.is_structured()) {
    for (const auto& [key, item] : value.items())
      flatten(item, path.empty() ? key : path + "." + key, out);
  } else {
    out.emplace_back(path, value.dump());
  }
}

json* source_named(json& sources, const json& name) {
  for (json& source : sources)
    if (source.is_object() && source.value("name", json()) == name) return &source;
  return nullptr;
}

// All sources of all stages, each with the keys of its first mention: prepared once, for every
// stage in the same order.
json all_sources(const json& base, const json& stages) {
  json all = json::array();
  const auto add = [&](const json& tables) {
    if (!tables.contains("data") || !tables["data"].is_object()) return;
    for (const json& source : tables["data"].value("source", json::array()))
      if (source.is_object() && source_named(all, source.value("name", json())) == nullptr)
        all.push_back(source);
  };
  add(base);
  for (const json& stage : stages) add(stage);
  return all;
}

// The tables of one stage: the recipe's, with the stage's keys on top.
Result<json> merge_stage(const json& base, const json& stage, const json& sources,
                         const std::string& where) {
  if (!stage.is_object()) return fail("{} must be a table", where);
  static const std::vector<std::string> kTables = {
      "data", "model", "train", "optimizer", "schedule", "checkpoint", "averaging"};
  Table table(stage, where);
  table.ignore(kTables);
  const std::string objective = table.choice("objective", "pretrain", objective_names());
  NAITE_TRY(table.finish());
  json merged = base;
  for (const std::string& key : kTables)
    for (const json* tables : {&base, &stage})
      if (tables->contains(key) && !(*tables)[key].is_object())
        return fail("{} [{}] must be a table", where, key);
  const bool names_sources = stage.contains("data") && stage["data"].contains("source");
  for (const auto& [key, tables] : stage.items()) {
    if (key == "objective") continue;
    for (const auto& [name, value] : tables.items()) merged[key][name] = value;
  }
  if (stage.contains("objective")) merged["objective"] = objective;
  merged["data"]["source"] = sources;
  if (!names_sources) return merged;
  for (json& source : merged["data"]["source"]) source["weight"] = 0.0;
  for (const json& named : stage["data"]["source"]) {
    json* const source = named.is_object()
                             ? source_named(merged["data"]["source"], named.value("name", json()))
                             : nullptr;
    if (source == nullptr) return fail("{} [[stage.data.source]] needs the key `name`", where);
    source->erase("weight");
    source->update(named);
  }
  return merged;
}

// What all stages share: text is prepared once, and the weights pass from stage to stage.
Status check_stages(const std::vector<Recipe>& stages, const std::string& name) {
  const auto shared = [](const Recipe& r) {
    json data = r.data.to_json();
    for (const char* own : {"sequence_length", "attention", "packing", "language_switch"})
      data.erase(own);
    for (json& source : data["source"]) source.erase("weight");
    return data;
  };
  for (const Recipe& stage : stages)
    if (stage.optimizer.name != stages[0].optimizer.name)
      return fail("{}: stage {} [optimizer] `name` must be that of the first, {}, is {}", name,
                  stage.stage, stages[0].optimizer.name, stage.optimizer.name);
  for (const Recipe& stage : stages)
    if (const json first = shared(stages[0]), own = shared(stage); first != own)
      return fail("{}: stage {} prepares its text otherwise ({}); that is for [data] alone", name,
                  stage.stage, recipe_differences(first, own)[0]);
  return {};
}

// Steps are walked one by one, by training and by whoever verifies.
Status check_length(const Curriculum& curriculum, const std::string& name) {
  constexpr int64_t kStepsMax = 10'000'000;
  if (curriculum.total_steps() <= kStepsMax) return {};
  return fail("{}: {} steps are more than the {} of this program: take larger batches", name,
              curriculum.total_steps(), kStepsMax);
}

}  // namespace

Result<Curriculum> parse_recipe(const json& value, const std::string& name) {
  Curriculum out;
  if (!value.is_object() || !value.contains("stage")) {
    NAITE_ASSIGN(Recipe recipe, Recipe::read(value, name));
    out.stages.push_back(std::move(recipe));
    NAITE_TRY(check_length(out, name));
    return out;
  }
  const json& stages = value["stage"];
  if (!stages.is_array() || stages.empty())
    return fail("{}: write each stage as a [[stage]] table", name);
  json base = value;
  base.erase("stage");
  const json sources = all_sources(base, stages);
  for (const json& stage : stages) {
    const auto number = static_cast<int>(out.stages.size()) + 1;
    const std::string where = fmt::format("{}: stage {}", name, number);
    NAITE_ASSIGN(const json tables, merge_stage(base, stage, sources, where));
    NAITE_ASSIGN(Recipe recipe, Recipe::read(tables, where));
    recipe.stage = number;
    if (!out.stages.empty()) {
      recipe.first_step = out.total_steps();
      recipe.first_tokens = out.total_tokens();
    }
    out.stages.push_back(std::move(recipe));
  }
  NAITE_TRY(check_length(out, name));
  NAITE_TRY(check_stages(out.stages, name));
  return out;
}

Result<Curriculum> Curriculum::with_plan(const json& plan, const std::string& name) const {
  if (!plan.is_array() || plan.size() != stages.size())
    return fail("the log's plan has not one entry for each stage");
  json tables = resolved();
  json& list = tables.contains("stage") ? tables["stage"] : tables;
  for (size_t i = 0; i < plan.size(); ++i)
    (list.is_array() ? list[i] : list)["checkpoint"] = plan[i];
  return parse_recipe(tables, name);
}

Result<Curriculum> load_recipe(const std::filesystem::path& path,
                               const std::vector<std::string>& overrides) {
  NAITE_ASSIGN(const std::string text, read_file(path, kToml.bytes));
  NAITE_ASSIGN(json value, parse_toml(text, path.string()));
  for (const std::string& item : overrides) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos)
      return fail("--set {}: write key=value, for example --set train.tokens=1000000", item);
    NAITE_TRY(set_by_path(value, item.substr(0, equals), item.substr(equals + 1)));
  }
  NAITE_ASSIGN(Curriculum curriculum, parse_recipe(value, path.string()));
  for (Recipe& stage : curriculum.stages) stage.directory = path.parent_path();
  return curriculum;
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
