// SPDX-License-Identifier: Apache-2.0
// What a sample chooses, and that the chances which it states are those of its draw.
#include "verify/sampling.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <set>

#include "formats/safetensors.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;

// Calls use(sample) once for each sequence of draws that there can be, all of them equally likely.
template <class Use>
int64_t for_every_draw(const std::vector<Change>& changes, int64_t count, const Use& use) {
  std::vector<int64_t> digits, bounds;
  int64_t draws = 0;
  while (true) {
    size_t at = 0;
    const Sample sample = choose_sample(changes, count, [&](int64_t bound) {
      if (at == digits.size()) {
        digits.push_back(0);
        bounds.push_back(bound);
      }
      EXPECT_EQ(bounds[at], bound);
      return digits[at++];
    });
    use(sample);
    ++draws;
    size_t last = digits.size();
    while (last > 0 && digits[last - 1] + 1 == bounds[last - 1]) digits[--last] = 0;
    if (last == 0) return draws;
    ++digits[last - 1];
  }
}

std::set<size_t> chosen(const Sample& sample) {
  std::set<size_t> out = {0};
  out.insert(sample.largest.begin(), sample.largest.end());
  out.insert(sample.random.begin(), sample.random.end());
  return out;
}

// Forged are any `forged` of those that the draw decides about: all such choices are alike.
double missed_share(const std::vector<Change>& changes, int64_t count, int64_t forged) {
  int64_t missed = 0;
  const int64_t draws = for_every_draw(changes, count, [&](const Sample& sample) {
    const std::set<size_t> taken(sample.largest.begin(), sample.largest.end());
    const std::set<size_t> all = chosen(sample);
    int64_t left = forged;
    bool found = false;
    for (size_t i = 1; i < changes.size() && left > 0; ++i) {
      if (taken.contains(i)) continue;
      found = found || all.contains(i);
      --left;
    }
    missed += left > 0 || !found;
  });
  return static_cast<double>(missed) / static_cast<double>(draws);
}

TEST(Sampling, ItsChancesAreThoseOfItsDraw) {
  for (const int64_t total : {1, 2, 3, 7, 11, 12}) {
    std::vector<Change> changes;
    for (int64_t i = 0; i < total; ++i)
      changes.push_back({{"weights", static_cast<double>(i * 5 % 7)}, {"m", 1.0}});
    for (int64_t count = 1; count <= std::min<int64_t>(total, 7); ++count) {
      const Sample sample = choose_sample(changes, count, [](int64_t) { return int64_t{0}; });
      EXPECT_EQ(static_cast<int64_t>(chosen(sample).size()), count);
      const int64_t left = total - 1 - static_cast<int64_t>(sample.largest.size());
      const int64_t tenth = (total + 9) / 10;
      if (left == 0) {
        EXPECT_EQ(sample.miss_one, 0);
        EXPECT_EQ(sample.miss_tenth, 0);
        continue;
      }
      EXPECT_NEAR(sample.miss_one, missed_share(changes, count, 1), 1e-12) << total << " " << count;
      EXPECT_NEAR(sample.miss_tenth, missed_share(changes, count, std::min(left, tenth)), 1e-12)
          << total << " " << count;
    }
  }
}

TEST(Sampling, EverySetIsDrawnEquallyOften) {
  const std::vector<Change> changes(7);
  std::map<std::set<size_t>, int> often;
  EXPECT_EQ(for_every_draw(changes, 4, [&](const Sample& sample) { ++often[chosen(sample)]; }), 4);
  EXPECT_EQ(often.size(), 4u);  // 2 of large change, 1 of the 4 others
  often.clear();
  for_every_draw(changes, 6, [&](const Sample& sample) { ++often[chosen(sample)]; });
  EXPECT_EQ(often.size(), 3u);  // 3 of large change, 2 of the 3 others
  for (const auto& [set, times] : often) EXPECT_EQ(times, 2);
}

TEST(Sampling, TakesLargeChangesOfEveryPartInTurnAndTheEarlierOfEqualOnes) {
  const auto nothing = [](int64_t) { return int64_t{0}; };
  std::vector<Change> changes(9, {{"weights", 1.0}, {"m", 1.0}, {"v", 1.0}});
  EXPECT_EQ(choose_sample(changes, 8, nothing).largest, (std::vector<size_t>{1, 2, 3, 4}));
  changes[7]["v"] = 1.5;
  changes[6]["m"] = 2;
  changes[5]["weights"] = 3;
  changes[5]["m"] = 2;  // taken for its weights already
  EXPECT_EQ(choose_sample(changes, 8, nothing).largest, (std::vector<size_t>{5, 6, 7, 1}));
  changes[8]["a part that others lack"] = 1e-9;
  EXPECT_EQ(choose_sample(changes, 9, nothing).largest[1], 8u);
  EXPECT_TRUE(choose_sample(changes, 1, nothing).largest.empty());
  EXPECT_EQ(chosen(choose_sample(changes, 100, nothing)).size(), 9u);
}

TEST(Sampling, RandomNumbersCoverTheirRange) {
  for (const int64_t bound : {int64_t{1}, int64_t{2}, int64_t{3}, INT64_MAX}) {
    std::set<int64_t> seen;
    for (int i = 0; i < 200; ++i) {
      const int64_t number = random_below(bound);
      EXPECT_GE(number, 0);
      EXPECT_LT(number, bound);
      seen.insert(number);
    }
    EXPECT_EQ(seen.size(), std::min<size_t>(200, static_cast<size_t>(bound)));
  }
}

class Changes : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / fmt::format("naite-sampling-{}", ::getpid());
    fs::remove_all(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  using Tensors = std::map<std::string, std::vector<float>>;
  static void write(const fs::path& file, const Tensors& tensors) {
    std::vector<formats::TensorSpec> specs;
    for (const auto& [name, values] : tensors)
      specs.push_back({name, formats::StoredType::kF32, {static_cast<int64_t>(values.size())}});
    fs::create_directories(file.parent_path());
    ASSERT_TRUE(formats::write_safetensors(
                    file, specs, {},
                    [&](const formats::TensorSpec& spec, const formats::ByteSink& sink) {
                      const std::vector<float>& values = tensors.at(spec.name);
                      return sink(values.data(), values.size() * sizeof(float));
                    })
                    .ok());
  }
  fs::path state(const std::string& name, const Tensors& weights, const Tensors& optimizer) {
    write(directory_ / name / "model.safetensors", weights);
    write(directory_ / name / "state/optimizer.safetensors", optimizer);
    return directory_ / name;
  }

  fs::path directory_;
};

TEST_F(Changes, CoverEverythingThatAStateHolds) {
  const fs::path a = state("a", {{"w", {1, 2}}}, {{"m.w", {0, 0}}, {"v.w", {1, 1}}});
  const fs::path b = state("b", {{"w", {4, 6}}}, {{"m.w", {0, 2}}, {"s.w", {3, 4}}});
  const Result<Change> change = change_between(a, b);
  ASSERT_TRUE(change.ok()) << change.error().message;
  EXPECT_EQ(*change, (Change{{"weights", 5.0}, {"m", 2.0}, {"s", 5.0}, {"v", std::sqrt(2.0)}}));
  // The fp32 masters are weights, too.
  const fs::path c = state("c", {{"w", {0}}}, {{"master.w", {0}}});
  const fs::path d = state("d", {{"w", {0}}}, {{"master.w", {7}}});
  EXPECT_EQ(*change_between(c, d), (Change{{"weights", 7.0}}));
  const float huge = std::numeric_limits<float>::max();
  const fs::path e = state("e", {{"w", {huge, huge}}}, {{"m.w", {0}}});
  const fs::path f = state("f", {{"w", {-huge, -huge}}}, {{"m.w", {0}}});
  EXPECT_TRUE(std::isfinite(change_between(e, f)->at("weights")));
}

TEST_F(Changes, ANumberThatIsNoneHidesNothing) {
  const fs::path good = state("good", {{"w", {1, 2}}}, {{"m.w", {0, 0}}});
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    const fs::path weights = state("weights", {{"w", {1, bad}}}, {{"m.w", {0, 0}}});
    const fs::path moments = state("moments", {{"w", {1, 2}}}, {{"m.w", {bad, 0}}});
    for (const fs::path& state : {weights, moments})
      for (const Result<Change>& change :
           {change_between(good, state), change_between(state, good)}) {
        ASSERT_FALSE(change.ok());
        EXPECT_EQ(change.error().kind, ErrorKind::kWrong);
        EXPECT_NE(change.error().message.find("no finite number"), std::string::npos);
        EXPECT_NE(change.error().message.find(state.string()), std::string::npos);
      }
  }
}

}  // namespace
}  // namespace naite::verify
