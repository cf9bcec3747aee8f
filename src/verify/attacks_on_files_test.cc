// SPDX-License-Identifier: Apache-2.0
// The table of attacks, continued: on files. A published state is a function of the log and its
// tensors, and a run is a closed world; so whatever a forger adds, changes or respells there is
// named, however well it is sealed.
#include <cstring>
#include <fstream>

#include "verify/attack_testing.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string relative(const Forger& forger, int64_t step) {
  return forger.state(step).lexically_relative(forger.path()).string();
}

// States that say, or hold, what log and recipe do not make of them; sealed with every key.
std::vector<Attack> of_state_files() {
  const auto added = [](const std::string& name, const std::string& text, int64_t step = 20) {
    return [=](Forger& f) {
      fs::create_directories((f.state(step) / name).parent_path());
      std::ofstream(f.state(step) / name) << text;
      f.seal_as_it_is();
    };
  };
  const auto edited = [](const std::string& name, int64_t step,
                         const std::function<void(json&)>& change) {
    return [=](Forger& f) {
      f.edit_json(relative(f, step) + "/" + name, change);
      f.seal_as_it_is();
    };
  };
  const char* beside = "no part of a stored state";
  const char* other = "is not what the recipe and the log make of it";
  return {
      {"an adapter beside the weights", "bytes", beside,
       added("adapter_config.json", "{\"peft_type\": \"LORA\"}\n")},
      {"a chat template", "bytes", beside, added("chat_template.jinja", "{{ 'x' }}")},
      {"code", "bytes", beside, added("modeling_llama.py", "import os\n")},
      {"weights in another format", "bytes", beside, added("pytorch_model.bin", "x", 0)},
      {"a second file of weights", "bytes", beside, added("model-2.safetensors", "x", 5)},
      {"a folder in a folder", "bytes", beside, added("state/more/x", "x", 4)},
      {"a bill of materials of a state for replays", "bytes", beside,
       added("bom.cdx.json", "{}", 4)},
      {"an empty folder", "bytes", beside,
       [](Forger& f) { fs::create_directories(f.state(10) / "onnx"); }},
      {"co-signatures of a state for replays", "bytes", beside,
       [](Forger& f) { fs::create_directories(f.state(4) / "cosignatures"); }},
      {"a file without end", "bytes", "no state of",
       [](Forger& f) { fs::resize_file(f.state(10) / "README.md", uintmax_t{1} << 40); }},
      {"another model card", "states", other, added("README.md", "# Trained on 100T tokens\n", 5)},
      {"another licence in the record", "states", "license: \"Apache-2.0\" -> \"MIT\"",
       edited("record.json", 5, [](json& r) { r["data"][0]["license"] = "MIT"; })},
      {"more steps in the record", "states", other,
       edited("record.json", 5, [](json& r) { r["step"] = 999; })},
      {"a parent in the record", "states", other,
       edited("record.json", 10,
              [](json& r) {
                r["origin"] = {{"from", "somebody"}};
              })},
      {"another builder", "states", other,
       edited("provenance.json", 10,
              [](json& p) {
                p["predicate"]["runDetails"]["builder"]["id"] = "https://auditor.example";
              })},
      {"no parent checkpoint in the provenance", "states", other,
       edited("provenance.json", 10,
              [](json& p) { p["predicate"]["buildDefinition"]["resolvedDependencies"].erase(2); })},
      {"a source left out of the bill of materials", "states", other,
       edited("bom.cdx.json", 15, [](json& b) { b["components"].erase(0); })},
      {"other defaults of sampling", "states", other,
       edited("generation_config.json", 5, [](json& c) { c["temperature"] = 2.0; })},
      {"white space in a cursor", "states", "make of it: spelled otherwise",
       [](Forger& f) {
         f.edit(relative(f, 8) + "/state/cursor.json", [](std::string& text) { text += " "; });
         f.seal_as_it_is();
       }},
      {"a validation loss of a state for replays", "log", "that of the checkpoint before",
       [](Forger& f) {
         f.entry("state", 1)["metrics"]["validation"] = {
             {"licence", {{"loss", 0.5}, {"bits_per_byte", 0.7}}}};
         f.seal();
       }},
  };
}

// Files of tensors with the logged tensors, laid out otherwise.
std::vector<Attack> of_tensor_files() {
  const auto rewritten =
      [](const std::string& file,
         const std::function<void(std::string & head, std::string & data)>& how) {
        return [=](Forger& f) {
          f.edit(relative(f, 10) + "/" + file, [&](std::string& text) {
            uint64_t size = 0;
            std::memcpy(&size, text.data(), sizeof size);
            std::string head = text.substr(8, size), data = text.substr(8 + size);
            how(head, data);
            size = head.size();
            text = std::string(reinterpret_cast<const char*>(&size), sizeof size) + head + data;
          });
          f.seal_as_it_is();
        };
      };
  return {
      {"metadata of another format", "states", "its header",
       rewritten("model.safetensors",
                 [](std::string& head, std::string&) {
                   head.replace(head.find("\"pt\""), 4, "\"tf\"");
                 })},
      {"a page of padding", "states", "bytes, the recipe's tensors make",
       rewritten("model.safetensors",
                 [](std::string& head, std::string&) { head.append(4096, ' '); })},
      {"moments in another order", "states", "its header",
       rewritten("state/optimizer.safetensors",
                 [](std::string& head, std::string&) {
                   json header = json::parse(head);
                   std::string text = header.dump();
                   text.resize(head.size(), ' ');
                   head = text;
                 })},
      {"a tensor more", "states", "",
       rewritten("model.safetensors",
                 [](std::string& head, std::string& data) {
                   json header = json::parse(head);
                   header["lora"] = {{"dtype", "F32"},
                                     {"shape", {1}},
                                     {"data_offsets", {data.size(), data.size() + 4}}};
                   head = header.dump();
                   data += "1234";
                 })},
  };
}

// What lies in a run where nothing of a run lies.
std::vector<Attack> of_places() {
  const auto added = [](const std::string& name) {
    return [=](Forger& f) {
      fs::create_directories((f.path() / name).parent_path());
      std::ofstream(f.path() / name) << "x";
    };
  };
  const char* no_place = "has no place in a run";
  return {
      {"a model beside the run", "files", no_place, added("model.safetensors")},
      {"a folder of more checkpoints", "files", no_place, added("best/README.md")},
      {"a file among the checkpoints", "files", no_place, added("checkpoints/README.md")},
      {"a folder in the data", "files", no_place, added("data/more/x.tokens")},
      {"a program in the log", "files", no_place, added("ledger/run_me.py")},
      {"a shard that the manifest does not name", "states", "no shard", added("data/02-x.tokens")},
      {"a tile of no log", "states", "no tile", added("ledger/tile/0/000.p/0")},
      {"a tile of an older head with another hash", "log", "what the log had there",
       [](Forger& f) {
         const int64_t width = ledger::read_log(f.path() / "ledger")->head.size - 1;
         std::ofstream(f.path() / "ledger" / ledger::tile_path(0, 0, width))
             << std::string(static_cast<size_t>(32 * width), 'x');
       }},
      {"a tile of a newer head of a run that has ended", "states", "beyond the log's head",
       [](Forger& f) {
         const int64_t width = ledger::read_log(f.path() / "ledger")->head.size + 1;
         fs::copy_file(f.path() / f.tile(0), f.path() / "ledger" / ledger::tile_path(0, 0, width));
       }},
      {"a parent of a run that has none", "states", "began at random", added("branch.json")},
  };
}

// Runs that go on from a state of another one.
class Branches : public Attacks {
 protected:
  static void branch_off(const std::string& parent, const std::string& name,
                         std::vector<std::string> set) {
    set.insert(set.end(), {"checkpoint.autosave_seconds=3600", "train.tokens=5120"});
    const auto recipe = train::load_recipe("tests/recipes/tiny.toml", set);
    ASSERT_TRUE(recipe.ok()) << recipe.error().message;
    train::TrainRequest request;
    request.run_directory = directory_ / name;
    request.keys = directory_ / "keys";
    request.from = Forger(directory_ / parent, directory_ / "keys").state(10);
    Quiet quiet;
    const auto outcome = train::train(*recipe, request, *kernels_, *pool_, quiet);
    ASSERT_TRUE(outcome.ok()) << outcome.error().message;
  }
};

TEST_F(Branches, BeginWithTheStateThatTheyName) {
  // The same recipe, another seed and rate, another precision, and an optimizer that keeps less.
  branch_off("honest", "same", {});
  branch_off("honest", "other", {"run.seed=9", "optimizer.learning_rate=0.005"});
  branch_off("honest", "precise", {"train.precision=fp32"});
  branch_off("honest", "muon", {"optimizer.name=muon"});
  for (const char* name : {"same", "other", "precise", "muon"}) {
    const Report report = report_of(directory_ / name);
    EXPECT_TRUE(report.holds()) << name << report.to_json().dump(1);
    EXPECT_EQ(report.verdicts[0].verdict, "derived from another run");
    const bool declared = report.verdicts[0].reason.find("declared") != std::string::npos;
    EXPECT_EQ(declared, std::string_view(name) == "muon") << report.verdicts[0].reason;
  }
  branch_off("other-seed", "foreign", {});
  const json parent =
      Forger(directory_ / "same", directory_ / "keys").entry("commitment")["branch"];
  Forger forger(directory_ / "foreign", directory_ / "keys");
  forger.entry("commitment")["branch"] = parent;
  std::ofstream(forger.path() / "branch.json") << parent.dump(2) << "\n";
  forger.seal();
  const Report report = report_of(forger.path());
  EXPECT_FALSE(report.holds());
  EXPECT_NE(report.find("states")->detail.find("is not the state"), std::string::npos)
      << report.to_json().dump(1);
}

// Older logs have three keys of it: nothing is accused, and nothing is more than declared.
TEST_F(Branches, OlderOnesAreDeclared) {
  branch_off("honest", "older", {});
  Forger forger(directory_ / "older", directory_ / "keys");
  json& branch = forger.entry("commitment")["branch"];
  for (const char* key : {"from", "tokens", "seed", "arithmetic"}) branch.erase(key);
  forger.seal();
  const Report report = report_of(forger.path());
  EXPECT_TRUE(report.holds()) << report.to_json().dump(1);
  EXPECT_NE(report.verdicts[0].reason.find("declared"), std::string::npos);
  std::ofstream(forger.path() / "branch.json") << "{}\n";
  EXPECT_FALSE(report_of(forger.path(), false).holds());
}

// What killed processes leave, and one state that has no entry yet, are no forgeries.
TEST_F(Branches, KilledRunsAreNotAccused) {
  train_run("young", {}, "10%", 10);
  const fs::path run = directory_ / "young";
  for (const char* place : {"", "data", "checkpoints", "audit", "ledger", "ledger/tile/0"})
    std::ofstream(run / place / ".tmp-x-1") << "half";
  fs::create_directories(run / "checkpoints/.tmp-stage1-2/state");
  std::ofstream(run / "checkpoints/.tmp-stage1-2/state/x") << "half";
  EXPECT_TRUE(report_of(run).holds()) << report_of(run).to_json().dump(1);
  Forger forger(run, directory_ / "keys");
  forger.entries().pop_back();  // the entry of the state after step 10
  forger.sign();
  const Report report = report_of(run);
  EXPECT_TRUE(report.holds()) << report.to_json().dump(1);
  EXPECT_EQ(report.find("states")->outcome, Outcome::kOpen);
  EXPECT_NE(report.find("states")->detail.find("not in the log yet"), std::string::npos);
  // Without an entry, its files have the recipe to answer to all the same.
  const fs::path state = run / "checkpoints/stage1-step0000000010-tokens0000000000002560";
  std::ofstream(state / "README.md", std::ios::app) << "and more\n";
  EXPECT_FALSE(report_of(run).holds());
}

// A program or a name that changed on the way, before and after a state got its entry.
TEST_F(Branches, AnotherProgramMayGoOn) {
  const fs::path copy = copy_of("honest");
  Forger forger(copy, directory_ / "keys");
  const auto amendment = [&](const char* version) {
    return json{{"type", "amendment"},
                {"step", 10},
                {"time", forger.entry("commitment")["time"]},
                {"changes", {{"version", version}, {"name", "later"}}}};
  };
  auto& entries = forger.entries();
  const auto at = std::find_if(entries.begin(), entries.end(), [](const json& entry) {
    return entry["type"] == "checkpoint" && entry["step"] == 10;
  });
  entries.insert(at, amendment("9.9.9"));
  forger.sign();  // what follows was stored under the first claims, as one amendment allows
  EXPECT_TRUE(report_of(copy, false).holds()) << report_of(copy, false).to_json().dump(1);
  forger.seal();
  EXPECT_TRUE(report_of(copy, false).holds()) << report_of(copy, false).to_json().dump(1);
}

TEST_F(Attacks, OnStateFiles) { must_be_found(of_state_files()); }
TEST_F(Attacks, OnTensorFiles) { must_be_found(of_tensor_files()); }
TEST_F(Attacks, OnPlaces) { must_be_found(of_places()); }

}  // namespace
}  // namespace naite::verify
