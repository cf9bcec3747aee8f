// SPDX-License-Identifier: Apache-2.0
// Runs of several stages, branches, and runs that must stop: real processes.
#include <sys/mount.h>

#include "formats/safetensors.h"
#include "tests/process.h"

namespace naite {
namespace {

class Stages : public Process {
 protected:
  static Words stages(const std::string& run_directory, const Words& more = {}) {
    return with({"train", NAITE_SOURCE "/tests/recipes/stages.toml", "--run", run_directory}, more);
  }
  static std::vector<std::string> checkpoints(const std::string& run_directory) {
    return *list_directory(run_directory + "/checkpoints");
  }
};

TEST_F(Stages, StoppedAnywhereTheyGiveOneDigest) {
  ASSERT_EQ(run(stages(fresh("whole"))).exit_code, 0);
  const std::string expected = digest(fresh("whole"));
  EXPECT_EQ(checkpoints(fresh("whole")),
            (std::vector<std::string>{"stage1-step0000000000-tokens0000000000000000",
                                      "stage1-step0000000002-tokens0000000000000256",
                                      "stage1-step0000000004-tokens0000000000000512",
                                      "stage2-step0000000006-tokens0000000000000768",
                                      "stage2-step0000000008-tokens0000000000001024",
                                      "stage3-step0000000009-tokens0000000000001152",
                                      "stage3-step0000000010-tokens0000000000001280"}));
  const Ended verified = run({"verify", fresh("whole"), "--all", "--text", NAITE_SOURCE});
  EXPECT_EQ(verified.exit_code, 0) << verified.out;
  for (const char* step : {"1", "3", "4", "5", "8", "9"}) {
    const std::string run_directory = fresh(std::string("stop") + step);
    EXPECT_EQ(run(stages(run_directory, {"--stop-after-step", step})).exit_code, 0);
    const Ended resumed = run(stages(run_directory, {"--threads", "1"}));
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_EQ(digest(run_directory), expected) << "stopped after step " << step;
  }
}

TEST_F(Stages, WhatAStageDoesNotTrainKeepsItsBits) {
  ASSERT_EQ(run(stages(fresh("frozen"), {"--set", "train.precision=fp32"})).exit_code, 0);
  const std::vector<std::string> names = checkpoints(fresh("frozen"));
  const fs::path root = fs::path(fresh("frozen")) / "checkpoints";
  const auto before = formats::Safetensors::open(root / names[4] / "model.safetensors");
  const auto after = formats::Safetensors::open(root / names[6] / "model.safetensors");
  ASSERT_TRUE(before.ok() && after.ok());
  int changed = 0;
  for (const formats::StoredTensor& tensor : before->tensors()) {
    const bool same = tensor.bytes == after->find(tensor.name)->bytes;
    EXPECT_EQ(same, tensor.name.find(".mlp.") == std::string::npos) << tensor.name;
    changed += same ? 0 : 1;
  }
  EXPECT_EQ(changed, 6);
}

TEST_F(Stages, ABranchSaysWhereItComesFrom) {
  const std::string parent = fresh("parent");
  ASSERT_EQ(run(train(parent)).exit_code, 0);
  const std::string from = parent + "/checkpoints/" + checkpoints(parent)[2];
  const Words branch{"--from", from, "--set", "optimizer.learning_rate=0.005"};
  const Ended ended = run(train(fresh("branch"), branch));
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_NE(digest(fresh("branch")), digest(parent));
  const auto record =
      nlohmann::json::parse(*read_file(fs::path(fresh("branch")) / "checkpoints" /
                                       checkpoints(fresh("branch")).back() / "record.json"));
  EXPECT_EQ(record["branch"]["step"], 10);
  const Ended verified = run({"verify", fresh("branch"), "--all"});
  EXPECT_EQ(verified.exit_code, 0) << verified.out;
  EXPECT_NE(verified.out.find("derived from another run"), std::string::npos) << verified.out;
  EXPECT_EQ(record["branch"]["from"], "parent/checkpoints/" + checkpoints(parent)[2]);
  // With the parent's own recipe the branch is the parent.
  ASSERT_EQ(run(train(fresh("same"), {"--from", from})).exit_code, 0);
  const auto weights = [](const std::string& text) { return text.substr(0, text.find('\n')); };
  EXPECT_EQ(weights(digest(fresh("same"))), weights(digest(parent)));
  const Ended other =
      run(train(fresh("other"), {"--from", from, "--set", "tokenizer.vocab_size=300"}));
  EXPECT_NE(other.err.find("was trained with another tokenizer"), std::string::npos) << other.err;
  const Ended again = run(train(fresh("same"), {"--from", from}));
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_NE(again.err.find("has begun already; --from starts a new --run directory"),
            std::string::npos);
}

TEST_F(Stages, ALossThatJumpsStopsTheRunAndKeepsTheStateBefore) {
  const std::string run_directory = fresh("jump");
  const Words wild{
      "--set", "train.tokens=51200",        "--set", "optimizer.learning_rate=3",
      "--set", "schedule.warmup_ratio=0.5", "--set", "train.max_grad_norm=0",
      "--set", "train.max_loss_ratio=1.2",  "--set", "checkpoint.autosave_seconds=3600"};
  const Ended ended = run(train(run_directory, wild));
  ASSERT_EQ(ended.exit_code, 1) << ended.err;
  const size_t last_line = ended.err.rfind('\n', ended.err.size() - 2);
  const std::string line = ended.err.substr(last_line + 1);
  EXPECT_NE(line.find("its recent median; the state before it is kept in "), std::string::npos)
      << line;
  const size_t at = line.find("--from ") + 7;
  const std::string from = line.substr(at, line.find(' ', at) - at);
  const Ended branch = run(train(
      fresh("tame"), with(wild, {"--from", from, "--set", "optimizer.learning_rate=0.001", "--set",
                                 "train.max_loss_ratio=0", "--stop-after-step", "60"})));
  EXPECT_EQ(branch.exit_code, 0) << branch.err;
}

TEST_F(Stages, AFullDiskLosesNothing) {
  const std::string small = fresh("small");
  fs::create_directories(small);
  if (mount("tmpfs", small.c_str(), "tmpfs", 0, "size=640k") != 0)
    GTEST_SKIP() << "mounting a small tmpfs needs root";
  const std::string expected = trained("whole", {});
  const Ended full = run(train(small + "/run"));
  EXPECT_EQ(full.exit_code, 1) << full.err;
  EXPECT_NE(full.err.find("No space left on device"), std::string::npos) << full.err;
  // What was complete is still there and right; with room, the same command goes on.
  ASSERT_EQ(mount("tmpfs", small.c_str(), "tmpfs", MS_REMOUNT, "size=64m"), 0);
  const Ended resumed = run(train(small + "/run"));
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_EQ(digest(small + "/run"), expected);
  umount(small.c_str());
}

TEST_F(Stages, BadStagesAreOneClearLine) {
  const std::string recipe = NAITE_SOURCE "/tests/recipes/stages.toml";
  const auto message = [&](const std::string& set) {
    return run({"train", recipe, "--dry-run", "--set", set}).err;
  };
  EXPECT_EQ(message("stage.1.train.tokns=3"),
            "naite: " + recipe +
                ": stage 2: [train] does not know the key `tokns`; did you mean "
                "`tokens`?\n");
  EXPECT_EQ(message("stage.0.objective=sft"),
            "naite: " + recipe + ": stage 1 `objective` must be one of pretrain, is \"sft\"\n");
  EXPECT_EQ(message("stage.0.data.validation=0.3"),
            "naite: " + recipe +
                ": stage 2 prepares its text otherwise (validation: 0.3 -> 0.1); "
                "that is for [data] alone\n");
  const Ended ended = run(stages(fresh("shapes"), {"--set", "stage.1.model.intermediate_size=48"}));
  EXPECT_NE(ended.err.find("stage 2: the tensor model.layers.0.mlp.gate_proj.weight is not that of "
                           "the stage before"),
            std::string::npos)
      << ended.err;
}

}  // namespace
}  // namespace naite
