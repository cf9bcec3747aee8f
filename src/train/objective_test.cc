// SPDX-License-Identifier: Apache-2.0
#include "train/objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace naite::train {
namespace {

using testing::ElementsAre;

Batch targets_of(std::vector<int32_t> targets) {
  Batch out = Batch::text(static_cast<int64_t>(targets.size()));
  std::copy(targets.begin(), targets.end(), out.ints("targets").begin());
  return out;
}

// Without weights every target counts one, and its share is rounded once.
TEST(Pretrain, CountsEveryTargetOnce) {
  const Objective& pretrain = objective_of("pretrain");
  Batch batch = targets_of({5, -1, 7, 2, 2, 2, 2, 2});
  pretrain.declare(batch);
  EXPECT_EQ(pretrain.weight(batch), 7);
  pretrain.fill(batch, 7);
  const auto share = static_cast<float>(1.0 / 7);
  EXPECT_THAT(batch.floats("scale"),
              ElementsAre(share, 0, share, share, share, share, share, share));
  const std::vector<float> losses{1, 0, 2, 4, 0, 0, 0, 0.5f};
  EXPECT_EQ(pretrain.sum(batch, losses), 7.5);
}

TEST(Pretrain, WeighsTargetsWhereTheRowsSaySo) {
  const Objective& pretrain = objective_of("pretrain");
  Batch batch = targets_of({5, -1, 7, 2});
  pretrain.declare(batch);
  batch.add_floats("weights", 4);
  const std::vector<float> weights{0.5f, 9, 2, 1.5f};
  std::copy(weights.begin(), weights.end(), batch.floats("weights").begin());
  EXPECT_EQ(pretrain.weight(batch), 4);
  pretrain.fill(batch, 8);  // with another micro-batch of the step
  EXPECT_THAT(batch.floats("scale"), ElementsAre(0.0625f, 0, 0.25f, 0.1875f));
  const std::vector<float> losses{1, 100, 2, 4};
  EXPECT_EQ(pretrain.sum(batch, losses), 10.5);
}

}  // namespace
}  // namespace naite::train
