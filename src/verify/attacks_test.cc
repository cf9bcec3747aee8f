// SPDX-License-Identifier: Apache-2.0
// The table of attacks: what a forger who holds all keys does, and which check must find it. Sealed
// forgeries are consistent with themselves everywhere (verify/forger_testing.h).
#include <sys/stat.h>

#include <cmath>
#include <fstream>

#include "verify/attack_testing.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string relative(const Forger& forger, int64_t step) {
  return forger.state(step).lexically_relative(forger.path()).string();
}

// Files changed after publication, by somebody without keys.
std::vector<Attack> without_keys() {
  auto flip = [](const std::string& file, double where = 0.5) {
    return [file, where](Forger& f) { f.flip(file, where); };
  };
  auto in_state = [](int64_t step, const std::string& file, double where = 0.5) {
    return [=](Forger& f) { f.flip(relative(f, step) + "/" + file, where); };
  };
  return {
      {"a bit of the weights", "bytes", "damaged", in_state(10, "model.safetensors", 0.9)},
      {"a bit of the moments", "bytes", "damaged",
       in_state(10, "state/optimizer.safetensors", 0.9)},
      {"a bit of an audit state", "bytes", "damaged", in_state(4, "model.safetensors", 0.9)},
      {"a bit of a cursor", "bytes", "damaged", in_state(5, "state/cursor.json")},
      {"a bit of config.json", "bytes", "damaged", in_state(5, "config.json")},
      {"a bit of a model card", "bytes", "damaged", in_state(15, "README.md")},
      {"a bit of record.json", "bytes", "", in_state(5, "record.json", 0.2)},
      {"a bit of the provenance", "bytes", "its files are not", in_state(5, "provenance.json")},
      {"a bit of a model signature", "states", "", in_state(5, "model.sig", 0.8)},
      {"a bit of a shard", "data", "SHA-256", flip("data/00-licence-train-00000.tokens")},
      {"a bit of the document starts", "data", "SHA-256",
       flip("data/00-licence-train-00000.starts")},
      {"a bit of the tokenizer", "recipe", "tokenizer.json", flip("tokenizer.json")},
      {"a bit of the tokenizer's config", "recipe", "tokenizer_config",
       flip("tokenizer_config.json")},
      {"a bit of the manifest", "recipe", "", flip("data/manifest.json", 0.7)},
      {"a shard that seems to be endless", "data", "its size",
       [](Forger& f) {
         fs::resize_file(f.path() / "data/00-licence-train-00000.tokens", uintmax_t{1} << 40);
       }},
      {"the rate in recipe.toml", "recipe", "learning_rate",
       [](Forger& f) {
         f.edit("recipe.toml", [](std::string& text) {
           text.replace(text.find("learning_rate = 0.01"), 20, "learning_rate = 0.02");
         });
       }},
      {"a bit of the entries", "log", "", [](Forger& f) { f.flip(f.tile(ledger::kEntriesLevel)); }},
      {"a bit of a hash tile", "log", "hashes", [](Forger& f) { f.flip(f.tile(0)); }},
      {"a bit of the head's root", "log", "", flip("ledger/checkpoint", 0.25)},
      {"another letter in the head's signature", "signature", "wrong",
       [](Forger& f) {
         f.edit("ledger/checkpoint", [](std::string& text) {
           char& letter = text[text.size() - 10];
           letter = letter == 'A' ? 'B' : 'A';
         });
       }},
      {"a bit of the log of runs", "publisher", "", flip("ledger/publisher/tile/0/000.p/2")},
  };
}

// Logs written anew under the right key.
std::vector<Attack> of_logs() {
  return {
      {"a log cut off before its last state", "states", "not in the log",
       [](Forger& f) {
         f.entries().resize(f.entries().size() - 3);
         f.sign();
       }},
      {"an old head served again", "states", "not in the log",
       [](Forger& f) {
         f.entries().resize(8);
         f.sign();
       }},
      {"a state that cannot be fetched", "bytes", "cannot be found",
       [](Forger& f) { fs::remove_all(f.state(6)); }},
  };
}

// Entries that no run has.
std::vector<Attack> of_entries() {
  return {
      {"steps left out", "log", "must be a list",
       [](Forger& f) {
         f.entry("steps", 2)["steps"].erase(0);
         f.sign();
       }},
      {"a step entered twice", "log", "first",
       [](Forger& f) {
         json& steps = f.entry("steps", 2)["steps"];
         steps.push_back(steps.back());
         f.sign();
       }},
      {"an entry after the end", "log", "cannot follow the end",
       [](Forger& f) {
         f.entries().push_back(f.entry("seed"));
         f.sign();
       }},
      {"two seeds", "log", "cannot follow the seed",
       [](Forger& f) {
         f.entries().insert(f.entries().begin() + 2, f.entry("seed"));
         f.sign();
       }},
      {"an end before the planned end", "log", "ended after 18",
       [](Forger& f) {
         std::erase_if(f.entries(), [](const json& entry) {
           return (entry["type"] == "steps" && entry["first"] == 19) ||
                  (entry.contains("directory") && entry["step"] == 20);
         });
         fs::remove_all(f.path() / "checkpoints/stage1-step0000000020-tokens0000000000005120");
         f.entry("end")["step"] = 18;
         f.seal_states();
         f.sign();
       }},
      {"an unknown key in an entry", "log", "does not know",
       [](Forger& f) {
         f.entry("seed")["note"] = "";
         f.sign();
       }},
      {"a path out of the run", "log", "plain name",
       [](Forger& f) {
         f.entry("checkpoint")["directory"] = "checkpoints/../../keys";
         f.sign();
       }},
  };
}

// What lies around the entries.
std::vector<Attack> of_log_files() {
  return {
      {"a head with more entries than there are", "log", "",
       [](Forger& f) {
         ledger::Head head = ledger::read_log(f.path() / "ledger")->head;
         ++head.size;
         f.sign_head(head);
       }},
      {"a head of absurd size", "log", "too many",
       [](Forger& f) {
         f.sign_head({f.signer().name(), int64_t{1} << 60, {}});
       }},
      {"a head with another root", "log", "root",
       [](Forger& f) {
         ledger::Head head = ledger::read_log(f.path() / "ledger")->head;
         head.root[5] ^= 1;
         f.sign_head(head);
       }},
      {"an oversized bundle", "log", "at most",
       [](Forger& f) {
         fs::resize_file(f.path() / f.tile(ledger::kEntriesLevel), uintmax_t{1} << 25);
       }},
      {"bytes behind the last entry", "log", "behind the last",
       [](Forger& f) {
         f.edit(f.tile(ledger::kEntriesLevel), [](std::string& text) { text += "x"; });
       }},
      {"a run that its publisher never listed", "publisher", "does not list",
       [](Forger& f) {
         f.entry("commitment")["time"] = 1;
         const fs::path runs = f.path() / "ledger/publisher", kept = f.path() / "kept";
         fs::rename(runs, kept);
         f.sign();
         fs::remove_all(runs);
         fs::rename(kept, runs);
       }},
      {"a link to a state", "files", "link",
       [](Forger& f) {
         const fs::path state = f.state(5), moved = f.path() / "moved";
         fs::rename(state, moved);
         fs::create_symlink(moved, state);
       }},
      {"a link out of the run", "files", "link",
       [](Forger& f) { fs::create_symlink("/etc/passwd", f.path() / "data/x"); }},
      {"a pipe that stalls readers", "files", "no plain file",
       [](Forger& f) { ASSERT_EQ(mkfifo((f.path() / "ledger/x").c_str(), 0600), 0); }},
  };
}

// Claims changed and everything sealed again.
std::vector<Attack> of_claims() {
  auto edit_recipe = [](const std::string& from, const std::string& to) {
    return [=](Forger& f) {
      f.edit("recipe.toml", [&](std::string& text) {
        const size_t at = text.find(from);
        NAITE_CHECK(at != std::string::npos, "{}", from);
        text.replace(at, from.size(), to);
      });
      f.seal();
    };
  };
  return {
      {"another learning rate claimed", "replay", "other bits",
       edit_recipe("learning_rate = 0.01", "learning_rate = 0.011")},
      {"another weight decay claimed", "replay", "other bits",
       edit_recipe("weight_decay = 0.1", "weight_decay = 0.2")},
      {"another schedule claimed", "replay", "do not lead",
       edit_recipe("kind = 'wsd'", "kind = 'cosine'")},
      {"another seed claimed in the recipe", "seed", "the recipe 9",
       edit_recipe("seed = 7", "seed = 9")},
      {"another seed claimed everywhere", "batches", "other data",
       [=](Forger& f) {
         f.entry("seed")["seed"] = "9";
         edit_recipe("seed = 7", "seed = 9")(f);
       }},
      {"an unknown arithmetic", "recipe", "arithmetic",
       [](Forger& f) {
         f.edit("recipe.toml",
                [](std::string& text) { text.replace(text.find("chain-1"), 7, "chain-2"); });
         f.entry("commitment")["arithmetic"] = "chain-2";
         f.sign();
       }},
      {"a beacon that the seed does not follow from", "seed", "different things",
       [](Forger& f) {
         f.entry("seed") = {{"type", "seed"}, {"kind", "beacon"}, {"seed", "7"}, {"value", "00"}};
         f.sign();
       }},
  };
}

// Data and tokenizer.
std::vector<Attack> of_data() {
  return {
      {"other tokens in a shard", "batches", "other data",
       [](Forger& f) {
         f.edit("data/00-licence-train-00000.tokens", [](std::string& text) {
           for (size_t i = 2; i + 1 < text.size(); i += 2)
             if (text[i + 1] == 0) text[i] = static_cast<char>(text[i] ^ 1);
         });
         f.seal();
       }},
      {"a token that no vocabulary has", "data", "has the id",
       [](Forger& f) {
         f.edit("data/00-licence-train-00000.tokens",
                [](std::string& text) { text[2001] = '\x7f'; });
         f.seal();
       }},
      {"a document that begins elsewhere", "data", "does not begin",
       [](Forger& f) {
         f.edit("data/00-licence-train-00000.starts", [](std::string& text) { text[16] ^= 2; });
         f.seal();
       }},
      {"another tokenizer_config.json", "recipe", "plain bytes",
       [](Forger& f) {
         f.edit("tokenizer_config.json", [](std::string& text) { text += "\n"; });
         f.seal();
       }},
      {"another tokenizer", "recipe", "plain bytes",
       [](Forger& f) {
         f.edit("tokenizer.json", [](std::string& text) { text.insert(text.find('{') + 1, " "); });
         f.seal();
       }},
      {"a held-out text that is another one", "text", "shards",
       [](Forger& f) {
         f.edit("data/00-licence-validation-00000.tokens",
                [](std::string& text) { text[20] ^= 1; });
         f.seal();
       }},
  };
}

// What is said about states and steps.
std::vector<Attack> of_states() {
  return {
      {"a model card for another architecture", "states", "not what the recipe",
       [](Forger& f) {
         f.edit_json(relative(f, 20) + "/config.json", [](json& c) { c["rope_theta"] = 5e5; });
         f.seal();
       }},
      {"better validation losses", "replay", "validation losses",
       [](Forger& f) {
         f.edit_json(relative(f, 20) + "/record.json",
                     [](json& r) { r["validation"]["licence"]["loss"] = 1.5; });
         f.entry("checkpoint", 4)["metrics"]["validation"]["licence"]["loss"] = 1.5;
         f.seal();
       }},
      {"better validation losses before the first step", "replay", "validation losses",
       [](Forger& f) {
         f.edit_json(relative(f, 0) + "/record.json",
                     [](json& r) { r["validation"]["licence"]["loss"] = 1.5; });
         f.entry("checkpoint", 0)["metrics"]["validation"]["licence"]["loss"] = 1.5;
         f.seal();
       }},
      {"a better training loss in a checkpoint", "log", "its loss",
       [](Forger& f) {
         f.entry("checkpoint", 2)["metrics"]["loss"] = 1.5;
         f.seal();
       }},
      {"other bits of the loss before a state", "log", "its loss",
       [](Forger& f) {
         f.entry("steps", 3)["steps"][0][0] = "3ff0000000000000";
         f.seal();
       }},
      {"other bits of a logged loss", "replay", "other bits",
       [](Forger& f) {
         f.entry("steps", 4)["steps"][0][0] = "3ff0000000000000";
         f.seal();
       }},
      {"other bits of a logged gradient norm", "replay", "other bits",
       [](Forger& f) {
         f.entry("steps", 1)["steps"][0][1] = "3ff0000000000000";
         f.seal();
       }},
      {"another batch in the log", "batches", "other data",
       [](Forger& f) {
         f.entry("steps", 1)["steps"][0][2] = std::string(64, '0');
         f.seal();
       }},
      {"an initial tensor of the log", "initial", "not what the seed gives",
       [](Forger& f) {
         f.entry("initial")["tensors"].begin().value() = std::string(64, '0');
         f.seal();
       }},
      {"a file smuggled into a checkpoint", "bytes", "no part of a stored state",
       [](Forger& f) { std::ofstream(f.state(10) / "run_me.py") << "print()\n"; }},
      {"a checkpoint that is not in the log", "states", "not in the log",
       [](Forger& f) {
         fs::create_directories(f.path() / "checkpoints/stage1-step0000000021-tokens00");
       }},
      {"two checkpoints in each other's place", "replay", "",
       [](Forger& f) {
         const fs::path a = f.state(5), b = f.state(10), aside = f.path() / "aside";
         fs::rename(a, aside);
         fs::rename(b, a);
         fs::rename(aside, b);
         f.seal();
       }},
  };
}

// Weights and training forged, everything sealed again.
std::vector<Attack> of_weights() {
  const auto nothing = [](formats::TrainingState&) {};
  auto flip = [](int64_t step, const std::string& file, const std::string& tensor) {
    return [=](Forger& f) {
      f.flip_tensor(f.state(step) / file, tensor);
      f.seal();
    };
  };
  const std::string moments = "state/optimizer.safetensors";
  const std::string down = "model.layers.1.mlp.down_proj.weight";
  return {
      {"a bit of sealed weights", "replay", "", flip(10, "model.safetensors", down)},
      {"a bit of sealed masters", "replay", "", flip(10, moments, "master." + down)},
      {"a bit of sealed first moments", "replay", "", flip(14, moments, "m." + down)},
      {"a bit of sealed second moments", "replay", "", flip(2, moments, "v." + down)},
      {"a bit of the last state", "replay", "", flip(20, moments, "m." + down)},
      {"moments that do not begin at zero", "initial", "zero", flip(0, moments, "m." + down)},
      {"initial weights that are not the seed's", "initial", "zero",
       flip(0, moments, "master." + down)},
      {"the weights of another model at the start", "initial", "",
       [=](Forger& f) {
         for (const char* file : {"model.safetensors", "state/optimizer.safetensors"})
           fs::copy(Forger(f.path().parent_path() / "other-seed", "").state(0) / file,
                    f.state(0) / file, fs::copy_options::overwrite_existing);
         f.seal_states();
         f.train_on(0, nothing, honest_step);
         f.seal();
       }},
      {"final weights as an early checkpoint", "distinct", "same weights",
       [](Forger& f) {
         for (const char* file : {"model.safetensors", "state/optimizer.safetensors"})
           fs::copy(f.state(20) / file, f.state(5) / file, fs::copy_options::overwrite_existing);
         f.seal();
       }},
      {"final weights, slightly changed, as an early checkpoint", "replay", "",
       [=](Forger& f) {
         for (const char* file : {"model.safetensors", "state/optimizer.safetensors"})
           fs::copy(f.state(20) / file, f.state(5) / file, fs::copy_options::overwrite_existing);
         f.flip_tensor(f.state(5) / "model.safetensors", down);
         f.seal();
       }},
      {"another model's weights imported in the middle", "replay", "do not lead",
       [](Forger& f) {
         formats::TrainingState other;
         f.train_on(
             8,
             [](formats::TrainingState& state) {
               for (float& value : state.masters) value = -value;
             },
             honest_step);
         f.seal();
       }},
      {"a tenth of another model mixed in", "replay", "do not lead",
       [](Forger& f) {
         f.train_on(
             12,
             [](formats::TrainingState& state) {
               for (float& value : state.masters) value += 0.1f * std::abs(value);
             },
             honest_step);
         f.seal();
       }},
  };
}

// Steps done otherwise.
std::vector<Attack> of_steps() {
  const auto nothing = [](formats::TrainingState&) {};
  // Data of another step from step `at` on, or for that step alone; honestly logged or not.
  auto other_data = [=](int64_t at, bool from_there_on, bool admitted) {
    return [=](Forger& f) {
      f.train_on(0, nothing, [=](train::Engine& engine, const data::Loader& loader, int64_t step) {
        const bool other = from_there_on ? step >= at : step == at;
        train::StepResult result = *engine.gradient(loader, other ? (step + 1) % 20 : step);
        NAITE_CHECK(engine.update(step, result.grad_norm).ok());
        if (!admitted) {
          const train::Curriculum curriculum = f.curriculum();
          const train::Recipe& recipe = curriculum.first();
          std::vector<Batch> batches = train::make_batches(recipe);
          train::fill_batches(recipe, loader, step, batches);
          result.batch = digest_of(batches);
        }
        return result;
      });
      f.seal();
    };
  };
  return {
      {"another learning rate for ten steps", "replay", "",
       [=](Forger& f) {
         f.train_on(0, nothing,
                    [](train::Engine& engine, const data::Loader& loader, int64_t step) {
                      const train::StepResult result = *engine.gradient(loader, step);
                      const int64_t admitted = step >= 5 && step < 15 ? step / 2 : step;
                      NAITE_CHECK(engine.update(admitted, result.grad_norm).ok());
                      return result;
                    });
         f.seal();
       }},
      {"a step on other data, denied", "replay", "other bits", other_data(7, false, false)},
      {"a step on other data, admitted", "batches", "step 8", other_data(7, false, true)},
      {"data skipped, admitted", "batches", "step 4", other_data(3, true, true)},
      {"data skipped, denied", "replay", "other bits", other_data(3, true, false)},
      {"a gradient made smaller", "replay", "",
       [=](Forger& f) {
         f.train_on(0, nothing,
                    [](train::Engine& engine, const data::Loader& loader, int64_t step) {
                      const train::StepResult result = *engine.gradient(loader, step);
                      NAITE_CHECK(engine.update(step, step == 11 ? 1e3 : result.grad_norm).ok());
                      return result;
                    });
         f.seal();
       }},
  };
}

TEST_F(Attacks, WithoutKeys) { must_be_found(without_keys()); }
TEST_F(Attacks, OnLogs) { must_be_found(of_logs()); }
TEST_F(Attacks, OnEntries) { must_be_found(of_entries()); }
TEST_F(Attacks, OnLogFiles) { must_be_found(of_log_files()); }
TEST_F(Attacks, OnClaims) { must_be_found(of_claims()); }
TEST_F(Attacks, OnData) { must_be_found(of_data()); }
TEST_F(Attacks, OnStates) { must_be_found(of_states()); }
TEST_F(Attacks, OnWeights) { must_be_found(of_weights()); }
TEST_F(Attacks, OnSteps) { must_be_found(of_steps()); }

}  // namespace
}  // namespace naite::verify
