// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <fstream>

#include "formats/safetensors.h"
#include "train/commitment.h"
#include "verify/forger_testing.h"
#include "verify/rebuild.h"

namespace naite::verify {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

std::string content(const fs::path& path) { return *read_file(path); }

// Without the care for crashes of write_file(): tests write much.
void put(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

json parsed(const fs::path& path) { return json::parse(content(path)); }

}  // namespace

Forger::Forger(fs::path directory, fs::path keys)
    : run_(std::move(directory)), keys_(std::move(keys)) {
  const ledger::LogContent log = *ledger::read_log(run_.ledger());
  for (const std::string& entry : log.entries) entries_.push_back(json::parse(entry));
}

json& Forger::entry(const std::string& type, size_t number) {
  for (json& entry : entries_)
    if (entry["type"] == type && number-- == 0) return entry;
  NAITE_CHECK(false, "no entry of type {}", type);
}

fs::path Forger::state(int64_t step) const {
  for (const json& entry : entries_)
    if (entry.contains("directory") && entry["step"] == step)
      return path() / entry["directory"].get<std::string>();
  NAITE_CHECK(false, "no state after step {}", step);
}

void Forger::edit(const std::string& name, const std::function<void(std::string&)>& change) const {
  std::string text = content(file(name));
  change(text);
  put(file(name), text);
}

void Forger::edit_json(const std::string& name, const std::function<void(json&)>& change) const {
  json value = parsed(file(name));
  change(value);
  put(file(name), value.dump(2) + "\n");
}

void Forger::flip(const std::string& name, double where) const {
  edit(name, [&](std::string& text) {
    const auto at = static_cast<size_t>(where * static_cast<double>(text.size() - 1));
    text[at] = static_cast<char>(text[at] ^ 1);
  });
}

void Forger::flip_tensor(const fs::path& path, const std::string& tensor) const {
  std::string text = content(path);
  const formats::SafetensorsHeader header = *formats::parse_safetensors(text, path.string());
  for (const formats::StoredTensor& found : header.tensors)
    if (found.name == tensor) {
      const auto at =
          static_cast<size_t>(found.bytes.data() - text.data()) + found.bytes.size() / 2;
      text[at] = static_cast<char>(text[at] ^ 4);
      put(path, text);
      return;
    }
  NAITE_CHECK(false, "no tensor {}", tensor);
}

train::Curriculum Forger::curriculum() const { return *train::load_recipe(run_.recipe(), {}); }

ledger::Signer Forger::signer() const {
  std::string vkey = content(run_.ledger() / "vkey");
  vkey.pop_back();
  return *ledger::load_keys(keys_)->log.renamed(ledger::Verifier::parse(vkey)->name);
}

// What follows from log and tensors is written as an honest trainer would; configs and tokenizer
// stay as somebody made them.
void Forger::remake(json& entry, const fs::path& directory) {
  std::vector<std::string> entries;
  for (const json& one : entries_) {  // what comes later may not fit yet
    entries.push_back(*ledger::canonical_json(one));
    if (&one == &entry) break;
  }
  const Result<record::RunHistory> history = record::RunHistory::parse(entries);
  if (!history) return;
  const record::StoredState* state = nullptr;
  for (const record::StoredState& one : history->stored)
    if (one.directory == entry["directory"]) state = &one;
  Result<RunContents> contents = RunContents::open(*history, run_);
  if (!contents) return;
  const Result<ExpectedStates> expected =
      contents->expected(*history, *state, *formats::Record::read(directory));
  if (!expected) return;
  const ExpectedState& one = expected->front();
  std::map<std::string, std::string> tensor_files;
  for (const auto& [name, layout] : one.layout.tensors)
    tensor_files[name] = *sha256_file(directory / name);
  const std::map<std::string, std::string> texts = one.texts(tensor_files);
  for (const char* name : {"README.md", "record.json", "provenance.json", "bom.cdx.json"})
    if (const auto text = texts.find(name); text != texts.end())
      put(directory / name, text->second);
}

void Forger::seal_states(bool as_they_are) {
  const ledger::Keys keys = *ledger::load_keys(keys_);
  for (json& entry : entries_) {
    if (!entry.contains("directory")) continue;
    const fs::path directory = path() / entry["directory"].get<std::string>();
    if (!fs::exists(directory)) continue;
    ThreadPool alone(1);
    if (const auto digests = formats::directory_digests(directory, alone); digests.ok()) {
      entry["weights"] = digests->weights;
      entry["state"] = digests->state;
    }
    if (!as_they_are) remake(entry, directory);
    json record = parsed(directory / "record.json");
    record["weights_digest"] = entry["weights"];
    record["state_digest"] = entry["state"];
    record["files"] = json::object();
    const std::vector<std::string> names = *ledger::ModelManifest::names_in(directory);
    for (const std::string& name : names)
      if (name != "record.json" && name != "provenance.json")
        record["files"][name] = *sha256_file(directory / name);
    put(directory / "record.json", record.dump(2) + "\n");
    const ledger::ModelManifest manifest = *ledger::ModelManifest::of_directory(directory);
    entry["manifest"] = ledger::to_hex(manifest.digest());
    if (entry["type"] == "checkpoint")
      put(directory / ledger::kModelSignatureFile,
          *ledger::sign_model(manifest, directory.filename().string(), keys.model));
  }
  for (json& entry : entries_)
    if (entry["type"] == "end")
      for (const json& other : entries_)
        if (other.contains("directory") && other["step"] == entry["step"])
          entry["state"] = other["state"];
}

void Forger::seal_claims() {
  json manifest = parsed(path() / "data/manifest.json");
  manifest["tokenizer_sha256"] = *sha256_file(path() / "tokenizer.json");
  for (json& source : manifest["sources"])
    for (const char* split : {"train", "validation"})
      for (json& shard : source[split]["shards"]) {
        const std::string name = shard["file"];
        shard["sha256"] = *sha256_file(path() / "data" / name);
        const std::string starts = name.substr(0, name.rfind('.')) + ".starts";
        shard["starts_sha256"] = *sha256_file(path() / "data" / starts);
      }
  put(path() / "data/manifest.json", manifest.dump(2) + "\n");
  const train::Curriculum recipe = curriculum();
  const record::Commitment found =
      *train::commitment_of(recipe, *data::Manifest::load(path()), entries_[0]["branch"], path());
  const json claims = found.to_json();
  for (const char* key : {"training", "training_digest", "arithmetic", "architecture", "parameters",
                          "steps", "tokens", "tokenizer_sha256", "tokenizer_config_sha256",
                          "data_digest", "manifest_sha256", "recipe_sha256", "plan"})
    entries_[0][key] = claims[key];
  for (const json& entry : entries_) {
    if (!entry.contains("directory")) continue;
    const fs::path directory = path() / entry["directory"].get<std::string>();
    if (!fs::exists(directory)) continue;
    put(directory / "state/cursor.json", recipe.cursor(entry["step"]).to_json().dump(2) + "\n");
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      put(directory / name, content(path() / name));
  }
}

void Forger::sign() {
  fs::remove_all(run_.ledger() / "tile");
  fs::remove(run_.ledger() / "checkpoint");
  fs::remove_all(run_.ledger() / "publisher");
  std::vector<std::string> entries;
  for (const json& entry : entries_) entries.push_back(*ledger::canonical_json(entry));
  ledger::LogWriter log = *ledger::LogWriter::open(run_.ledger(), signer());
  ASSERT_TRUE(log.append(entries).ok());
  const std::string listed = *ledger::canonical_json({{"type", "run"},
                                                      {"origin", signer().name()},
                                                      {"commitment", sha256_hex(entries[0])},
                                                      {"time", entries_[0]["time"]}});
  ledger::LogWriter runs =
      *ledger::LogWriter::open(run_.ledger() / "publisher", ledger::load_keys(keys_)->log);
  ASSERT_TRUE(runs.append({listed}).ok());
}

void Forger::sign_head(const ledger::Head& head) const {
  put(run_.ledger() / "checkpoint", head.text() + "\n" + signer().signature_line(head.text()));
}

train::StepResult honest_step(train::Engine& engine, const data::Loader& loader, int64_t step) {
  const train::StepResult result = *engine.gradient(loader, step);
  NAITE_CHECK(engine.update(step, result.grad_norm).ok());
  return result;
}

void Forger::train_on(int64_t from, const std::function<void(formats::TrainingState&)>& change,
                      const Step& step) {
  const train::Curriculum recipe = curriculum();
  const train::Recipe& stage = recipe.first();
  ThreadPool pool(1);
  const std::unique_ptr<kernels::Kernels> kernels = *kernels::make_cpu(pool, "");
  const data::Tokenizer tokenizer = *data::Tokenizer::load(path());
  const std::unique_ptr<model::Model> model = *stage.make_model(tokenizer.vocab_size());
  const data::Manifest manifest = *data::Manifest::load(path());
  const data::Loader loader = *data::Loader::open(
      {path(), stage.data, stage.loader_seed(), stage.rows_per_step(), stage.total_steps()});
  train::Engine engine(*model, *kernels, stage, {});
  formats::TrainingState state;
  engine.shapes(state);
  ASSERT_TRUE(formats::read_tensors(this->state(from), state).ok());
  change(state);
  NAITE_CHECK(engine.load(state).ok());
  std::vector<record::StepDigest> digests;
  auto store = [&](int64_t at) {
    for (json& entry : entries_) {
      if (!entry.contains("directory") || entry["step"] != at) continue;
      const fs::path directory = path() / entry["directory"].get<std::string>();
      NAITE_CHECK(engine.save(state).ok());
      state.cursor = recipe.cursor(at);
      train::StateFacts facts{at, stage.name, {}, {}, {}};
      if (at > from)
        entry["metrics"]["loss"] = *(facts.loss = std::bit_cast<double>(digests.back().loss));
      else if (!entry["metrics"]["loss"].is_null())
        facts.loss = entry["metrics"]["loss"].get<double>();
      if (entry["type"] == "checkpoint") {
        facts.validation.emplace();
        for (int source = 0; source < loader.num_sources(); ++source) {
          const train::Engine::Validation v = *engine.validate(loader, source);
          (*facts.validation)[loader.source_name(source)] = {v.loss, v.bits_per_byte};
        }
      }
      entry["metrics"]["validation"] =
          facts.validation ? formats::to_json(*facts.validation) : json();
      formats::CheckpointContent made =
          *train::content_of({recipe, stage, *model, loader, manifest, tokenizer, path()}, facts);
      made.state = &state;
      if (entry["type"] == "checkpoint")
        made.bill_of_materials = content(directory / "bom.cdx.json");
      const std::string provenance =
          entry["type"] == "checkpoint" ? content(directory / "provenance.json") : std::string();
      fs::remove_all(directory);
      ASSERT_TRUE(formats::write_checkpoint(directory, made).ok());
      if (!provenance.empty()) put(directory / "provenance.json", provenance);
    }
  };
  store(from);
  for (int64_t at = from; at < recipe.total_steps(); ++at) {
    digests.push_back(train::digest_of(step(engine, loader, at)));
    store(at + 1);
  }
  int64_t number = 0;
  for (json& entry : entries_)
    if (entry["type"] == "steps")
      for (json& item : entry["steps"])
        if (++number > from) {
          const std::vector<record::StepDigest> one{
              digests[static_cast<size_t>(number - from - 1)]};
          item = json::parse(record::step_entries(number, one)->front())["steps"][0];
        }
}

}  // namespace naite::verify
