// SPDX-License-Identifier: Apache-2.0
#include "train/recipe.h"

#include <gtest/gtest.h>

#include <cmath>

namespace naite::train {
namespace {

using nlohmann::json;

json small(const json& changes = json::object()) {
  json value = {
      {"data", {{"sequence_length", 32}, {"source", {{{"name", "text"}, {"path", "LICENSE"}}}}}},
      {"model",
       {{"model_type", "motif"},
        {"hidden_size", 16},
        {"num_hidden_layers", 1},
        {"num_attention_heads", 4},
        {"intermediate_size", 24}}},
      {"train", {{"tokens", 64000}, {"batch_tokens", 64}}},
      {"optimizer", {{"learning_rate", 0.01}}},
      {"schedule", {{"warmup_ratio", 0.1}, {"decay_ratio", 0.2}}}};
  if (!changes.empty()) value.merge_patch(changes);
  return value;
}

Recipe parsed(const json& changes) {
  const Result<Curriculum> recipe = parse_recipe(small(changes), "r.toml");
  NAITE_CHECK(recipe.ok(), "{}", recipe.error().message);
  return recipe->first();
}

TEST(Schedule, EveryTailFallsFromThePeakToTheLowestRate) {
  for (const char* decay : {"linear", "cosine", "inverse_square_root"}) {
    const Recipe r = parsed({{"schedule", {{"decay", decay}, {"min_learning_rate_ratio", 0.25}}}});
    ASSERT_EQ(r.total_steps(), 1000);
    EXPECT_NEAR(r.learning_rate(0), 0.01 / 100, 1e-12);
    EXPECT_EQ(r.learning_rate(799), 0.01);
    EXPECT_NEAR(r.learning_rate(999), 0.0025, 1e-12) << decay;
    for (int64_t step = 800; step < 1000; ++step)
      EXPECT_LT(r.learning_rate(step), r.learning_rate(step - 1)) << decay << " " << step;
  }
  // Half way: 1 - 0.75 / 2, the same, and 1 / sqrt(1 + 15 / 2).
  const auto half_way = [](const char* decay) {
    return parsed({{"schedule", {{"decay", decay}, {"min_learning_rate_ratio", 0.25}}}})
               .learning_rate(899) /
           0.01;
  };
  EXPECT_NEAR(half_way("linear"), 0.625, 1e-12);
  EXPECT_NEAR(half_way("cosine"), 0.625, 1e-12);
  EXPECT_NEAR(half_way("inverse_square_root"), 1 / std::sqrt(8.5), 1e-12);
}

TEST(Recipe, ResolvedRecipesReadBackToTheSameDigest) {
  for (const json& changes :
       {json::object(), json{{"schedule", {{"decay", "cosine"}}}},
        json{{"averaging", {{"last", 3}, {"every", "2.5%"}}}}, json{{"growth", {{"noise", 0}}}},
        json{{"optimizer",
              {{"name", "muon"},
               {"muon", {{"momentum", 0.9}}},
               {"adamw", {{"learning_rate", 0.003}, {"betas", {0.8, 0.9}}}}}}}}) {
    const Result<Curriculum> recipe = parse_recipe(small(changes), "r.toml");
    ASSERT_TRUE(recipe.ok()) << recipe.error().message;
    const Result<Curriculum> again = parse_recipe(recipe->resolved(), "again");
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(again->digest(), recipe->digest());
    EXPECT_EQ(again->resolved(), recipe->resolved());
  }
}

TEST(Averaging, HappensInTheDecayAndMakesCheckpoints) {
  const Recipe recipe = parsed({{"averaging", {{"last", 6}, {"every", "5%"}}}});
  EXPECT_EQ(recipe.averaging_steps(), (std::vector<int64_t>{850, 900, 950, 1000}));
  const std::vector<int64_t> steps = recipe.checkpoint_steps();
  EXPECT_EQ(steps,
            (std::vector<int64_t>{0, 100, 200, 300, 400, 500, 600, 700, 800, 850, 900, 950, 1000}));
  EXPECT_TRUE(parsed({}).averaging_steps().empty());
}

TEST(Averaging, IsAStagesOwn) {
  const Result<Curriculum> recipe = parse_recipe(
      small({{"stage", {json::object(), {{"averaging", {{"last", 2}, {"every", "10%"}}}}}}}),
      "r.toml");
  ASSERT_TRUE(recipe.ok()) << recipe.error().message;
  EXPECT_TRUE(recipe->stages[0].averaging_steps().empty());
  EXPECT_EQ(recipe->stages[1].averaging_steps(), (std::vector<int64_t>{1900, 2000}));
}

TEST(Recipe, OnlyWhatIsUnusualIsWritten) {
  EXPECT_FALSE(parsed({}).resolved()["schedule"].contains("decay"));
  EXPECT_FALSE(parsed({}).resolved()["optimizer"].contains("muon"));
}

TEST(Recipe, MuonHasARateForMatricesAndOneForTheRest) {
  const Recipe recipe =
      parsed({{"optimizer",
               {{"name", "muon"}, {"learning_rate", 0.02}, {"adamw", {{"learning_rate", 0.004}}}}},
              {"schedule", {{"kind", "constant"}, {"decay_ratio", nullptr}}}});
  EXPECT_EQ(recipe.learning_rate(500), 0.02);
  EXPECT_EQ(recipe.other_learning_rate(500), 0.004);
  EXPECT_EQ(recipe.optimizer.muon.momentum, 0.95);
}

TEST(Recipe, BadOptimizersAndTailsAreOneClearLine) {
  const auto message = [](const json& changes) {
    const Result<Curriculum> recipe = parse_recipe(small(changes), "r.toml");
    return recipe.ok() ? std::string("accepted") : recipe.error().message;
  };
  EXPECT_EQ(message({{"optimizer", {{"name", "lion"}}}}),
            "r.toml: [optimizer] `name` must be one of adamw, muon, is \"lion\"");
  EXPECT_EQ(message({{"optimizer", {{"name", "muon"}, {"muon", {{"momentun", 0.9}}}}}}),
            "r.toml: [optimizer] [muon] does not know the key `momentun`; did you mean "
            "`momentum`?");
  EXPECT_EQ(message({{"optimizer", {{"muon", {{"momentum", 0.9}}}}}}),
            "r.toml: [optimizer] does not know the key `muon`; it knows betas, epsilon, "
            "learning_rate, name, weight_decay");
  EXPECT_EQ(message({{"averaging", {{"last", 3}}}}), "r.toml: [averaging] needs the key `every`");
  EXPECT_EQ(message({{"stage", {json::object(), {{"optimizer", {{"name", "muon"}}}}}}}),
            "r.toml: stage 2 [optimizer] `name` must be that of the first, adamw, is muon");
  EXPECT_EQ(message({{"schedule", {{"decay", "sqrt"}}}}),
            "r.toml: [schedule] `decay` must be one of linear, cosine, inverse_square_root, is "
            "\"sqrt\"");
  EXPECT_EQ(
      message({{"schedule", {{"decay", "inverse_square_root"}, {"min_learning_rate_ratio", 0}}}}),
      "r.toml: [schedule] `min_learning_rate_ratio` must be above 0: an inverse square root "
      "never reaches it, is 0");
}

}  // namespace
}  // namespace naite::train
