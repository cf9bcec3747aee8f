// SPDX-License-Identifier: Apache-2.0
#include "train/stepper.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "train/trainer.h"

namespace naite::train {
namespace {

namespace fs = std::filesystem;

class Silent final : public Observer {
 public:
  void note(const std::string&) override {}
  void preparing(const data::PrepareProgress&) override {}
  void step(const StepReport&) override {}
  void validated(const ValidationReport&) override {}
};

// A run of three stages (4, 4 and 2 steps), trained once; a stepper goes through it again.
class Steps : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = fs::temp_directory_path() / fmt::format("naite-steps-{}", getpid());
    fs::remove_all(directory_);
    recipe_ = *load_recipe("tests/recipes/stages.toml", {"checkpoint.autosave_seconds=3600"});
    kernels_ = *kernels::make_cpu(pool_, "");
    TrainRequest request;
    request.run_directory = directory_;
    Silent silent;
    ASSERT_TRUE(train(recipe_, request, *kernels_, pool_, silent).ok());
  }
  static void TearDownTestSuite() {
    kernels_.reset();
    fs::remove_all(directory_);
  }
  Stepper stepper() {
    return {recipe_, run_,      data::Tokenizer::load(directory_)->vocab_size(),
            states_, *kernels_, pool_};
  }
  std::string digest_of(const Stepper& stepper) {
    formats::TrainingState host;
    EXPECT_TRUE(stepper.save(host).ok());
    return formats::state_digests(host, stepper.stage().weights_type(), pool_)->state;
  }
  // What training stored after `step`.
  static std::string stored(int64_t step) {
    const auto states = *record::RunDirectory(directory_).states();
    for (const record::RunDirectory::State& state : states)
      if (state.step == step) return formats::Record::read(state.path)->state_digest;
    return "";
  }
  static Status accept(const StepResult&) { return {}; }

  static inline fs::path directory_;
  static inline ThreadPool pool_{1};
  static inline std::unique_ptr<kernels::Kernels> kernels_;
  static inline Curriculum recipe_;
  record::RunDirectory run_{directory_};
  record::StoredStates states_{pool_};
};

TEST_F(Steps, LeadToTheStatesThatTrainingStored) {
  Stepper steps = stepper();
  formats::TrainingState host;
  ASSERT_TRUE(steps.begin().ok());
  EXPECT_EQ(digest_of(steps), stored(0));
  int64_t compared = 0;
  while (steps.step() < recipe_.total_steps()) {
    ASSERT_TRUE(steps.enter(recipe_.stage_of(steps.step())).ok());
    ASSERT_TRUE(steps.advance(accept).ok());
    ASSERT_TRUE(steps.average(host).ok());
    const std::string expected = stored(steps.step());
    if (expected.empty()) continue;
    EXPECT_EQ(digest_of(steps), expected) << "after step " << steps.step();
    ++compared;
  }
  EXPECT_EQ(compared, 6);
}

TEST_F(Steps, AStageChangeLeavesParametersAndMomentsWhereTheyLie) {
  Stepper steps = stepper();
  ASSERT_TRUE(steps.begin().ok());
  while (steps.step() < recipe_.first().end_step()) ASSERT_TRUE(steps.advance(accept).ok());
  formats::TrainingState before, after;
  ASSERT_TRUE(steps.save(before).ok());
  const void* const place = steps.parameters().master(0).data;
  ASSERT_TRUE(steps.enter(recipe_.stages[1]).ok());
  EXPECT_EQ(steps.parameters().master(0).data, place);
  ASSERT_TRUE(steps.save(after).ok());
  EXPECT_EQ(after.masters, before.masters);
  ASSERT_EQ(after.moments.size(), before.moments.size());
  for (size_t i = 0; i < after.moments.size(); ++i)
    EXPECT_EQ(after.moments[i].values, before.moments[i].values);
}

TEST_F(Steps, AStepThatIsNotAcceptedChangesNothing) {
  Stepper steps = stepper();
  ASSERT_TRUE(steps.begin().ok());
  const auto refuse = [](const StepResult&) -> Status { return fail("no"); };
  EXPECT_EQ(steps.advance(refuse).error().message, "no");
  EXPECT_EQ(steps.step(), 0);
  EXPECT_EQ(digest_of(steps), stored(0));
}

TEST_F(Steps, AnotherArithmeticTakesABackendThatComputesIt) {
  Curriculum divided = recipe_;
  for (Recipe& stage : divided.stages) stage.arithmetic = &kernels::kChain8;
  const int64_t vocab_size = data::Tokenizer::load(directory_)->vocab_size();
  EXPECT_EQ(Stepper(divided, run_, vocab_size, states_, *kernels_, pool_).begin().error().message,
            fmt::format("arithmetic chain-8 is published and computed by the reference alone; {} "
                        "computes chain-1: write arithmetic = \"chain-1\" in [run]",
                        kernels_->name()));
  const auto reference = kernels::make_reference(kernels::DType::kF32, kernels::kChain8);
  Stepper steps(divided, run_, vocab_size, states_, *reference, pool_), usual = stepper();
  ASSERT_TRUE(steps.begin().ok());
  ASSERT_TRUE(usual.begin().ok());
  EXPECT_EQ(*steps.tensor_digests(), *usual.tensor_digests());
  const Result<StepResult> one = steps.advance(accept), other = usual.advance(accept);
  ASSERT_TRUE(one.ok());
  EXPECT_NEAR(one->loss, other->loss, 1e-3);
  EXPECT_NE(*steps.tensor_digests(), *usual.tensor_digests());
}

TEST_F(Steps, ShapesHaveNoValues) {
  const Recipe& stage = recipe_.first();
  const auto model = *stage.make_model(data::Tokenizer::load(directory_)->vocab_size());
  const Engine engine(*model, *kernels_, stage, {});
  formats::TrainingState shapes, whole;
  engine.shapes(shapes);
  EXPECT_TRUE(shapes.masters.empty());
  ASSERT_TRUE(engine.save(whole).ok());
  ASSERT_EQ(shapes.specs.size(), whole.specs.size());
  ASSERT_EQ(shapes.moments.size(), whole.moments.size());
  for (size_t i = 0; i < shapes.moments.size(); ++i) {
    EXPECT_EQ(shapes.moments[i].name, whole.moments[i].name);
    EXPECT_EQ(shapes.moments[i].members, whole.moments[i].members);
    EXPECT_TRUE(shapes.moments[i].values.empty());
  }
}

}  // namespace
}  // namespace naite::train
