// SPDX-License-Identifier: Apache-2.0
#include "verify/forged_run_testing.h"

#include <gtest/gtest.h>

#include <fstream>

#include "data/manifest.h"
#include "formats/safetensors.h"
#include "ledger/merkle.h"
#include "ledger/tiles.h"
#include "train/commitment.h"

namespace naite::verify {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

json parsed(const std::string& text) { return json::parse(text, nullptr, false); }

std::string text_at(const json& value, const char* key) {
  return value.is_object() && value.contains(key) && value[key].is_string()
             ? value[key].get<std::string>()
             : std::string();
}

// What nothing commits to and nobody publishes: for people to look at, or of the process alone.
bool is_for_people(const std::string& path) {
  return path == "log.jsonl" || path == "samples.jsonl" || path == ".lock" || path == ".run-key" ||
         path == ".mirror" || path.starts_with("events.out.tfevents.") ||
         path.starts_with(".fetching");
}

// Begun by a process that was killed, outside the states.
bool is_left_over(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return path.starts_with(".tmp-") || path.starts_with("checkpoints/.tmp-") ||
         path.starts_with("audit/.tmp-") || path.starts_with("autosave/.tmp-") ||
         (parent == "data" && path.starts_with("data/.tmp-"));
}

// Replaces texts in place, so that whatever else was done to the spelling stays.
void replace_all(std::string& text, const Pairs& changes) {
  for (const auto& [from, to] : changes)
    for (size_t at = from.empty() || from == to ? std::string::npos : text.find(from);
         at != std::string::npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
}

std::vector<Digest> leaves_of(const std::vector<std::string>& entries) {
  std::vector<Digest> out;
  for (const std::string& entry : entries) out.push_back(ledger::leaf_hash(entry));
  return out;
}

// The lines that weights and states are digested over; none if a file of tensors is unreadable.
using Lines = std::map<std::string, std::string>;
bool add_lines(const std::string& text, Lines& lines, const json& places, const std::string& file) {
  const Result<formats::SafetensorsHeader> header = formats::parse_safetensors(text, "");
  if (!header.ok()) return false;
  for (const formats::StoredTensor& tensor : header->tensors) {
    const std::string place = text_at(places, tensor.name.c_str());
    if (!place.empty() && place != file) continue;
    lines[tensor.name] =
        fmt::format("{} {} {} {}\n", tensor.name, formats::stored_type_info(tensor.type).name,
                    formats::shape_text(tensor.shape), sha256_hex(tensor.bytes));
  }
  return true;
}

struct StateDigests {
  std::string weights, state;  // empty: unknown
};

StateDigests digests_of(const ForgedRun& run, const std::string& directory) {
  Lines weights, optimizer;
  json places;
  if (const auto index = run.files.find(directory + "/model.safetensors.index.json");
      index != run.files.end())
    if (const json value = parsed(index->second); value.is_object() && value.contains("weight_map"))
      places = value["weight_map"];
  for (const std::string& name : run.names_below(directory + "/"))
    if (name.ends_with(".safetensors") && name.starts_with("model") &&
        !add_lines(run.files.at(directory + "/" + name), weights, places, name))
      return {};
  const auto moments = run.files.find(directory + "/state/optimizer.safetensors");
  const auto cursor = run.files.find(directory + "/state/cursor.json");
  if (moments == run.files.end() || cursor == run.files.end() ||
      !add_lines(moments->second, optimizer, {}, "") || parsed(cursor->second).is_discarded())
    return {};
  std::string text;
  for (const auto& [name, line] : weights) text += line;
  StateDigests out{sha256_hex(text), ""};
  for (const auto& [name, line] : optimizer) text += line;
  out.state = sha256_hex(text + parsed(cursor->second).dump());
  return out;
}

void put(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

void set(json& object, const char* key, const std::string& value) {
  if (object.contains(key)) object[key] = value;
}

}  // namespace

std::map<std::string, std::string> ForgedLog::files(const ledger::Signer& signer) const {
  const std::vector<Digest> leaves = leaves_of(entries);
  std::map<std::string, std::string> out;
  const auto size = static_cast<int64_t>(entries.size());
  for (const ledger::TileName& tile : ledger::tiles_of(size)) {
    std::string& text = out[ledger::tile_path(tile.level, tile.number, tile.width)];
    if (tile.level == ledger::kEntriesLevel)
      text = ledger::entry_bundle(
          std::span(entries).subspan(tile.number * ledger::kTileWidth, tile.width));
    else
      text = ledger::tile_bytes(leaves, tile);
  }
  const std::string text =
      ledger::Head{signer.name(), size, ledger::tree_root(leaves)}.text() + extension;
  out[ledger::kHeadFile] = text + "\n" + signer.signature_line(text) + others;
  return out;
}

ForgedRun ForgedRun::read(const fs::path& directory, const fs::path& keys) {
  ForgedRun out;
  out.keys_ = std::make_shared<const ledger::Keys>(*ledger::load_keys(keys));
  for (const auto& item : fs::recursive_directory_iterator(directory)) {
    const std::string path = item.path().lexically_relative(directory).generic_string();
    if (is_for_people(path)) continue;
    if (item.is_directory()) {
      if (fs::is_empty(item.path()) && path != "autosave") out.folders.insert(path);
    } else {
      (path.starts_with("ledger/") ? out.ledger : out.files)[path] = *read_file(item.path());
    }
  }
  const auto read_into = [&](ForgedLog& log, const char* folder) {
    log.entries = ledger::read_log(directory / folder)->entries;
    // What stands below the first signature.
    const std::string& head = out.ledger.at(fmt::format("{}/{}", folder, ledger::kHeadFile));
    const size_t own = head.find('\n', head.find("\n\n") + 2);
    if (own != std::string::npos) log.others = head.substr(own + 1);
  };
  read_into(out.log, "ledger");
  read_into(out.runs, "ledger/publisher");
  out.origin_ = text_at(parsed(out.log.entries.at(0)), "origin");
  for (const std::string& state : out.states()) {
    const auto record = out.files.find(state + "/record.json");
    if (record == out.files.end()) continue;
    const json listed = parsed(record->second)["files"];
    for (const std::string& name : out.names_below(state + "/"))
      if (!listed.contains(name)) out.unlisted_.insert(name);
  }
  out.committed_ = out.files;
  return out;
}

void ForgedRun::write(const fs::path& directory, const ForgedRun& before) const {
  // With the folders above that hold nothing any more.
  const auto remove = [&](const std::string& path) {
    std::error_code code;
    fs::remove(directory / path, code);
    for (fs::path parent = fs::path(path).parent_path(); !parent.empty();
         parent = parent.parent_path())
      if (folders.contains(parent.generic_string()) || !fs::remove(directory / parent, code)) break;
  };
  const auto bring = [&](const std::map<std::string, std::string>& now,
                         const std::map<std::string, std::string>& then) {
    for (const auto& [path, text] : then)
      if (!now.contains(path)) remove(path);
    for (const auto& [path, text] : now)
      if (const auto found = then.find(path); found == then.end() || found->second != text)
        put(directory / path, text);
  };
  for (const std::string& folder : before.folders)
    if (!folders.contains(folder)) remove(folder);
  bring(files, before.files);
  bring(ledger, before.ledger);
  for (const std::string& folder : folders) fs::create_directories(directory / folder);
}

std::vector<std::string> ForgedRun::names_below(const std::string& folder) const {
  std::vector<std::string> out;
  for (auto it = files.lower_bound(folder); it != files.end() && it->first.starts_with(folder);
       ++it)
    out.push_back(it->first.substr(folder.size()));
  return out;
}

std::vector<std::string> ForgedRun::states() const {
  std::vector<std::string> out;
  for (const std::string& entry : log.entries)
    if (const std::string directory = text_at(parsed(entry), "directory"); !directory.empty())
      out.push_back(directory);
  return out;
}

void ForgedRun::edit_entries(const std::function<void(json&)>& change) {
  for (std::string& text : log.entries) {
    json entry = parsed(text);
    if (!entry.is_object()) continue;
    const json old = entry;
    change(entry);
    if (entry != old) text = *ledger::canonical_json(entry);
  }
}

// In what a state says of where it comes from, digests that are others by now.
void ForgedRun::renew_statements(const std::string& folder) {
  for (const char* name : {"provenance.json", "bom.cdx.json"})
    if (const auto found = files.find(folder + name); found != files.end())
      replace_all(found->second, {renewed_.begin(), renewed_.end()});
}

void ForgedRun::seal_claims(bool deep) {
  constexpr const char* kManifest = "data/manifest.json";
  const auto is_claim = [](const std::string& path) {
    return path.find('/') == std::string::npos || path.starts_with("data/");
  };
  bool same = true;
  for (const auto& [path, text] : committed_)
    same = same && (!is_claim(path) || (files.contains(path) && files.at(path) == text));
  if (same) return;
  const auto sha_of = [&](const std::string& path) {
    const auto found = files.find(path);
    return found == files.end() ? std::string() : sha256_hex(found->second);
  };
  // Digests in the manifest, in place.
  for (const auto& [path, text] : committed_)
    if (is_claim(path) && path != kManifest && path != "recipe.toml" && files.contains(path) &&
        files.contains(kManifest))
      replace_all(files[kManifest], {{sha256_hex(text), sha_of(path)}});
  const Result<json> toml =
      parse_toml(files.contains("recipe.toml") ? files["recipe.toml"] : "", "");
  const Result<train::Curriculum> recipe =
      toml.ok() ? train::parse_recipe(*toml, "") : Result<train::Curriculum>(toml.error());
  const json manifest_json = files.contains(kManifest) ? parsed(files[kManifest]) : json();
  Result<data::Manifest> manifest = fail("no manifest");
  if (manifest_json.is_object()) manifest = data::Manifest::from_json(manifest_json, "");
  edit_entries([&](json& entry) {
    if (text_at(entry, "type") != "commitment") return;
    const json old = entry;
    set(entry, "tokenizer_sha256", sha_of("tokenizer.json"));
    set(entry, "tokenizer_config_sha256", sha_of("tokenizer_config.json"));
    set(entry, "manifest_sha256", sha_of(kManifest));
    set(entry, "recipe_sha256", sha_of("recipe.toml"));
    if (!recipe.ok() || !manifest.ok()) return;
    const Result<std::string> data = train::data_digest(*manifest);
    const Result<json> training =
        recipe->training(manifest->vocab_size, data.ok() ? *data : std::string());
    const Result<std::string> canonical =
        training.ok() ? ledger::canonical_json(*training) : Result<std::string>(training.error());
    if (!data.ok() || !canonical.ok()) return;
    entry["data_digest"] = *data;
    entry["training"] = json::parse(*canonical);
    entry["training_digest"] = sha256_hex(*canonical);
    entry["plan"] = recipe->plan();
    entry["steps"] = recipe->total_steps();
    entry["tokens"] = recipe->total_tokens();
    for (const char* key : {"data_digest", "training_digest", "tokenizer_sha256"})
      if (old[key] != entry[key]) renewed_[old[key]] = entry[key];
  });
  if (!deep) return;
  for (const std::string& state : states())
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      if (files.contains(name) && files.contains(state + "/" + name))
        files[state + "/" + name] = files[name];
  if (!recipe.ok()) return;
  edit_entries([&](json& entry) {
    const std::string cursor = text_at(entry, "directory") + "/state/cursor.json";
    if (files.contains(cursor) && entry.contains("step") && entry["step"].is_number_integer())
      files[cursor] = recipe->cursor(entry["step"]).to_json().dump(2) + "\n";
  });
}

void ForgedRun::seal_state(const std::string& directory, json& entry) {
  const std::string folder = directory + "/";
  renew_statements(folder);
  const StateDigests digests = digests_of(*this, directory);
  if (const auto found = files.find(folder + "record.json"); found != files.end()) {
    json record = parsed(found->second);
    if (record.is_object() && record.contains("files") && record["files"].is_object()) {
      Pairs changes;
      if (!digests.state.empty())
        changes = {{text_at(record, "weights_digest"), digests.weights},
                   {text_at(record, "state_digest"), digests.state}};
      json listed = json::object();
      bool same_names = true;
      for (const std::string& name : names_below(folder)) {
        if (unlisted_.contains(name) || name.starts_with(ledger::kCosignaturesDirectory)) continue;
        listed[name] = sha256_hex(files[folder + name]);
        const std::string old = text_at(record["files"], name.c_str());
        same_names = same_names && !old.empty();
        changes.emplace_back(old, listed[name]);
        if (name.ends_with(".safetensors") && !old.empty() && old != listed[name])
          renewed_[old] = listed[name];
      }
      if (same_names && listed.size() == record["files"].size()) {
        replace_all(found->second, changes);
      } else {
        record["files"] = listed;
        if (!digests.state.empty()) {
          record["weights_digest"] = digests.weights;
          record["state_digest"] = digests.state;
        }
        found->second = record.dump(2) + "\n";
      }
    }
  }
  renew_statements(folder);
  ledger::ModelManifest manifest;
  for (const std::string& name : names_below(folder))
    if (name != ledger::kModelSignatureFile && !name.starts_with(ledger::kCosignaturesDirectory))
      manifest.files.emplace_back(name, sha256(files[folder + name]));
  const std::string digest = ledger::to_hex(manifest.digest()), old = text_at(entry, "manifest");
  if (!digests.state.empty()) {
    set(entry, "weights", digests.weights);
    set(entry, "state", digests.state);
  }
  if (digest == old) return;
  set(entry, "manifest", digest);
  renewed_[old] = digest;
  if (files.contains(folder + ledger::kModelSignatureFile))
    files[folder + ledger::kModelSignatureFile] =
        *ledger::sign_model(manifest, fs::path(directory).filename().string(), keys_->model);
}

void ForgedRun::seal_states() {
  std::map<std::string, std::string> states;  // by the step, as text
  edit_entries([&](json& entry) {
    const std::string directory = text_at(entry, "directory");
    if (!directory.empty() && !names_below(directory + "/").empty()) seal_state(directory, entry);
    if (!directory.empty()) states[entry.value("step", json()).dump()] = text_at(entry, "state");
  });
  edit_entries([&](json& entry) {
    const auto found = states.find(entry.value("step", json()).dump());
    if (text_at(entry, "type") == "end" && found != states.end())
      set(entry, "state", found->second);
  });
  renewed_.clear();
}

void ForgedRun::seal_logs(bool publisher) {
  const std::string root = ledger::to_hex(ledger::tree_root(leaves_of(log.entries)));
  for (std::string& text : runs.entries) {
    json entry = parsed(text);
    if (!publisher || text_at(entry, "origin") != origin_) continue;
    if (entry.contains("commitment") && !log.entries.empty())
      entry["commitment"] = sha256_hex(log.entries[0]);
    if (entry.contains("root")) {
      entry["root"] = root;
      entry["size"] = log.entries.size();
    }
    text = *ledger::canonical_json(entry);
  }
  const ledger::Signer signer = *keys_->log.renamed(origin_);
  ledger.clear();
  ledger["ledger/vkey"] = signer.verifier().vkey() + "\n";
  for (auto& [path, text] : log.files(signer)) ledger["ledger/" + path] = text;
  for (auto& [path, text] : runs.files(keys_->log)) ledger["ledger/publisher/" + path] = text;
}

ForgedRun ForgedRun::cut(size_t count, size_t stored) const {
  ForgedRun out = *this;
  std::set<std::string> gone;
  for (const std::string& state : states()) gone.insert(state);
  out.log.entries.resize(std::min(std::max(count, stored), log.entries.size()));
  for (const std::string& state : out.states()) gone.erase(state);
  out.log.entries.resize(std::min(count, log.entries.size()));
  for (const std::string& state : gone)
    for (const std::string& name : names_below(state + "/")) out.files.erase(state + "/" + name);
  std::erase_if(out.runs.entries, [&](const std::string& text) {
    const json entry = parsed(text);
    return text_at(entry, "origin") == origin_ && text_at(entry, "type") == "end" &&
           count < log.entries.size();
  });
  out.seal_logs();
  return out;
}

namespace {

// Entries, spread out: each step and each field that is somebody's word is a fact of its own, and
// the digests of files that are facts themselves are none.
void add_entries(const ForgedRun& run, std::map<std::string, std::string>& out) {
  std::string boundaries;
  int64_t number = 0, step = 0;
  for (const std::string& text : run.log.entries) {
    json entry = parsed(text);
    const std::string type = text_at(entry, "type");
    const Result<std::string> canonical =
        entry.is_object() ? ledger::canonical_json(entry) : Result<std::string>(fail("none"));
    if (!canonical.ok() || *canonical != text) {
      out[fmt::format("log {} in another spelling", number++)] = text;
      continue;
    }
    if (type == "steps" && entry.value("steps", json()).is_array()) {
      for (const json& item : entry["steps"]) out[fmt::format("log step {}", ++step)] = item.dump();
      entry.erase("steps");
      boundaries += entry.dump();
      continue;
    }
    for (const auto& [key, file] : {std::pair("recipe_sha256", "recipe.toml"),
                                    std::pair("manifest_sha256", "data/manifest.json")})
      if (run.files.contains(file) && text_at(entry, key) == sha256_hex(run.files.at(file)))
        entry[key] = "as it is";
    for (const char* word : {"nonce", "time", "version", "source_commit"})
      if (entry.contains(word)) {
        out[fmt::format("log word {} {}", type, word)] = entry[word].dump();
        entry[word] = entry[word].type_name();
      }
    boundaries += fmt::format("{} after step {}", type, step);
    out[fmt::format("log {} {}", number++, type)] = entry.dump();
  }
  out["log boundaries"] = boundaries;
}

void add_runs(const std::vector<std::string>& entries, const std::string& origin,
              std::map<std::string, std::string>& out) {
  std::map<std::string, int> seen;
  for (const std::string& text : entries) {
    json entry = parsed(text);
    std::string keys;
    if (entry.is_object())
      for (const auto& [key, value] : entry.items()) keys += key + " ";
    const bool known = keys == "commitment origin time type " || keys == "origin root size type ";
    const std::string whose = text_at(entry, "origin") == origin ? "own" : "other";
    if (known && entry.contains("time")) {
      out[fmt::format("runs word {} time", whose)] += entry["time"].dump() + " ";
      entry.erase("time");
    }
    // What the log implies is no fact of its own.
    if (known && whose == "own") {
      entry.erase("commitment");
      entry.erase("root");
      entry.erase("size");
    }
    const std::string name =
        known ? fmt::format("runs {} {}", whose, text_at(entry, "type")) : "runs of no form";
    out[fmt::format("{} {}", name, ++seen[name])] = entry.is_discarded() ? text : entry.dump();
  }
}

// A tile at the right edge of the tree as it was earlier.
bool is_older_tile(const std::string& path, const std::string& text, const ForgedLog& log) {
  const std::optional<ledger::TileName> tile = ledger::parse_tile_path(path);
  if (!tile || tile->width == ledger::kTileWidth) return false;
  for (size_t size = 1; size < log.entries.size(); ++size) {
    ForgedLog earlier{{log.entries.begin(), log.entries.begin() + static_cast<int64_t>(size)}};
    const auto files = earlier.files(*ledger::Signer::make("any.example"));
    if (const auto found = files.find(path); found != files.end()) return found->second == text;
  }
  return false;
}

void add_ledger(const ForgedRun& run, std::map<std::string, std::string>& out) {
  ForgedRun again = run;
  again.seal_logs(false);
  for (const auto& [path, text] : run.ledger) {
    const auto expected = again.ledger.find(path);
    if (expected != again.ledger.end() && expected->second == text) continue;
    const bool of_runs = path.starts_with("ledger/publisher/");
    const std::string inner =
        path.substr(std::string(of_runs ? "ledger/publisher/" : "ledger/").size());
    out[(is_older_tile(inner, text, of_runs ? run.runs : run.log) ? "older tile " : "file ") +
        path] = text;
  }
  for (const auto& [path, text] : again.ledger)
    if (!run.ledger.contains(path)) out["missing " + path] = "";
  out["log head"] = run.log.extension + run.runs.extension;
  out["log heads' other signatures"] = run.log.others + run.runs.others;
}

// The recipe: what decides no bit and stands in no state is nobody else's to know.
void add_recipe(const std::string& text, std::map<std::string, std::string>& out) {
  constexpr int64_t kVocabulary = 300;  // any will do
  out["spelling of recipe.toml"] = out["recipe"] = text;
  const Result<json> toml = parse_toml(text, "");
  const Result<train::Curriculum> recipe =
      toml.ok() ? train::parse_recipe(*toml, "") : Result<train::Curriculum>(toml.error());
  if (!recipe.ok()) return;
  const Result<json> training = recipe->training(kVocabulary, "");
  if (!training.ok()) return;
  out["recipe word"] = toml->dump();
  out["recipe"] = training->dump() + recipe->plan().dump() + recipe->first().name;
  for (const data::SourceOptions& source : recipe->first().data.sources)
    out["recipe"] += fmt::format(" {} {} {}", source.name, source.license, source.origin);
}

// The manifest: what is said of the text as it lay on the trainer's disk is nobody else's to know.
void add_manifest(const std::string& text, std::map<std::string, std::string>& out) {
  out["spelling of data/manifest.json"] = text;
  json manifest = parsed(text);
  if (manifest.is_object() && manifest.contains("options")) {
    out["manifest word options"] = manifest["options"].dump();
    manifest.erase("options");
  }
  if (manifest.is_object() && manifest.value("sources", json()).is_array())
    for (json& source : manifest["sources"])
      if (source.is_object() && source.value("files", json()).is_array())
        for (json& file : source["files"])
          if (file.is_object() && file.contains("path")) {
            out["manifest word paths"] += file["path"].dump();
            file.erase("path");
          }
  out["manifest"] = manifest.dump();
}

}  // namespace

std::map<std::string, std::string> facts_of(const ForgedRun& run) {
  std::map<std::string, std::string> out;
  for (const auto& [path, text] : run.files) {
    const Result<ledger::ModelSignature> signature =
        path.ends_with(ledger::kModelSignatureFile) ? ledger::ModelSignature::parse(text, "")
                                                    : Result<ledger::ModelSignature>(fail("none"));
    if (is_for_people(path) || is_left_over(path)) {
      out["for people " + path] = text;
    } else if (path == "recipe.toml") {
      add_recipe(text, out);
    } else if (path == "data/manifest.json") {
      add_manifest(text, out);
    } else if (signature.ok() && signature->text().ok() && *signature->text() == text) {
      const bool by_key = signature->is_signed_by(run.keys().model);
      out["file " + path] = signature->payload + (by_key ? "by the key" : "by nobody known");
    } else {
      out["file " + path] = text;
    }
  }
  for (const std::string& folder : run.folders) out["folder " + folder] = "";
  add_entries(run, out);
  add_runs(run.runs.entries,
           run.log.entries.empty() ? "" : text_at(parsed(run.log.entries[0]), "origin"), out);
  add_ledger(run, out);
  return out;
}

}  // namespace naite::verify
