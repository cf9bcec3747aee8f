// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: honest runs of tests/recipes/tiny.toml, trained once for all tests of a fixture, and
// reports about them and about copies.
#include <gtest/gtest.h>
#include <unistd.h>

#include "train/trainer.h"
#include "verify/forger_testing.h"
#include "verify/verify.h"

namespace naite::verify {

class Quiet final : public train::Observer {
 public:
  void note(const std::string&) override {}
  void preparing(const data::PrepareProgress&) override {}
  void step(const train::StepReport&) override {}
  void validated(const train::ValidationReport&) override {}
};

class Verify : public testing::Test {
 protected:
  // One honest run for all tests: 20 steps, states after every second one, checkpoints every fifth.
  static void SetUpTestSuite() {
    begin();
    train_run("honest", {});
    train_run("other-seed", {"run.seed=8"});
  }
  static void begin() {
    // In memory where that is possible: what is written here need not outlive the machine.
    const std::filesystem::path memory = "/dev/shm";
    directory_ =
        (access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path()) /
        fmt::format("naite-verify-{}", getpid());
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    ASSERT_TRUE(ledger::make_keys(directory_ / "keys", "example.org/team").ok());
    pool_ = std::make_unique<ThreadPool>(1);
    kernels_ = *kernels::make_cpu(*pool_, "");
  }
  static void TearDownTestSuite() {
    kernels_.reset();
    pool_.reset();
    std::filesystem::remove_all(directory_);
  }

  static void train_run(const std::string& name, std::vector<std::string> set,
                        const std::string& audit_every = "10%", int64_t stop_after_step = -1,
                        const std::filesystem::path& file = "tests/recipes/tiny.toml",
                        const std::filesystem::path& from = {}) {
    set.insert(set.end(),
               {"checkpoint.autosave_seconds=3600", "checkpoint.audit_every=" + audit_every});
    const Result<train::Curriculum> recipe = train::load_recipe(file, set);
    ASSERT_TRUE(recipe.ok()) << recipe.error().message;
    train::TrainRequest request;
    request.run_directory = directory_ / name;
    request.keys = directory_ / "keys";
    request.stop_after_step = stop_after_step;
    request.from = from;
    Quiet quiet;
    const auto outcome = train::train(*recipe, request, *kernels_, *pool_, quiet);
    ASSERT_TRUE(outcome.ok()) << outcome.error().message;
  }

  static Report report_of(const std::filesystem::path& run, bool replay = true, bool text = false,
                          std::optional<Policy> policy = {}) {
    VerifyRequest request;
    request.run = run;
    if (replay) request.replay.kind = Selection::Kind::kAll;
    if (text) request.text = ".";
    request.policy = std::move(policy);
    const Result<Report> report = verify(request, *kernels_, *pool_);
    EXPECT_TRUE(report.ok()) << report.error().message;
    return *report;
  }

  static std::filesystem::path copy_of(const std::string& name) {
    const std::filesystem::path copy = directory_ / "copy";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(directory_ / name, copy, std::filesystem::copy_options::recursive);
    return copy;
  }

  static Policy trusting(const std::filesystem::path& keys) {
    Policy policy;
    policy.publishers.push_back(ledger::load_keys(keys)->log.verifier());
    return policy;
  }

  static inline std::filesystem::path directory_;
  static inline std::unique_ptr<ThreadPool> pool_;
  static inline std::unique_ptr<kernels::Kernels> kernels_;
};

}  // namespace naite::verify
