// SPDX-License-Identifier: Apache-2.0
// The table of attacks, continued: on what the log says. Entries that contradict each other, the
// plan or the publisher's log of runs, written by somebody who holds every key.
#include <bit>
#include <fstream>

#include "verify/attack_testing.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

size_t index_of(Forger& forger, const std::string& type, size_t number) {
  return static_cast<size_t>(&forger.entry(type, number) - forger.entries().data());
}

void insert(Forger& forger, size_t at, const json& entry) {
  forger.entries().insert(forger.entries().begin() + static_cast<std::ptrdiff_t>(at), entry);
}

double loss_of(const json& step) {
  return std::bit_cast<double>(std::stoull(step[0].get<std::string>(), nullptr, 16));
}

// Where each checkpoint begins, after one was taken out.
void put_first_tokens(Forger& forger) {
  int64_t end = 0;
  for (json& entry : forger.entries())
    if (entry["type"] == "checkpoint") {
      entry["first_token"] = end;
      end = entry["end_token"];
    }
}

void cut_state(Forger& forger, int64_t step) {
  fs::remove_all(forger.state(step));
  std::erase_if(forger.entries(), [&](const json& entry) {
    return entry.contains("directory") && entry["step"] == step;
  });
  put_first_tokens(forger);
}

// An amendment before the end.
void amend(Forger& forger, int64_t step, const json& changes) {
  insert(forger, forger.entries().size() - 1,
         {{"type", "amendment"},
          {"step", step},
          {"changes", changes},
          {"time", forger.entry("end")["time"]}});
  forger.sign();
}

// The publisher's log of runs, signed.
void list_runs(const Forger& forger, const std::vector<json>& entries) {
  const fs::path runs = forger.path() / "ledger/publisher";
  fs::remove_all(runs);
  ledger::LogWriter log =
      *ledger::LogWriter::open(runs, ledger::load_keys(forger.path().parent_path() / "keys")->log);
  std::vector<std::string> lines;
  for (const json& entry : entries) lines.push_back(*ledger::canonical_json(entry));
  ASSERT_TRUE(log.append(lines).ok());
}

json listed_run(Forger& forger) {
  return {{"type", "run"},
          {"origin", forger.signer().name()},
          {"commitment", sha256_hex(*ledger::canonical_json(forger.entry("commitment")))},
          {"time", forger.entry("commitment")["time"]}};
}

json listed_end(Forger& forger) {
  const ledger::LogContent log = *ledger::read_log(forger.path() / "ledger");
  return {{"type", "end"},
          {"origin", forger.signer().name()},
          {"size", log.head.size},
          {"root", ledger::to_hex(log.head.root)}};
}

// States that are not those of the plan.
std::vector<Attack> of_the_plan() {
  return {
      {"a state cut out of the middle", "plan", "the plan stores",
       [](Forger& f) {
         cut_state(f, 10);
         f.sign();
       }},
      {"a checkpoint that is kept as a state for replays", "plan", "the plan has a checkpoint",
       [](Forger& f) {
         for (json& entry : f.entries())
           if (entry.contains("directory") && entry["step"] == 5) {
             for (const char* name : {"model.sig", "provenance.json", "bom.cdx.json"})
               fs::remove(f.state(5) / name);
             fs::rename(f.state(5), f.path() / "audit/step0000000005");
             entry["type"] = "state";
             entry["directory"] = "audit/step0000000005";
             entry["first_token"] = 0;
             entry["metrics"]["validation"] = nullptr;
             break;
           }
         put_first_tokens(f);
         f.seal();
       }},
      {"a state that no plan has", "plan", "its plan has none",
       [](Forger& f) {
         fs::copy(f.state(6), f.path() / "audit/step0000000007", fs::copy_options::recursive);
         json entry = f.entry("state", 2);
         ASSERT_EQ(entry["step"], 6);
         entry["step"] = 7;
         entry["directory"] = "audit/step0000000007";
         json& steps = f.entry("steps", 4)["steps"];
         ASSERT_EQ(steps.size(), 2u);
         entry["metrics"]["loss"] = loss_of(steps[0]);
         const json last = {{"type", "steps"}, {"first", 8}, {"steps", json::array({steps[1]})}};
         steps.erase(1);
         const size_t at = index_of(f, "steps", 4) + 1;
         insert(f, at, entry);
         insert(f, at + 1, last);
         f.seal();
       }},
      {"another plan for what was done", "log", "`step` must be one",
       [](Forger& f) {
         amend(f, 0, {{"plan", {{{"every", "50%"}}}}});
       }},
      {"a plan that left states out", "plan", "its plan has none",
       [](Forger& f) {
         const json change = {{"type", "amendment"},
                              {"step", 5},
                              {"changes", {{"plan", {{{"every", "25%"}}}}}},
                              {"time", f.entry("commitment")["time"]}};
         insert(f, index_of(f, "checkpoint", 1) + 1, change);
         f.sign();
       }},
  };
}

// Entries that supersede, amend or praise.
std::vector<Attack> of_entries() {
  return {
      {"a first entry that a second one supersedes", "log", "a second entry about step 20",
       [](Forger& f) {
         json other = f.entry("checkpoint", 4);
         other["manifest"] = other["weights"] = std::string(64, 'a');
         insert(f, index_of(f, "checkpoint", 4), other);
         f.sign();
       }},
      {"an amendment of steps to come", "log", "`step` must be one",
       [](Forger& f) {
         amend(f, 9999999, {{"name", "x"}});
       }},
      {"an amendment of what decides bits", "log", "does not know",
       [](Forger& f) {
         amend(f, 20, {{"data_digest", std::string(64, '1')}});
       }},
      {"a praise as an amendment", "log", "does not know",
       [](Forger& f) {
         amend(f, 20, {{"note", "audited by example.edu"}});
       }},
      {"words behind the root of a head", "log", "lines behind the root",
       [](Forger& f) {
         const std::string text =
             ledger::read_log(f.path() / "ledger")->head.text() + "audited by example.edu\n";
         std::ofstream(f.path() / "ledger/checkpoint", std::ios::binary)
             << text << "\n"
             << f.signer().signature_line(text);
       }},
  };
}

// Values that nothing stands for.
std::vector<Attack> of_values() {
  return {
      {"a commitment without a nonce", "log", "`nonce`",
       [](Forger& f) {
         f.entry("commitment")["nonce"] = "";
         f.sign();
       }},
      {"a name that writes on terminals", "log", "`name`",
       [](Forger& f) {
         f.entry("commitment")["name"] = "GPT\x1b[31m";
         f.sign();
       }},
      {"a benchmark among the metrics", "log", "does not know",
       [](Forger& f) {
         f.entry("checkpoint", 4)["metrics"]["mmlu"] = 0.99;
         f.sign();
       }},
      {"held-out text that there is not", "plan", "no held-out text of exams",
       [](Forger& f) {
         f.entry("checkpoint", 4)["metrics"]["validation"]["exams"] = {{"loss", 0.1},
                                                                       {"bits_per_byte", 0.1}};
         f.sign();
       }},
      {"tokens that a checkpoint did not read", "log", "`first_token`",
       [](Forger& f) {
         f.entry("checkpoint", 4)["first_token"] = 0;
         f.sign();
       }},
  };
}

// The publisher's log of runs.
std::vector<Attack> of_lists() {
  return {
      {"a run that is listed twice", "publisher", "a second time",
       [](Forger& f) {
         json other = listed_run(f);
         other["commitment"] = std::string(64, '0');
         list_runs(f, {listed_run(f), other});
       }},
      {"a remark in the log of runs", "publisher", "does not know",
       [](Forger& f) {
         json run = listed_run(f);
         run["note"] = "from scratch";
         list_runs(f, {run});
       }},
      {"an end without its run", "publisher", "without having begun",
       [](Forger& f) {
         list_runs(f, {listed_end(f), listed_run(f)});
       }},
      {"an end of another log", "publisher", "ended otherwise",
       [](Forger& f) {
         json end = listed_end(f);
         end["root"] = std::string(64, '0');
         list_runs(f, {listed_run(f), end});
       }},
      {"a log that was cut off after its end was listed", "publisher", "it was cut off",
       [](Forger& f) {
         const json end = listed_end(f);
         f.entries().resize(f.entries().size() - 1);
         f.sign();
         list_runs(f, {listed_run(f), end});
       }},
  };
}

class AttacksOnTheLog : public Attacks {};

TEST_F(AttacksOnTheLog, OnThePlan) { must_be_found(of_the_plan()); }
TEST_F(AttacksOnTheLog, OnEntries) { must_be_found(of_entries()); }
TEST_F(AttacksOnTheLog, OnValues) { must_be_found(of_values()); }
TEST_F(AttacksOnTheLog, OnListsOfRuns) { must_be_found(of_lists()); }

}  // namespace
}  // namespace naite::verify
