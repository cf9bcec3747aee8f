// SPDX-License-Identifier: Apache-2.0
// What a verification says about honest runs, whom it trusts, what it samples.
#include "verify/verify.h"

#include <set>

#include "base/clock.h"
#include "verify/fixture_testing.h"
#include "verify/replays.h"
#include "verify/states.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

TEST_F(Verify, AnHonestRunHolds) {
  const Report report = report_of(directory_ / "honest", true, true, trusting(directory_ / "keys"));
  for (const Check& check : report.checks)
    EXPECT_EQ(check.outcome, Outcome::kHolds) << check.name << ": " << check.detail;
  EXPECT_EQ(report.replays.size(), 12u);
  EXPECT_EQ(report.verdicts[0].verdict, "from scratch");
  EXPECT_NE(report.sentence.find("12 of 12 intervals"), std::string::npos) << report.sentence;
  EXPECT_NE(report.sentence.find("distillation"), std::string::npos);
  EXPECT_TRUE(report.to_json()["holds"].get<bool>());
}

TEST_F(Verify, TheForgerLeavesAnHonestRunHonest) {
  const fs::path copy = copy_of("honest");
  Forger forger(copy, directory_ / "keys");
  forger.train_on(
      6, [](formats::TrainingState&) {}, honest_step);
  forger.seal();
  const Report report = report_of(copy, true, true);
  EXPECT_TRUE(report.holds()) << report.to_json().dump(1);
}

TEST_F(Verify, TheKeyOfAnotherIsNotTrusted) {
  ASSERT_TRUE(ledger::make_keys(directory_ / "mallory", "example.org/team").ok());
  const Report report =
      report_of(directory_ / "honest", false, false, trusting(directory_ / "mallory"));
  EXPECT_FALSE(report.holds());
  EXPECT_EQ(report.find("signature")->outcome, Outcome::kFails);
  Policy policy = trusting(directory_ / "keys");
  const ledger::Signer witness = *ledger::Signer::make("witness.example");
  policy.witnesses.push_back(witness.verifier(ledger::KeyType::kCosignature));
  policy.quorum = 1;
  EXPECT_FALSE(report_of(directory_ / "honest", false, false, policy).holds());
  // A witness counts for the head that it has seen.
  const fs::path copy = copy_of("honest");
  const std::string head = *read_file(copy / "ledger/checkpoint");
  const std::string text = ledger::Note::parse(head, "head")->text;
  ASSERT_TRUE(
      write_file(copy / "ledger/checkpoint", head + witness.cosignature_line(text, unix_seconds()))
          .ok());
  EXPECT_TRUE(report_of(copy, false, false, policy).holds());
  const std::string other = ledger::Head{"example.org/other", 1, {}}.text();
  ASSERT_TRUE(
      write_file(copy / "ledger/checkpoint", head + witness.cosignature_line(other, unix_seconds()))
          .ok());
  EXPECT_FALSE(report_of(copy, false, false, policy).holds());
}

TEST_F(Verify, SamplesBeginAtTheSeedAndSayWhatTheyMiss) {
  VerifyRequest request;
  request.run = directory_ / "honest";
  request.replay.kind = Selection::Kind::kSample;
  request.replay.sample = 5;
  const Report report = *verify(request, *kernels_, *pool_);
  ASSERT_EQ(report.replays.size(), 5u);
  EXPECT_EQ(report.replays[0].first_step, 0);
  std::set<int64_t> steps;
  for (const Replay& replay : report.replays) {
    EXPECT_TRUE(replay.same_bits);
    steps.insert(replay.first_step);
  }
  EXPECT_EQ(steps.size(), 5u);
  // 12 intervals, the first and two of large change apart: 2 drawn of 9.
  EXPECT_NEAR(report.miss_one, 7.0 / 9, 1e-12);
  EXPECT_NEAR(report.miss_tenth, 7.0 * 6 / (9 * 8), 1e-12);
  EXPECT_NEAR(miss_probability(1000, 10, 258), 0.05, 0.001);
  EXPECT_NEAR(miss_probability(1000, 50, 57), 0.05, 0.002);
}

TEST_F(Verify, ARangeAndShardsCoverWhatTheySay) {
  VerifyRequest request;
  request.run = directory_ / "honest";
  request.replay = {Selection::Kind::kRange, "5", "10", 0, 1, 1};
  const Report range = *verify(request, *kernels_, *pool_);
  EXPECT_TRUE(range.holds());
  EXPECT_EQ(range.replays.front().first_step, 5);
  EXPECT_EQ(range.replays.back().end_step, 10);
  request.replay.to = "3";
  const Result<Report> backwards = verify(request, *kernels_, *pool_);
  ASSERT_FALSE(backwards.ok());  // the question is wrong, not the run
  EXPECT_NE(backwards.error().message.find("no stored states 5 and 3"), std::string::npos);
  size_t covered = 0;
  for (const int64_t shard : {1, 2, 3}) {
    request.replay = {Selection::Kind::kAll, "", "", 0, shard, 3};
    covered += verify(request, *kernels_, *pool_)->replays.size();
  }
  EXPECT_EQ(covered, 12u);
}

// What the verifier lacks or mistypes says nothing about the run.
TEST_F(Verify, AnHonestRunIsNotAccused) {
  const auto asked = [](const std::function<void(VerifyRequest&)>& ask) {
    VerifyRequest request;
    request.run = directory_ / "honest";
    ask(request);
    return verify(request, *kernels_, *pool_);
  };
  const Result<Report> nowhere = asked([](VerifyRequest& r) { r.run = directory_ / "honst"; });
  EXPECT_FALSE(nowhere.ok());
  const auto could_not = [&](const std::string& check, const std::string& what,
                             const std::function<void(VerifyRequest&)>& ask) {
    const Result<Report> report = asked(ask);
    ASSERT_TRUE(report.ok()) << report.error().message;
    ASSERT_EQ(report->answer(), Answer::kUnchecked) << report->to_json().dump(1);
    EXPECT_EQ(report->first(Outcome::kUnchecked)->name, check);
    EXPECT_NE(report->sentence.find(what), std::string::npos) << report->sentence;
    EXPECT_EQ(report->sentence.find("not what its log claims"), std::string::npos);
    EXPECT_EQ(report->to_json()["answer"], "could not be checked");
  };
  fs::create_directories(directory_ / "empty");
  for (const char* folder : {"empty", "keys"})  // and a log of runs is not the log of one
    could_not("log", "give the folder of a run",
              [&](VerifyRequest& r) { r.run = directory_ / folder; });
  could_not("text", "--text is the folder",
            [](VerifyRequest& r) { r.text = directory_ / "empty"; });
  fs::copy("LICENSE", directory_ / "empty/LICENSE");
  could_not("text", "not those that the manifest lists", [](VerifyRequest& r) {
    r.text = directory_ / "empty";
    ASSERT_TRUE(write_file(directory_ / "empty/LICENSE", *read_file("LICENSE") + "x").ok());
  });
  could_not("reports", "nowhere", [](VerifyRequest& r) {
    r.replay.kind = Selection::Kind::kReports;
    r.replay.reports = {"nowhere"};
  });
  ASSERT_TRUE(ledger::make_keys(directory_ / "stranger", "example.org/stranger").ok());
  const Report refused =
      *asked([](VerifyRequest& r) { r.policy = trusting(directory_ / "stranger"); });
  EXPECT_NE(refused.sentence.find("is not one that the policy accepts"), std::string::npos)
      << refused.sentence;
}

TEST_F(Verify, ARunThatHasJustBegunIsNotAccused) {
  const fs::path copy = copy_of("honest");
  Forger forger(copy, directory_ / "keys");
  const std::vector<json> entries = forger.entries();
  fs::remove_all(copy / "checkpoints");
  fs::remove_all(copy / "audit");
  for (const size_t count : {size_t{1}, size_t{2}, size_t{3}}) {
    forger.entries().assign(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(count));
    forger.sign();
    const Report report = report_of(copy, false);
    EXPECT_EQ(report.answer(), Answer::kUnchecked) << report.to_json().dump(1);
    EXPECT_NE(report.sentence.find("nothing to verify"), std::string::npos) << report.sentence;
  }
}

// A verifier with too little memory hears so before anything is allocated, whatever comes first.
TEST_F(Verify, TooLittleMemoryAccusesNobody) {
  std::set<std::string> told;
  for (int64_t bytes = 1 << 10; bytes < int64_t{1} << 34; bytes *= 2) {
    VerifyRequest request;
    request.run = directory_ / "honest";
    request.memory_bytes = bytes;
    request.replay = {Selection::Kind::kRange, "0", "2", 0, 1, 1};
    const Result<Report> report = verify(request, *kernels_, *pool_);
    ASSERT_TRUE(report.ok()) << report.error().message;
    if (report->holds()) continue;
    ASSERT_EQ(report->answer(), Answer::kUnchecked) << report->to_json().dump(1);
    const Check* check = report->first(Outcome::kUnchecked);
    EXPECT_NE(check->detail.find("memory"), std::string::npos) << check->detail;
    EXPECT_NE(check->detail.find("take a machine with more"), std::string::npos) << check->detail;
    told.insert(check->name);
  }
  EXPECT_EQ(told, (std::set<std::string>{"log", "recipe", "memory"}));
}

// What nobody recomputed is called the trainer's word, in words and for programs.
TEST_F(Verify, WhatIsDeclaredIsCalledSo) {
  const auto verdict_of = [](const Report& report, const std::string& component) {
    for (const Verdict& verdict : report.verdicts)
      if (verdict.component == component) return verdict.verdict + ": " + verdict.reason;
    return std::string("none");
  };
  const Report looked = report_of(directory_ / "honest", false);
  const Report replayed = report_of(directory_ / "honest", true);
  EXPECT_EQ(verdict_of(looked, "figures").substr(0, 9), "declared:");
  EXPECT_EQ(verdict_of(replayed, "figures").substr(0, 11), "recomputed:");
  for (const Report& report : {looked, replayed}) {
    EXPECT_EQ(verdict_of(report, "origins").substr(0, 9), "declared:");
    EXPECT_NE(verdict_of(report, "origins").find("5120 tokens read"), std::string::npos)
        << verdict_of(report, "origins");
    EXPECT_EQ(verdict_of(report, "circumstances").substr(0, 9), "declared:");
    EXPECT_EQ(verdict_of(report, "seed").substr(0, 22), "chosen by the trainer:");
  }
  VerifyRequest request;
  request.run = directory_ / "honest";
  request.replay = {Selection::Kind::kRange, "5", "10", 0, 1, 1};
  EXPECT_NE(verdict_of(*verify(request, *kernels_, *pool_), "figures").find("where replayed"),
            std::string::npos);
}

TEST_F(Verify, ASourceOfWhichNothingIsReadIsCalledSo) {
  std::string text = *read_file("tests/recipes/tiny.toml");
  text.insert(text.find("[data]\n"),
              "[[data.source]]\nname = 'phantom'\npath = 'README.md'\nweight = 0.0\n"
              "document = 'blank_line'\nlicense = 'CC0-1.0'\norigin = 'a great library'\n");
  ASSERT_TRUE(write_file(directory_ / "phantom.toml", text).ok());
  train_run("phantom", {}, "10%", -1, directory_ / "phantom.toml");
  const Report report = report_of(directory_ / "phantom", false);
  EXPECT_TRUE(report.holds()) << report.to_json().dump(1);
  EXPECT_NE(
      report.to_json().dump().find("phantom (CC0-1.0; a great library; nothing was read of it)"),
      std::string::npos);
}

// Two digests are needed of what holds tensors, of the file and of each tensor; whichever check
// asks, both are computed once.
TEST_F(Verify, EveryStateIsHashedOnce) {
  VerifyRequest request;
  request.run = directory_ / "honest";
  request.replay.kind = Selection::Kind::kAll;
  RunSource at_hand;
  Setting setting{request,   at_hand, record::RunDirectory(request.run),
                  *kernels_, *pool_,  record::StoredStates(*pool_)};
  Report report;
  Checklist list(report, true);
  Claims claims(setting);
  States states(setting, claims);
  Replays replays(setting, claims);
  EXPECT_TRUE(claims.check_log(list) && list.check("bytes", states.bytes()) &&
              claims.check_rest(list) && list.check("states", states.states()) &&
              list.check("initial", replays.initial()) &&
              list.check("replay", replays.replays(*replays.selected(report), report)))
      << report.to_json().dump(1);
  ASSERT_EQ(report.replays.size(), 12u);
  for (const record::StoredState& state : claims.history().stored) {
    const fs::path directory = request.run / state.directory;
    int64_t bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(directory)) {
      const std::string name = entry.path().filename();
      if (!entry.is_regular_file() || name == "model.sig") continue;
      const bool has_tensors = name.ends_with(".safetensors") || name == "cursor.json";
      bytes += static_cast<int64_t>(entry.file_size()) * (has_tensors ? 2 : 1);
    }
    EXPECT_EQ((*setting.states.open(directory))->bytes_hashed(), bytes) << state.directory;
  }
}

}  // namespace
}  // namespace naite::verify
