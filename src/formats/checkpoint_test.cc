// SPDX-License-Identifier: Apache-2.0
#include "formats/checkpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cctype>
#include <cstring>
#include <fstream>

namespace naite::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Checkpoint : public testing::TestWithParam<StoredType> {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / fmt::format("naite-checkpoint-{}", getpid());
    fs::remove_all(root_);
    fs::create_directories(root_ / "run");
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      ASSERT_TRUE(write_file(root_ / "run" / name, "{}").ok());
    state_.specs = {{"a.weight", 3, 4, tape::Role::kMatrix},
                    {"b.weight", 1, 5, tape::Role::kVector}};
    state_.moments = {{"m", values(1)}, {"v", values(2)}, {"w", values(3), {1}}};
    state_.moments[2].values.resize(5);  // of b.weight alone
    state_.masters = values(0);
    state_.cursor = {{"step", 12}, {"tokens", 4096}};
  }
  void TearDown() override { fs::remove_all(root_); }

  static std::vector<float> values(uint32_t stream) {
    std::vector<float> out(17);
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<float>(random_unit(1, Purpose::kSampling, i, stream) - 0.5);
    return out;
  }
  void write(const std::string& name) {
    CheckpointContent content;
    content.state = &state_;
    content.config = {{"model_type", "llama"}};
    content.dtype = GetParam();
    content.generation_config = json::object();
    content.model_card = "card";
    content.record = {{"step", 12}};
    content.tokenizer_directory = root_ / "run";
    const Status status = write_checkpoint(root_ / name, content);
    ASSERT_TRUE(status.ok()) << status.error().message;
  }
  TrainingState empty() const {
    TrainingState state;
    state.specs = state_.specs;
    state.moments = {{"m", {}}, {"v", {}}, {"w", {}, {1}}};
    return state;
  }

  fs::path root_;
  TrainingState state_;
};
INSTANTIATE_TEST_SUITE_P(Types, Checkpoint, testing::Values(StoredType::kF32, StoredType::kBf16),
                         [](const auto& info) {
                           return info.param == StoredType::kF32 ? "fp32" : "bf16";
                         });

TEST_P(Checkpoint, ReadsBackEveryBit) {
  write("c");
  TrainingState read = empty();
  const Status status = read_checkpoint(root_ / "c", read);
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(read.masters, state_.masters);
  EXPECT_EQ(read.moments[0].values, state_.moments[0].values);
  EXPECT_EQ(read.moments[1].values, state_.moments[1].values);
  EXPECT_EQ(read.moments[2].values, state_.moments[2].values);
  EXPECT_EQ(read.cursor, state_.cursor);
  const json record = json::parse(*read_file(root_ / "c" / "record.json"));
  EXPECT_EQ(record["weights_digest"], *weights_digest(root_ / "c"));
  EXPECT_EQ(record["state_digest"], *state_digest(root_ / "c"));
}

// Flips every bit behind the header of a file, one at a time, and expects another digest or an
// error.
TEST_P(Checkpoint, AnySingleBitOfParametersMomentsOrCursorChangesTheDigest) {
  write("c");
  const std::string expected = *state_digest(root_ / "c");
  for (const char* file :
       {"model.safetensors", "state/optimizer.safetensors", "state/cursor.json"}) {
    const fs::path path = root_ / "c" / file;
    const std::string intact = *read_file(path);
    uint64_t header = 0;
    if (path.extension() == ".safetensors") {
      std::memcpy(&header, intact.data(), 8);
      header += 8;
    }
    for (size_t bit = header * 8; bit < intact.size() * 8; ++bit) {
      std::string damaged = intact;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
      std::ofstream(path, std::ios::binary) << damaged;
      const Result<std::string> found = state_digest(root_ / "c");
      // White space in the cursor file is not part of the cursor.
      const bool white = std::isspace(static_cast<unsigned char>(damaged[bit / 8])) &&
                         std::isspace(static_cast<unsigned char>(intact[bit / 8]));
      EXPECT_TRUE(white || !found.ok() || *found != expected) << file << " bit " << bit;
    }
    std::ofstream(path, std::ios::binary) << intact;
  }
  EXPECT_EQ(*state_digest(root_ / "c"), expected);
}

TEST_P(Checkpoint, AFlippedByteOfAnyFileIsNamedAndRefused) {
  write("c");
  for (const auto& entry : fs::recursive_directory_iterator(root_ / "c")) {
    if (!entry.is_regular_file() || entry.path().filename() == "record.json") continue;
    const std::string intact = *read_file(entry.path());
    std::string damaged = intact;
    damaged[damaged.size() / 2] ^= 0x10;
    ASSERT_TRUE(write_file(entry.path(), damaged).ok());
    TrainingState state = empty();
    const Status status = read_checkpoint(root_ / "c", state);
    ASSERT_FALSE(status.ok()) << entry.path();
    EXPECT_NE(status.error().message.find(entry.path().filename().string()), std::string::npos);
    ASSERT_TRUE(write_file(entry.path(), intact).ok());
  }
}

TEST_P(Checkpoint, AMissingFileOrTensorIsOneClearLine) {
  write("c");
  fs::remove(root_ / "c" / "state" / "optimizer.safetensors");
  TrainingState state = empty();
  EXPECT_FALSE(read_checkpoint(root_ / "c", state).ok());
  write("d");
  state = empty();
  state.specs.push_back({"c.weight", 2, 2, tape::Role::kMatrix});
  EXPECT_NE(read_checkpoint(root_ / "d", state).error().message.find("c.weight"),
            std::string::npos);
}

}  // namespace
}  // namespace naite::formats
