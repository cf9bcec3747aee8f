// SPDX-License-Identifier: Apache-2.0
// The log as a state machine: a real log keeps the table of docs/LEDGER.md, and every change of it
// that gives an entry another meaning is refused.
#include "record/history.h"

#include <gtest/gtest.h>

#include <functional>
#include <sstream>

#include "ledger/ledger.h"
#include "record/run_list.h"

namespace naite::record {
namespace {

using nlohmann::json;
using Entries = std::vector<json>;

Entries real_log() {
  std::istringstream text(*read_file("tests/fuzz/history/run"));
  Entries out;
  for (std::string line; std::getline(text, line);) out.push_back(json::parse(line));
  return out;
}

Result<RunHistory> history_of(const Entries& entries) {
  std::vector<std::string> lines;
  for (const json& entry : entries) lines.push_back(*ledger::canonical_json(entry));
  return RunHistory::parse(lines);
}

// The number of the `count`-th entry of a type, from 0.
size_t at(const Entries& entries, const std::string& type, size_t count = 0) {
  for (size_t i = 0; i < entries.size(); ++i)
    if (entries[i]["type"] == type && count-- == 0) return i;
  NAITE_CHECK(false, "no {}", type);
}

json& entry(Entries& entries, const std::string& type, size_t count = 0) {
  return entries[at(entries, type, count)];
}

void insert(Entries& entries, size_t where, const json& value) {
  entries.insert(entries.begin() + static_cast<std::ptrdiff_t>(where), value);
}

json amendment(const Entries& entries, int64_t step, const json& changes) {
  return {{"type", "amendment"},
          {"step", step},
          {"changes", changes},
          {"time", entries.back()["time"]}};
}

struct Forgery {
  const char* name;
  const char* reason;  // part of what is said
  std::function<void(Entries&)> change;
};

void must_be_refused(const std::vector<Forgery>& forgeries) {
  for (const Forgery& forgery : forgeries) {
    Entries entries = real_log();
    forgery.change(entries);
    const Result<RunHistory> history = history_of(entries);
    ASSERT_FALSE(history.ok()) << forgery.name;
    EXPECT_NE(history.error().message.find(forgery.reason), std::string::npos)
        << forgery.name << ": " << history.error().message;
  }
}

// Takes out, doubles or moves the count-th entry of a type.
std::function<void(Entries&)> without(const std::string& type, size_t count = 0) {
  return [=](Entries& e) { e.erase(e.begin() + static_cast<std::ptrdiff_t>(at(e, type, count))); };
}
std::function<void(Entries&)> twice(const std::string& type, size_t count = 0) {
  return [=](Entries& e) {
    const size_t where = at(e, type, count);
    insert(e, where, json(e[where]));
  };
}
std::function<void(Entries&)> with(const std::string& type, const std::string& key,
                                   const json& value, size_t count = 0) {
  return [=](Entries& e) { entry(e, type, count)[key] = value; };
}
std::function<void(Entries&)> amended(int64_t step, const json& changes) {
  return [=](Entries& e) { insert(e, e.size() - 1, amendment(e, step, changes)); };
}

TEST(History, ARealLogAndEachOfItsBeginningsAreRead) {
  Entries entries = real_log();
  const Result<RunHistory> history = history_of(entries);
  ASSERT_TRUE(history) << history.error().message;
  EXPECT_TRUE(history->ended);
  EXPECT_EQ(history->stored.size(), 5u);
  EXPECT_EQ(history->find(10)->end_token, 2560);
  EXPECT_EQ(history->find(11), nullptr);
  EXPECT_EQ(history->plans().size(), 1u);
  while (!entries.empty()) {
    entries.pop_back();
    EXPECT_TRUE(history_of(entries).ok()) << entries.size();
  }
}

TEST(History, EntriesStandWhereTheTableHasThem) {
  must_be_refused({
      {"no commitment", "`seed` cannot follow nothing", without("commitment")},
      {"two commitments", "`commitment` cannot follow the commitment", twice("commitment")},
      {"no seed", "`initial` cannot follow the commitment", without("seed")},
      {"two seeds", "`seed` cannot follow the seed", twice("seed")},
      {"no initial tensors", "`checkpoint` cannot follow the seed", without("initial")},
      {"initial tensors again", "cannot follow the last of the initial", twice("initial")},
      {"no first checkpoint", "`steps` cannot follow the last of the initial",
       without("checkpoint")},
      {"two ends", "`end` cannot follow the end of the run", twice("end")},
      {"another type", "one of commitment", with("end", "type", "finish")},
      {"no type", "needs the key `type`", [](Entries& e) { e.back().erase("type"); }},
      {"no object", "must be a table", [](Entries& e) { e.back() = json::array(); }},
      {"an end before the end", "ended after 15",
       [](Entries& e) {
         e.erase(e.begin() + static_cast<std::ptrdiff_t>(at(e, "steps", 15)), e.end() - 1);
         e.back()["step"] = 15;
       }},
      {"the end of another state", "not the state of the last",
       with("end", "state", std::string(64, '0'))},
      {"abandoned at another step", "the last of the log",
       [](Entries& e) {
         e.back() = {{"type", "abandoned"}, {"step", 3}, {"reason", ""}, {"time", 1900000000}};
       }},
  });
}

TEST(History, NothingIsSuperseded) {
  must_be_refused({
      {"a checkpoint twice", "a second entry about step 10", twice("checkpoint", 2)},
      {"a first, other entry for a checkpoint", "a second entry about step 20",
       [](Entries& e) {
         json other = entry(e, "checkpoint", 4);
         other["manifest"] = std::string(64, '0');
         insert(e, at(e, "checkpoint", 4), other);
       }},
      {"an earlier checkpoint later", "`first_token` must be 1280",
       [](Entries& e) {
         const json moved = entry(e, "checkpoint", 2);
         without("checkpoint", 2)(e);
         insert(e, at(e, "checkpoint", 3), moved);
       }},
      {"a state of steps to come", "`step` must be one after",
       [](Entries& e) { std::swap(entry(e, "checkpoint", 2), entry(e, "steps", 9)); }},
      {"a step twice", "`first` must be 5", twice("steps", 3)},
      {"a step left out", "`first` must be 4", without("steps", 3)},
  });
}

TEST(History, ValuesAreThoseOfTheTable) {
  const std::string other(64, 'f');
  must_be_refused({
      {"no nonce", "`nonce` must be 32", with("commitment", "nonce", "")},
      {"a version of nobody", "`version` must be", with("commitment", "version", "99")},
      {"a source of nobody", "`source_commit` must be",
       with("commitment", "source_commit", "of the official release")},
      {"a name that writes on the terminal", "`name` must be",
       with("commitment", "name", "GPT\x1b[31m")},
      {"a name that turns", "`name` must be", with("commitment", "name", "\u202egpt")},
      {"another origin", "under the name `origin`",
       with("commitment", "origin", "example.org/team/other")},
      {"no key of checkpoints", "`model_key` must be", with("commitment", "model_key", "")},
      {"no P-256 key", "`model_key` must be", with("commitment", "model_key", "x")},
      {"a plan for another number of stages", "one entry for each of 1 stages",
       with("commitment", "plan", {{{"every", "25%"}}, {{"every", "25%"}}})},
      {"a plan with a note", "does not know the key",
       with("commitment", "plan", {{{"every", "25%"}, {"note", ""}}})},
      {"half a branch", "`state_digest` must be", with("commitment", "branch", {{"step", 0}})},
      {"a count in quotes", "`total` must be", with("initial", "total", "21")},
      {"fewer tensors than there are", "must have 300 entries",
       [](Entries& e) { entry(e, "initial")["total"] = 22; }},
      {"a beacon without its value", "`value` is what a beacon has",
       with("seed", "kind", "beacon")},
      {"no steps", "`steps` must be a list", with("steps", "steps", json::array())},
      {"steps as text", "`steps` must be a list", with("steps", "steps", "x")},
      {"half a step", "[loss bits", with("steps", "steps", {{"3ff0000000000000"}})},
      {"a better loss", "its loss is not that",
       [](Entries& e) { entry(e, "checkpoint", 2)["metrics"]["loss"] = 0.5; }},
      {"a loss before the first step", "there is no loss",
       [](Entries& e) { entry(e, "checkpoint")["metrics"]["loss"] = 0.5; }},
      {"a benchmark", "does not know the key",
       [](Entries& e) { entry(e, "checkpoint", 2)["metrics"]["mmlu"] = 0.99; }},
      {"tokens read twice", "`first_token` must be 1280", with("checkpoint", "first_token", 0, 2)},
      {"another directory", "plain name",
       with("checkpoint", "directory", "checkpoints/stage1-step0000000005-tokens0000000000001280",
            2)},
      {"a directory without a stage", "plain name",
       with("checkpoint", "directory", "checkpoints/final", 2)},
      {"time that goes back", "before that of an earlier entry", with("end", "time", 0)},
      {"a time in quotes", "`time` must be", with("end", "time", "1")},
  });
}

TEST(History, AmendmentsChangeWhatDecidesNoBitAndOnlyFromThenOn) {
  must_be_refused({
      {"at a step to come", "`step` must be one", amended(9999999, {{"name", "x"}})},
      {"of the past", "`step` must be one", amended(15, {{"name", "x"}})},
      {"of what decides bits", "does not know the key", amended(20, {{"parameters", 1}})},
      {"with a remark", "does not know the key", amended(20, {{"note", "audited"}})},
      {"of nothing", "is empty", amended(20, json::object())},
      {"that changes nothing", "was that before", amended(20, {{"name", "tiny"}})},
      {"of a digest by a word", "must be a SHA-256", amended(20, {{"recipe_sha256", "x"}})},
      {"of a plan by a word", "must be a list", amended(20, {{"plan", "x"}})},
  });
  Entries entries = real_log();
  amended(20, {{"version", "0.2.0"}, {"plan", {{{"every", "5%"}}}}})(entries);
  const Result<RunHistory> history = history_of(entries);
  ASSERT_TRUE(history) << history.error().message;
  EXPECT_EQ(history->amended().version, "0.2.0");
  ASSERT_EQ(history->plans().size(), 2u);
  EXPECT_EQ(history->plans()[0].after, -1);
  EXPECT_EQ(history->plans()[1].after, 20);
}

TEST(History, AStateForReplaysMeasuresNothing) {
  const auto with_state = [](const json& validation) {
    Entries entries = real_log();
    json state = entry(entries, "checkpoint", 2);
    state["type"] = "state";
    state["step"] = 6;
    state["first_token"] = 0;
    state["directory"] = "audit/step0000000006";
    uint64_t bits =
        std::stoull(entry(entries, "steps", 5)["steps"][0][0].get<std::string>(), nullptr, 16);
    state["metrics"] = {{"loss", std::bit_cast<double>(bits)}, {"validation", validation}};
    insert(entries, at(entries, "steps", 6), state);
    return history_of(entries);
  };
  EXPECT_TRUE(with_state(nullptr).ok());
  Entries entries = real_log();
  const json measured = entry(entries, "checkpoint", 1)["metrics"]["validation"];
  EXPECT_TRUE(with_state(measured).ok());  // as older logs repeat it
  json better = measured;
  better.front()["loss"] = 0.5;
  EXPECT_FALSE(with_state(better).ok());
}

TEST(History, ARunIsListedOnceAndEndsOnce) {
  const json run = {{"type", "run"},
                    {"origin", "example.org/team/a"},
                    {"commitment", std::string(64, '0')},
                    {"time", 1}};
  const json end = {{"type", "end"},
                    {"origin", "example.org/team/a"},
                    {"size", 3},
                    {"root", std::string(64, '0')}};
  const auto read = [](const Entries& entries) {
    std::vector<std::string> lines;
    for (const json& entry : entries) lines.push_back(*ledger::canonical_json(entry));
    return RunList::parse(lines, "example.org/team");
  };
  EXPECT_EQ(read({run, end})->num_ended(), 1);
  const auto changed = [](json entry, const char* key, const json& value) {
    entry[key] = value;
    return entry;
  };
  for (const Entries& bad : {Entries{end},
                             {run, run},
                             {run, end, end},
                             {run, changed(run, "time", 2)},
                             {changed(run, "note", "")},
                             {changed(run, "origin", "example.org/other/a")},
                             {run, changed(end, "size", "3")},
                             {changed(run, "type", "state")}})
    EXPECT_FALSE(read(bad).ok()) << json(bad).dump();
}

TEST(History, SummariesAreOfEntriesWithTheirForms) {
  for (const json& good : real_log()) {
    ASSERT_TRUE(check_entry(good, run_rules(), "entry").ok());
    EXPECT_FALSE(entry_summary(good).empty());
    for (const auto& [key, value] : good.items()) {
      for (const json& other : {json(nullptr), json(-1.5), json("\x1b[2J"), json::array({1})}) {
        json bad = good;
        bad[key] = other;
        // Either refused, or its summary is that of a value that may stand there.
        const bool passes = check_entry(bad, run_rules(), "entry").ok();
        EXPECT_TRUE(!passes || !entry_summary(bad).empty());
      }
    }
  }
}

}  // namespace
}  // namespace naite::record
