// SPDX-License-Identifier: Apache-2.0
// The contract, shown with real processes: one digest of the whole training state whatever the
// threads, virtual ranks, instruction sets, stops, and SIGKILL at chosen and at random moments.
#include "tests/process.h"

#include <set>
#include <sstream>

#include "kernels/kernels.h"

namespace naite {
namespace {

// A Llama with AdamW, and a Motif with Muon.
const std::string kRecipes[] = {"tiny", "tiny-motif"};
const Words kPrecisions[] = {{"--set", "train.precision=bf16"}, {"--set", "train.precision=fp32"}};

TEST_F(Process, OneDigestForThreadsRanksAndInstructionSets) {
  std::set<std::string> digests;
  for (const std::string& recipe : kRecipes) {
    for (const Words& precision : kPrecisions) {
      const std::string tag = recipe + precision[1];
      const auto digest_with = [&](const std::string& name, const Words& more,
                                   const Words& environment = {}) {
        return trained(tag + name, with(precision, more), environment, recipe);
      };
      const std::string expected = digest_with("", {"--threads", "1"});
      EXPECT_TRUE(digests.insert(expected).second) << tag;
      for (const char* threads : {"2", "3"})
        EXPECT_EQ(digest_with(threads, {"--threads", threads}), expected) << tag;
      for (const char* ranks : {"2", "4", "8"})
        EXPECT_EQ(digest_with(std::string("r") + ranks, {"--virtual-ranks", ranks}), expected)
            << tag;
      EXPECT_EQ(digest_with("recompute", {"--recompute"}), expected) << tag;
      std::istringstream names{std::string(kernels::cpu_isa_names())};
      for (std::string isa; names >> isa;)
        EXPECT_EQ(digest_with(isa, {}, {"NAITE_ISA=" + isa}), expected) << tag << " " << isa;
    }
  }
}

// What "chain-1" was published with. A change here is a change of the contract: it needs another
// name (docs/NUMERICS.md).
TEST_F(Process, Chain1KeepsItsPublishedBits) {
  const auto weights = [&](const std::string& name, const Words& words) {
    EXPECT_EQ(run(words).exit_code, 0);
    return digest(fresh(name)).substr(0, 24);
  };
  EXPECT_EQ(weights("bf16", train(fresh("bf16"))), "weights cd42fca4a17d601a");
  EXPECT_EQ(weights("fp32", train(fresh("fp32"), {"--set", "train.precision=fp32"})),
            "weights c5ad46d1b664db71");
  EXPECT_EQ(weights("stages",
                    {"train", NAITE_SOURCE "/tests/recipes/stages.toml", "--run", fresh("stages")}),
            "weights 6576caa7f4aae0fc");
}

TEST_F(Process, StoppedAndResumedGivesTheSameDigest) {
  for (const std::string& recipe : kRecipes) {
    const std::string expected = trained(recipe, {}, {}, recipe);
    for (const char* step : {"0", "3", "5", "11", "18", "19"}) {
      const std::string run_directory = fresh(recipe + "-stop" + step);
      EXPECT_EQ(run(train(run_directory, {"--stop-after-step", step}, recipe)).exit_code, 0);
      EXPECT_EQ(run(train(run_directory, {"--threads", "1"}, recipe)).exit_code, 0);
      EXPECT_EQ(digest(run_directory), expected) << recipe << " stopped after step " << step;
      for (int again = 0; again < 2; ++again) {  // a finished run stays as it is
        const Ended ended = run(train(run_directory, {}, recipe));
        EXPECT_EQ(ended.exit_code, 0) << ended.err;
      }
      EXPECT_EQ(digest(run_directory), expected);
    }
  }
}

TEST_F(Process, AnotherSeedGivesAnotherDigest) {
  EXPECT_NE(trained("a", {}), trained("b", {"--set", "run.seed=8"}));
}

TEST_F(Process, KilledAtEveryPointAndResumedGivesTheSameDigest) {
  const std::string expected = trained("whole", {});
  for (const char* point :
       {"step:1", "step:7", "autosave:1", "autosave:4", "checkpoint_begin:1", "checkpoint_begin:3",
        "checkpoint_half:2", "checkpoint_half:9", "checkpoint_rename:1", "checkpoint_rename:5",
        "checkpoint_done:1", "checkpoint_done:6"}) {
    const std::string run_directory = fresh(std::string("kill-") + point);
    const Ended killed = run(train(run_directory), {std::string("NAITE_KILL_AT=") + point});
    EXPECT_EQ(killed.exit_code, -1) << point << " was not reached: " << killed.err;
    const Ended resumed = run(train(run_directory));
    EXPECT_EQ(resumed.exit_code, 0) << point << ": " << resumed.err;
    EXPECT_EQ(digest(run_directory), expected) << point;
  }
}

// The log's share of it: wherever the process is killed, the log of the finished run is whole, has
// every step once, and every interval of it replays.
TEST_F(Process, KilledWhileLoggingTheLogNeitherForksNorShrinks) {
  const Words keys{"--keys", fresh("keys")};
  ASSERT_EQ(run({"key", "new", fresh("keys"), "--name", "example.org/team"}).exit_code, 0);
  for (const char* point :
       {"ledger-entries:1", "ledger-entries:2", "ledger-tile:1", "ledger-tile:3",
        "ledger-checkpoint:1", "ledger-checkpoint:2", "ledger-entries:5", "ledger-tile:7",
        "ledger-checkpoint:9", "ledger-remove:2", "checkpoint_done:1", "checkpoint_done:9",
        "checkpoint_rename:3", "step:9", "ledger-checkpoint:30"}) {
    const std::string run_directory = fresh(std::string("kill-") + point);
    const Words words = train(run_directory, with(keys, {"--set", "checkpoint.audit_every=10%"}));
    const Ended killed = run(words, {std::string("NAITE_KILL_AT=") + point});
    EXPECT_EQ(killed.exit_code, -1) << point << " was not reached: " << killed.err;
    const fs::path head = directory_ / "head";
    fs::remove(head);
    if (fs::exists(run_directory + "/ledger/checkpoint"))
      fs::copy(run_directory + "/ledger/checkpoint", head);
    const Ended resumed = run(words);
    EXPECT_EQ(resumed.exit_code, 0) << point << ": " << resumed.err;
    const Ended verified = run({"verify", run_directory, "--all", "--text", NAITE_SOURCE});
    EXPECT_EQ(verified.exit_code, 0) << point << ": " << verified.out << verified.err;
    if (!fs::exists(head)) continue;
    const Ended checked = run({"log", "check", run_directory, "--head", head.string()});
    EXPECT_EQ(checked.exit_code, 0) << point << ": " << checked.err;
  }
  // One publisher, one log of runs; the copies beside the runs are beginnings of it.
  const Ended listed = run({"log", "show", fresh("keys"), "--json", "--vkey", vkey_of(keys[1])});
  EXPECT_EQ(std::count(listed.out.begin(), listed.out.end(), '\n'), 30) << listed.err;
}

TEST_F(Process, KilledAtRandomMomentsGivesTheSameDigest) {
  const std::string expected = trained("whole", {});
  const std::string run_directory = fresh("random");
  int kills = 0;
  for (int i = 0; i < 60; ++i) {
    const auto wait = static_cast<int64_t>(
        random_below(400, static_cast<uint64_t>(getpid()), Purpose::kSampling, i));
    const Ended ended = run(train(run_directory), {}, wait);
    if (ended.exit_code == 0) break;
    EXPECT_EQ(ended.exit_code, -1) << ended.err;
    ++kills;
  }
  const Ended last = run(train(run_directory));
  EXPECT_EQ(last.exit_code, 0) << last.err;
  EXPECT_EQ(digest(run_directory), expected) << "after " << kills << " kills";
  // The log is that of an uninterrupted run: every step once, in order.
  std::istringstream log(*read_file(fs::path(run_directory) / "log.jsonl"));
  int64_t step = 0;
  for (std::string line; std::getline(log, line);) {
    const nlohmann::json entry = nlohmann::json::parse(line);
    if (!entry.contains("loss")) continue;
    EXPECT_EQ(entry["step"], ++step);
  }
  EXPECT_EQ(step, 20);
  const Ended verified = run({"verify", run_directory, "--all"});
  EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.err;
}

TEST_F(Process, InterruptSavesAndTheSameCommandGoesOn) {
  const std::string expected = trained("whole", {});
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string run_directory = fresh(fmt::format("signal{}", signal));
    const pid_t child = fork();
    if (child == 0) {
      freopen("/dev/null", "w", stderr);
      execl(NAITE_BINARY, NAITE_BINARY, "train", NAITE_SOURCE "/tests/recipes/tiny.toml", "--run",
            run_directory.c_str(), nullptr);
      _exit(127);
    }
    int status = 0;
    pid_t ended = 0;
    while (ended == 0 && !fs::exists(run_directory + "/log.jsonl")) {
      usleep(2000);
      ended = waitpid(child, &status, WNOHANG);
    }
    ASSERT_EQ(ended, 0) << "it ended before its first step, with status " << status;
    kill(child, signal);
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT_EQ(run(train(run_directory)).exit_code, 0);
    EXPECT_EQ(digest(run_directory), expected);
  }
}

TEST_F(Process, DryRunStatesTheBytesThatTheRunTakes) {
#ifdef NAITE_SANITIZE
  GTEST_SKIP() << "AddressSanitizer's shadow memory counts as resident";
#endif
  const Words big{"--set", "model.hidden_size=256",     "--set", "model.intermediate_size=704",
                  "--set", "model.num_hidden_layers=6", "--set", "data.sequence_length=128",
                  "--set", "train.batch_tokens=4096",   "--set", "train.micro_batch_tokens=2048",
                  "--set", "train.tokens=16384",        "--set", "model.head_dim=64"};
  const Ended planned = run(train("unused", with(big, {"--dry-run"})));
  ASSERT_EQ(planned.exit_code, 0) << planned.err;
  const size_t at = planned.out.find("total  ");
  ASSERT_NE(at, std::string::npos) << planned.out;
  const double stated = std::stod(planned.out.substr(at + 5));
  const Ended ran = run(train(fresh("big"), big));
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_NEAR(static_cast<double>(ran.peak_bytes) / stated, 1.0, 0.1)
      << "stated " << stated << ", peak " << ran.peak_bytes;
}

TEST_F(Process, DryRunCountsThePublishedModels) {
  for (const auto& [recipe, parameters] :
       {std::pair("motif-2-12.7b", "12703860896 "), std::pair("motif-2.6b", "2597218432 ")}) {
    const Ended planned =
        run({"train", fmt::format("{}/recipes/{}.toml", NAITE_SOURCE, recipe), "--dry-run"});
    ASSERT_EQ(planned.exit_code, 0) << planned.err;
    EXPECT_NE(planned.out.find(std::string("parameters         ") + parameters), std::string::npos)
        << planned.out;
#ifndef NAITE_SANITIZE
    EXPECT_LT(planned.peak_bytes, int64_t{100} << 20);
#endif
  }
}

TEST_F(Process, ADamagedCheckpointIsNamedAndRefused) {
  const std::string run_directory = fresh("damaged");
  ASSERT_EQ(run(train(run_directory, {"--stop-after-step", "5"})).exit_code, 0);
  for (const auto& entry : fs::recursive_directory_iterator(run_directory + "/checkpoints")) {
    if (entry.path().filename() != "optimizer.safetensors") continue;
    std::string bytes = *read_file(entry.path());
    bytes[bytes.size() / 2] ^= 1;
    ASSERT_TRUE(write_file(entry.path(), bytes).ok());
  }
  fs::remove_all(run_directory + "/autosave");
  const Ended ended = run(train(run_directory));
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_NE(ended.err.find("state/optimizer.safetensors is damaged"), std::string::npos)
      << ended.err;
}

TEST_F(Process, BadInputIsOneClearLine) {
  struct Case {
    Words arguments;
    int exit_code;
    std::string line;
  };
  ASSERT_TRUE(write_file(directory_ / "broken.toml", "[run\n").ok());
  const std::string recipe = NAITE_SOURCE "/tests/recipes/tiny.toml";
  const std::string motif = NAITE_SOURCE "/tests/recipes/tiny-motif.toml";
  const Case cases[] = {
      {{"train", "none.toml"}, 1, "naite: cannot read none.toml: No such file or directory\n"},
      {{"train"}, 2, "naite: recipe is required; see `naite train --help`\n"},
      {{"trian"}, 2, ""},
      {{"train", fresh("broken.toml")}, 1, ""},
      {{"train", recipe, "--set", "train.tokns=1"},
       1,
       "naite: " + recipe + ": [train] does not know the key `tokns`; did you mean `tokens`?\n"},
      {{"train", recipe, "--set", "model.hidden_size=-1"}, 1, ""},
      {{"train", recipe, "--set", "train.micro_batch_tokens=96"},
       1,
       "naite: " + recipe +
           ": [train] `micro_batch_tokens` must be a divisor of batch_tokens = "
           "256, is 96\n"},
      {{"train", recipe, "--set", "schedule.kind=liner"}, 1, ""},
      {{"train", recipe, "--set", "run.arithmetic=chain-2"},
       1,
       "naite: " + recipe +
           ": [run] `arithmetic` must be one of chain-1, chain-8, is \"chain-2\"\n"},
      {{"train", recipe, "--set", "run.arithmetic=chain-8", "--run", fresh("eight")}, 1, ""},
      {{"train", motif, "--set", "model.num_noise_heads=2"},
       1,
       "naite: " + motif +
           ": [model] `num_noise_heads` must be a divisor of num_attention_heads = 5 below it, so "
           "that every noise head serves as many signal heads, is 2\n"},
      {{"train", motif, "--set", "model.rope_scaling={rope_type='longrope'}"},
       1,
       "naite: " + motif +
           ": [model] [rope_scaling] `rope_type` must be one of default, linear, llama3, yarn, is "
           "\"longrope\"\n"},
      {{"train", motif, "--set", "optimizer.muon.nesterov=true"}, 1, ""},
      {{"train", recipe, "--virtual-ranks", "3", "--run", fresh("ranks")},
       1,
       "naite: --virtual-ranks 3 must divide the 8 gradient groups of the recipe\n"},
      {{"train", recipe, "--threads", "0"}, 2, ""},
      {{"digest", fresh("nothing")}, 1, "naite: " + fresh("nothing") + " does not exist\n"},
      {{"generate", fresh("nothing"), "--prompt", "x"}, 1, ""},
      {{"train", recipe, "--set", "data.source.0.path=nowhere.txt", "--run", fresh("nodata")},
       1,
       ""},
  };
  for (const Case& c : cases) {
    const Ended ended = run(c.arguments);
    EXPECT_EQ(ended.exit_code, c.exit_code)
        << fmt::format("{}: ", fmt::join(c.arguments, " ")) << ended.err;
    if (!c.line.empty()) {
      EXPECT_EQ(ended.err, c.line);
    }
    EXPECT_TRUE(ended.err.starts_with("naite: ")) << ended.err;
    EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1) << ended.err;
  }
}

TEST_F(Process, TheSmallestRunsEndWellOrSayWhatToDo) {
  ASSERT_TRUE(write_file(directory_ / "one.txt", "a ring").ok());
  const std::string one = fmt::format("data.source.0.path=\"{}\"", fresh("one.txt"));
  const Words one_token = {"--set", "data.sequence_length=1"};
  EXPECT_EQ(run(train(fresh("length"), one_token)).exit_code, 0);
  EXPECT_EQ(run(train(fresh("single"), with(one_token, {"--set", one}))).exit_code, 0);
  EXPECT_EQ(run(train(fresh("step"), {"--set", "train.tokens=256"})).exit_code, 0);
  const Ended merge = run(
      train(fresh("merge"), with(one_token, {"--set", one, "--set", "tokenizer.vocab_size=260"})));
  EXPECT_EQ(merge.exit_code, 0) << merge.err;
  EXPECT_NE(merge.err.find("the vocabulary has 259 tokens, not the 260"), std::string::npos);
  const Ended too_short = run(train(fresh("short"), {"--set", one}));
  EXPECT_EQ(too_short.exit_code, 1);
  EXPECT_NE(too_short.err.find("fewer than one row of 32: lower `sequence_length` or add text\n"),
            std::string::npos)
      << too_short.err;
}

TEST_F(Process, ARunOfAnotherRecipeIsRefusedWithTheDifference) {
  const std::string run_directory = fresh("mine");
  ASSERT_EQ(run(train(run_directory, {"--stop-after-step", "1"})).exit_code, 0);
  const Ended ended = run(train(run_directory, {"--set", "optimizer.learning_rate=0.5"}));
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_NE(ended.err.find("optimizer.learning_rate: 0.01 -> 0.5"), std::string::npos) << ended.err;
}

TEST_F(Process, ALogIsShownProvedAndChecked) {
  const std::string run_directory = fresh("logged"), proof = fresh("proof"), entry = fresh("entry");
  ASSERT_EQ(run({"key", "new", fresh("keys"), "--name", "example.org/team"}).exit_code, 0);
  EXPECT_EQ(run({"key", "new", fresh("keys"), "--name", "example.org/team"}).exit_code, 1);
  const Words words = train(run_directory, {"--keys", fresh("keys"), "--stop-after-step", "7"});
  const Ended trained = run(words);
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_NE(trained.err.find("signed as example.org/team/tiny-"), std::string::npos);
  EXPECT_NE(run({"log", "show", run_directory}).out.find("commitment"), std::string::npos);
  ASSERT_EQ(
      run({"log", "prove", run_directory, "--index", "1", "--output", proof, "--entry", entry})
          .exit_code,
      0);
  const std::string vkey = vkey_of(run_directory);
  const Words check{"log", "check", proof, "--entry", entry, "--vkey", vkey};
  EXPECT_EQ(run(check).exit_code, 0);
  EXPECT_EQ(run({"log", "prove", run_directory, "--index", "99"}).exit_code, 1);
  ASSERT_TRUE(write_file(entry, "{}").ok());
  EXPECT_EQ(run(check).exit_code, 1);
  // The key that began a log is needed to go on; without keys a run is its own witness.
  const Ended keyless = run(train(run_directory));
  EXPECT_EQ(keyless.exit_code, 1);
  EXPECT_NE(keyless.err.find("--keys"), std::string::npos) << keyless.err;
  EXPECT_EQ(run({"log", "abandon", run_directory, "--reason", "a test", "--keys", fresh("keys")})
                .exit_code,
            0);
  EXPECT_EQ(run(words).exit_code, 1);
  EXPECT_EQ(run({"verify", run_directory, "--sample", "1"}).exit_code, 0);
  const Ended own = run(train(fresh("own"), {"--stop-after-step", "1"}));
  EXPECT_NE(own.err.find("unsigned"), std::string::npos) << own.err;
}

TEST_F(Process, ABeaconMakesTheSeedAfterTheCommitment) {
  const Words beacon = train(
      fresh("beacon"), {"--set", "run.seed=beacon", "--set", "run.beacon=drand round 9000000"});
  const Ended committed = run(beacon);
  EXPECT_EQ(committed.exit_code, 0) << committed.err;
  EXPECT_NE(committed.err.find("--beacon-value"), std::string::npos);
  EXPECT_FALSE(fs::exists(fresh("beacon") + "/log.jsonl"));
  const Ended trained = run(with(beacon, {"--beacon-value", "00ff17"}));
  EXPECT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_EQ(run(beacon).exit_code, 0);
  const Ended verified = run({"verify", fresh("beacon"), "--sample", "1"});
  EXPECT_EQ(verified.exit_code, 0) << verified.out;
  EXPECT_NE(verified.out.find("from the commitment and the value 00ff17"), std::string::npos);
}

TEST_F(Process, GenerateContinuesThePrompt) {
  const std::string run_directory = fresh("speaks");
  ASSERT_EQ(run(train(run_directory)).exit_code, 0);
  const Words words{"generate", run_directory, "--prompt", "You may", "--max-tokens", "20"};
  const Ended first = run(words), second = run(with(words, {"--threads", "1"}));
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_TRUE(first.out.starts_with("You may"));
  EXPECT_EQ(first.out, second.out);
}

}  // namespace
}  // namespace naite
