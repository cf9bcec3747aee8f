// SPDX-License-Identifier: Apache-2.0
// The table of attacks, continued: by somebody who holds all keys and seals everything, on what
// follows from the log, the recipe and the tensors alone. Files of a state, the run's folder as a
// closed world, the log as a state machine, the publisher's log, and keys that stand for two.
#include "verify/sealed_testing.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

struct SealedAttack {
  const char* name;
  const char* found_by;  // the first check that fails; with | between, any of these
  std::function<void(ForgedRun&)> forge;       // everything is sealed after it
  std::function<void(ForgedRun&)> after = {};  // the logs alone are signed after it
  bool listed_right = true;                    // the publisher's log is made to fit the run's
};

constexpr const char* kFirst = "checkpoints/stage1-step0000000000-tokens0000000000000000";
constexpr const char* kAudit = "audit/step0000000001";
constexpr const char* kLast = "checkpoints/stage1-step0000000002-tokens0000000000000064";

std::string in(const char* state, const char* file) { return fmt::format("{}/{}", state, file); }

void replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  NAITE_CHECK(at != std::string::npos, "{}", from);
  text.replace(at, from.size(), to);
}

// A file with one part replaced, or with something behind it.
std::function<void(ForgedRun&)> replaced(const std::string& path, const std::string& from,
                                         const std::string& to) {
  return [=](ForgedRun& run) { replace(run.file(path), from, to); };
}
std::function<void(ForgedRun&)> added(const std::string& path, const std::string& text) {
  return [=](ForgedRun& run) { run.files[path] += text; };
}
std::function<void(ForgedRun&)> edited(const std::string& path,
                                       const std::function<void(ordered_json&)>& change) {
  return [=](ForgedRun& run) {
    ordered_json value = ordered_json::parse(run.file(path));
    change(value);
    run.file(path) = value.dump(2) + "\n";
  };
}
std::function<void(ForgedRun&)> tensors(const std::string& path,
                                        const std::function<void(TensorParts&)>& change) {
  return [=](ForgedRun& run) {
    TensorParts parts = TensorParts::parse(run.file(path));
    change(parts);
    run.file(path) = parts.text();
  };
}
// The entries of a type, or about a state.
std::function<void(ForgedRun&)> entry(const std::string& type,
                                      const std::function<void(json&)>& change) {
  return [=](ForgedRun& run) {
    run.edit_entries([&](json& value) {
      if (value["type"] == type || value.value("directory", "") == type) change(value);
    });
  };
}
std::function<void(ForgedRun&)> inserted(size_t from_the_end, const json& value) {
  return [=](ForgedRun& run) {
    run.log.entries.insert(run.log.entries.end() - static_cast<int64_t>(from_the_end),
                           *ledger::canonical_json(value));
  };
}
std::function<void(ForgedRun&)> listed(const json& value, bool first = false) {
  return [=](ForgedRun& run) {
    json filled = value;
    if (filled["origin"] == "") filled["origin"] = json::parse(run.log.entries[0])["origin"];
    run.runs.entries.insert(first ? run.runs.entries.begin() : run.runs.entries.end(),
                            *ledger::canonical_json(filled));
  };
}

std::vector<SealedAttack> on_files_of_states() {
  constexpr const char* kStates = "bytes|states";
  return {
      {"a model card of another model", kStates,
       replaced(in(kLast, "README.md"), "# tiny", "# GPT-9, audited")},
      {"a model card of an audit state", kStates, added(in(kAudit, "README.md"), "more\n")},
      {"a benchmark in record.json", kStates,
       edited(in(kLast, "record.json"), [](ordered_json& r) { r["mmlu"] = 0.99; })},
      {"another step in record.json", kStates,
       edited(in(kLast, "record.json"), [](ordered_json& r) { r["total_steps"] = 99; })},
      {"record.json with its keys in another order", kStates,
       [](ForgedRun& run) {
         const ordered_json r = ordered_json::parse(run.file(in(kLast, "record.json")));
         ordered_json other = {{"stage", r["stage"]}};
         other.update(r);
         run.file(in(kLast, "record.json")) = other.dump(2) + "\n";
       }},
      {"record.json without line feeds", kStates,
       [](ForgedRun& run) {
         std::string& text = run.file(in(kAudit, "record.json"));
         text = ordered_json::parse(text).dump();
       }},
      {"a builder that others trust in the provenance", kStates,
       edited(in(kLast, "provenance.json"),
              [](ordered_json& p) {
                p["predicate"]["runDetails"]["builder"]["id"] = "https://builder.example";
              })},
      {"a provenance without data", kStates,
       edited(in(kLast, "provenance.json"),
              [](ordered_json& p) {
                p["predicate"]["buildDefinition"]["resolvedDependencies"] = json::array();
              })},
      {"a provenance in an audit state", kStates,
       [](ForgedRun& run) {
         run.files[in(kAudit, "provenance.json")] = run.file(in(kLast, "provenance.json"));
       }},
      {"a signature in an audit state", kStates,
       [](ForgedRun& run) {
         run.files[in(kAudit, "model.sig")] = run.file(in(kLast, "model.sig"));
       }},
      {"another cursor, in spelling alone", kStates,
       [](ForgedRun& run) {
         std::string& text = run.file(in(kLast, "state/cursor.json"));
         text = ordered_json::parse(text).dump();
       }},
  };
}

std::vector<SealedAttack> on_what_loaders_read() {
  constexpr const char* kStates = "bytes|states";
  return {
      {"a chat template in one state's tokenizer_config.json", kStates,
       edited(in(kLast, "tokenizer_config.json"),
              [](ordered_json& c) { c["chat_template"] = "{{ 'x' }}"; })},
      {"other sampling in one state", kStates,
       edited(in(kAudit, "generation_config.json"),
              [](ordered_json& c) { c["temperature"] = 9.0; })},
      {"code that loaders may run", kStates,
       edited(in(kLast, "config.json"),
              [](ordered_json& c) { c["auto_map"]["AutoModel"] = "x.Y"; })},
      {"special tokens of its own", kStates,
       added(in(kLast, "special_tokens_map.json"), "{\"eos_token\": \"a\"}\n")},
      {"an adapter beside the weights", kStates,
       added(in(kLast, "adapter_config.json"), "{\"peft_type\": \"LORA\"}\n")},
      {"an adapter in a folder", kStates,
       added(in(kLast, "adapter/adapter_config.json"), "{\"peft_type\": \"LORA\"}\n")},
      {"weights in another format", kStates, added(in(kLast, "pytorch_model.bin"), "PK")},
      {"an empty file", kStates, added(in(kAudit, "x"), "")},
      {"an empty folder", kStates,
       [](ForgedRun& run) { run.folders.insert(in(kLast, "original")); }},
      {"better losses of the first checkpoint, which no interval leads to",
       "plan|states|initial|replay",
       [](ForgedRun& run) {
         const auto better = [](auto& measured) {
           measured["licence"] = {{"loss", 0.5}, {"bits_per_byte", 0.7}};
         };
         edited(in(kFirst, "record.json"), [&](ordered_json& r) { better(r["validation"]); })(run);
         entry(kFirst, [&](json& e) { better(e["metrics"]["validation"]); })(run);
       }},
  };
}

std::vector<SealedAttack> on_tensors() {
  constexpr const char* kStates = "bytes|states";
  const std::string weights = in(kLast, "model.safetensors");
  const std::string moments = in(kLast, "state/optimizer.safetensors");
  return {
      {"metadata of its own", kStates,
       tensors(weights, [](TensorParts& t) { t.metadata["trained_by"] = "others"; })},
      {"a padded header", kStates, tensors(weights, [](TensorParts& t) { t.padding = 8; })},
      {"a megabyte of padding", kStates,
       tensors(moments, [](TensorParts& t) { t.padding = size_t{1} << 20; })},
      {"another order in the header", kStates,
       tensors(weights, [](TensorParts& t) { std::reverse(t.header.begin(), t.header.end()); })},
      {"another order of tensors", kStates,
       tensors(moments, [](TensorParts& t) { std::swap(t.tensors[0], t.tensors[1]); })},
      {"bytes behind the last tensor", kStates,
       tensors(weights, [](TensorParts& t) { t.tail = "GGUF"; })},
      {"a second output matrix", kStates,
       tensors(weights,
               [](TensorParts& t) {
                 t.tensors.push_back(t.tensors[0]);
                 t.tensors.back().name = "lm_head.weight";
               })},
      {"a tensor of a name that loaders skip", kStates,
       tensors(weights,
               [](TensorParts& t) {
                 t.tensors.push_back(t.tensors[0]);
                 t.tensors.back().name = "model.layers.0.self_attn.q_proj.lora_A.weight";
               })},
      {"moments of a parameter that is not there", kStates,
       tensors(moments,
               [](TensorParts& t) {
                 t.tensors.push_back(t.tensors[0]);
                 t.tensors.back().name = "m.x";
               })},
      {"weights in two files", kStates,
       [=](ForgedRun& run) {
         TensorParts one = TensorParts::parse(run.file(weights)), two = one;
         one.tensors.resize(1);
         two.tensors.erase(two.tensors.begin());
         ordered_json places;
         for (const auto& tensor : one.tensors)
           places[tensor.name] = "model-00001-of-00002.safetensors";
         for (const auto& tensor : two.tensors)
           places[tensor.name] = "model-00002-of-00002.safetensors";
         run.files.erase(weights);
         run.files[in(kLast, "model-00001-of-00002.safetensors")] = one.text();
         run.files[in(kLast, "model-00002-of-00002.safetensors")] = two.text();
         run.files[in(kLast, "model.safetensors.index.json")] =
             ordered_json{{"metadata", {{"total_size", 1}}}, {"weight_map", places}}.dump(2) + "\n";
       }},
      {"weights beside those that the index names", kStates,
       [=](ForgedRun& run) {
         ordered_json places;
         TensorParts other = TensorParts::parse(run.file(weights));
         for (const auto& tensor : other.tensors) places[tensor.name] = "model.safetensors";
         for (auto& tensor : other.tensors) tensor.bytes.back() ^= '\x80';
         run.files[in(kLast, "model-00002-of-00002.safetensors")] = other.text();
         run.files[in(kLast, "model.safetensors.index.json")] =
             ordered_json{{"metadata", {{"total_size", 1}}}, {"weight_map", places}}.dump(2) + "\n";
       }},
      {"a moment that is no number", "states|replay",
       tensors(in(kAudit, "state/optimizer.safetensors"),
               [](TensorParts& t) { t.tensors.back().bytes.replace(2, 2, "\xc0\x7f"); })},
  };
}

std::vector<SealedAttack> on_folders() {
  constexpr const char* kWorld = "files|bytes|states|log|publisher|data|recipe|autosave";
  return {
      {"a foreign autosave", kWorld,
       [](ForgedRun& run) {
         for (const std::string& name : run.names_below(std::string(kLast) + "/"))
           run.files["autosave/step0000000003/" + name] = run.file(in(kLast, name.c_str()));
       }},
      {"a model in the run's own folder", kWorld,
       [](ForgedRun& run) {
         for (const char* name : {"config.json", "model.safetensors"})
           run.files[name] = run.file(in(kLast, name));
       }},
      {"code in the run's own folder", kWorld, added("modeling_naite.py", "print()\n")},
      {"a file between the states", kWorld, added("checkpoints/README.md", "best\n")},
      {"a folder between the states", kWorld,
       [](ForgedRun& run) { run.folders.insert("checkpoints/best"); }},
      {"a shard that no manifest names", kWorld, added("data/01-more-train-00000.tokens", "x")},
      {"weights of documents that no manifest names", kWorld,
       added("data/00-licence-train-00000.weights", "x")},
      {"a branch.json in a run that is none", kWorld,
       added("branch.json", "{\"from\": \"runs/other\", \"step\": 2}\n")},
      {"a tile of no tree", kWorld, added("ledger/tile/0/001.p/7", std::string(224, 'x'))},
      {"an older tile with other hashes", kWorld,
       added("ledger/tile/0/000.p/1", std::string(32, 'x'))},
      {"a file in the publisher's log", kWorld, added("ledger/publisher/statement.txt", "x")},
      {"a second key of the log", kWorld, added("ledger/log.vkey", "x")},
      {"a hidden file", kWorld, added(".hidden", "x")},
  };
}

std::vector<SealedAttack> on_entries() {
  constexpr const char* kLog = "log|recipe|states|end";
  return {
      {"a state entered twice, first with foreign files",
       kLog,
       {},
       [](ForgedRun& run) {
         for (size_t i = 0; i < run.log.entries.size(); ++i) {
           json value = json::parse(run.log.entries[i]);
           if (value.value("directory", "") != kLast) continue;
           value["manifest"] = value["weights"] = std::string(64, '0');
           run.log.entries.insert(run.log.entries.begin() + static_cast<int64_t>(i),
                                  *ledger::canonical_json(value));
           return;
         }
       }},
      {"a state entered twice, then with another loss",
       kLog,
       {},
       [](ForgedRun& run) {
         json value = json::parse(run.log.entries[run.log.entries.size() - 2]);
         value["metrics"]["loss"] = 0.5;
         inserted(1, value)(run);
       }},
      {"another first token", kLog, {}, entry(kLast, [](json& e) { e["first_token"] = 32; })},
      {"a checkpoint kept as an audit state", kLog,
       [](ForgedRun& run) {
         for (const std::string& name : run.names_below(std::string(kLast) + "/")) {
           if (name != "model.sig" && name != "provenance.json")
             run.files["audit/step0000000002/" + name] = run.file(in(kLast, name.c_str()));
           run.files.erase(in(kLast, name.c_str()));
         }
         entry(kLast, [](json& e) {
           e["type"] = "state";
           e["directory"] = "audit/step0000000002";
         })(run);
       }},
      {"a state that the plan does not have", kLog,
       [](ForgedRun& run) {
         for (const std::string& name : run.names_below(std::string(kAudit) + "/"))
           run.files[in("checkpoints/stage1-step0000000001-tokens0000000000000032", name.c_str())] =
               run.file(in(kAudit, name.c_str()));
         for (size_t i = 0; i < run.log.entries.size(); ++i) {
           json value = json::parse(run.log.entries[i]);
           if (value.value("directory", "") != kAudit) continue;
           value["type"] = "checkpoint";
           value["directory"] = "checkpoints/stage1-step0000000001-tokens0000000000000032";
           run.log.entries.insert(run.log.entries.begin() + static_cast<int64_t>(i) + 1,
                                  *ledger::canonical_json(value));
           return;
         }
       }},
  };
}

std::vector<SealedAttack> on_amendments() {
  constexpr const char* kLog = "log|recipe";
  const json amendment = {
      {"type", "amendment"}, {"step", 2}, {"time", 1790000000}, {"changes", {{"version", "9"}}}};
  const auto amended = [=](const char* key, const json& value) {
    json out = amendment;
    out["changes"] = {{key, value}};
    return out;
  };
  json late = amendment;
  late["step"] = 9999999;
  json early = amendment;
  early["step"] = 0;
  json empty = amendment;
  empty["changes"] = json::object();
  return {
      {"an amendment of what decides bits",
       kLog,
       {},
       inserted(1, amended("training_digest", std::string(64, '0')))},
      {"an amendment of what was said to be amended only",
       kLog,
       {},
       inserted(1, amended("note", "approved by example.edu"))},
      {"an amendment of a value of another type", kLog, {}, inserted(1, amended("name", 7))},
      {"an amendment of a later step", kLog, {}, inserted(1, late)},
      {"an amendment of an earlier step", kLog, {}, inserted(1, early)},
      {"an amendment of nothing", kLog, {}, inserted(1, empty)},
  };
}

std::vector<SealedAttack> on_fields() {
  constexpr const char* kLog = "log|recipe|states|end";
  return {
      {"a plan that the recipe does not have",
       kLog,
       {},
       entry("commitment", [](json& e) { e["plan"][0]["audit_every"] = "25%"; })},
      {"a name that the recipe does not have",
       "log|recipe|states",
       {},
       entry("commitment", [](json& e) { e["name"] = "GPT-9"; })},
      {"a commitment without a nonce",
       kLog,
       {},
       entry("commitment", [](json& e) { e["nonce"] = ""; })},
      {"an end before the commitment", kLog, {}, entry("end", [](json& e) { e["time"] = 1; })},
      {"an end with another state",
       kLog,
       {},
       entry("end", [](json& e) { e["state"] = std::string(64, '0'); })},
      {"benchmarks among the measurements",
       kLog,
       {},
       entry(kLast, [](json& e) { e["metrics"]["mmlu"] = 0.99; })},
      {"a beacon's value with a chosen seed",
       "log|seed",
       {},
       entry("seed", [](json& e) { e["value"] = "ab"; })},
      {"a branch from a state that the first one is not",
       "log|states|initial|replay",
       {},
       entry("commitment",
             [](json& e) {
               e["branch"] = {{"step", 0},
                              {"state_digest", std::string(64, 'a')},
                              {"recipe_digest", std::string(64, 'b')}};
             })},
      {"a licence that the model cards do not have", "log|recipe|data|bytes|states",
       [](ForgedRun& run) { replace(run.file("data/manifest.json"), "Apache-2.0", "CC0-1.0"); }},
      {"counts of documents that the shards do not have", "recipe|data|bytes|states",
       edited("data/manifest.json",
              [](ordered_json& m) { m["sources"][0]["train"]["documents"] = 1000000; })},
  };
}

std::vector<SealedAttack> on_logs_of_runs() {
  const json run = {
      {"type", "run"}, {"origin", ""}, {"commitment", std::string(64, '0')}, {"time", 1790000000}};
  json noted = run;
  noted["note"] = "audited";
  noted["origin"] = "example.org/team/x-0123456789abcdef";
  const json end = {{"type", "end"}, {"origin", ""}, {"size", 1}, {"root", std::string(64, '0')}};
  return {
      {"a run listed twice", "publisher", listed(run)},
      {"an end before the run", "publisher", listed(end, true)},
      {"an end of a run that nobody began", "publisher",
       listed({{"type", "end"},
               {"origin", "example.org/team/x-0123456789abcdef"},
               {"size", 1},
               {"root", std::string(64, '0')}})},
      {"a note on another run", "publisher", listed(noted)},
      {"an end of another history",
       "publisher",
       {},
       [](ForgedRun& r) {
         for (std::string& text : r.runs.entries) {
           json value = json::parse(text);
           if (value["type"] == "end") value["root"] = std::string(64, '0');
           text = *ledger::canonical_json(value);
         }
       },
       false},
  };
}

class SealedAttacks : public Sealed {
 protected:
  static void must_be_found(const std::vector<SealedAttack>& attacks) {
    Bench bench(directory_ / "bench", *honest_);
    for (const SealedAttack& attack : attacks) {
      ForgedRun run = *honest_;
      if (attack.forge) attack.forge(run);
      run.seal();
      if (attack.after) attack.after(run);
      run.seal_logs(attack.listed_right);
      bench.put(run);
      const Judged answer = bench.verify(false);
      const std::string check = answer.found.substr(0, answer.found.find(':'));
      EXPECT_FALSE(answer.holds) << attack.name;
      EXPECT_NE(fmt::format("|{}|", attack.found_by).find("|" + check + "|"), std::string::npos)
          << attack.name << ": " << answer.found;
    }
  }
};

TEST_F(SealedAttacks, OnFilesOfStates) { must_be_found(on_files_of_states()); }
TEST_F(SealedAttacks, OnTensors) { must_be_found(on_tensors()); }
TEST_F(SealedAttacks, OnFolders) { must_be_found(on_folders()); }
TEST_F(SealedAttacks, OnWhatLoadersRead) { must_be_found(on_what_loaders_read()); }
TEST_F(SealedAttacks, OnEntries) { must_be_found(on_entries()); }
TEST_F(SealedAttacks, OnAmendments) { must_be_found(on_amendments()); }
TEST_F(SealedAttacks, OnFields) { must_be_found(on_fields()); }
TEST_F(SealedAttacks, OnLogsOfRuns) { must_be_found(on_logs_of_runs()); }

// A run that goes on from foreign weights says that they are a state of a run that others verified.
TEST_F(SealedAttacks, AParentThatItDoesNotComeFrom) {
  train_small("foreign", {"run.seed=8"});
  train_small("branch", {"run.name=branch"}, directory_ / "foreign" / kFirst);
  ForgedRun run = ForgedRun::read(directory_ / "branch", directory_ / "keys");
  run.seal();
  Bench bench(directory_ / "bench", run);
  const Judged honest = bench.verify(false);
  EXPECT_TRUE(honest.holds) << honest.found;
  std::string state;
  for (const std::string& text : honest_->log.entries)
    if (const json value = json::parse(text); value.value("directory", "") == kFirst)
      state = value["state"];
  ASSERT_FALSE(state.empty());
  const std::string theirs = json::parse(run.log.entries[0])["branch"]["state_digest"];
  entry("commitment", [&](json& e) { e["branch"]["state_digest"] = state; })(run);
  for (auto& [path, text] : run.files)
    if (path.ends_with("record.json") || path == "branch.json") replace(text, theirs, state);
  run.seal();
  bench.put(run);
  const Judged answer = bench.verify(false);
  EXPECT_FALSE(answer.holds) << "its first state is another one than it names";
}

// A tokenizer that was learnt somewhere, in a run whose recipe says that it has none.
TEST_F(SealedAttacks, ALearntTokenizerThatIsCalledPlainBytes) {
  train_small("learnt", {"tokenizer.vocab_size=300"});
  ForgedRun run = ForgedRun::read(directory_ / "learnt", directory_ / "keys");
  replace(run.file("recipe.toml"), "vocab_size = 300", "vocab_size = 256");
  run.seal();
  Bench bench(directory_ / "bench", run);
  const Report report = report_of(bench.run(), true);
  const std::string tokenizer = report.verdicts.at(1).verdict;
  EXPECT_EQ(report.verdicts[1].component, "tokenizer");
  EXPECT_NE(tokenizer, "from scratch") << report.verdicts[1].reason;
}

// Steps that no state follows: their figures rest on nothing, and a report says so.
TEST_F(SealedAttacks, StepsWithoutAStateAreCalledOpen) {
  ForgedRun run = *honest_;
  while (run.log.entries.back().find(R"("type":"steps")") == std::string::npos)
    run = run.cut(run.log.entries.size() - 1);
  json last = json::parse(run.log.entries.back());
  last["steps"][0][0] = "3fb999999999999a";
  run.log.entries.back() = *ledger::canonical_json(last);
  run.seal_logs();
  Bench bench(directory_ / "bench", run);
  const Report report = report_of(bench.run(), true);
  const std::string text = report.to_json().dump();
  EXPECT_TRUE(!report.holds() || text.find("followed by no state") != std::string::npos) << text;
}

}  // namespace
}  // namespace naite::verify
