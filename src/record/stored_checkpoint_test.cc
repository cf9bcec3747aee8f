// SPDX-License-Identifier: Apache-2.0
#include "record/stored_checkpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "ledger/encoding.h"

namespace naite::record {
namespace {

namespace fs = std::filesystem;

class Stored : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / fmt::format("naite-stored-{}", getpid());
    fs::remove_all(root_);
    fs::create_directories(root_ / "run");
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      ASSERT_TRUE(write_file(root_ / "run" / name, "{}").ok());
    state_.specs = {{"a.weight", 30, 40, tape::Role::kMatrix},
                    {"b.weight", 1, 50, tape::Role::kVector}};
    state_.masters.resize(1250, 0.5f);
    state_.moments = {{"m", std::vector<float>(1250, 0.25f)}, {"v", std::vector<float>(1250, 2)}};
    state_.cursor = {12, 4096, 7, "chain-1", "recipe"};
    formats::CheckpointContent content;
    content.state = &state_;
    content.config = {{"model_type", "llama"}};
    content.dtype = formats::StoredType::kBf16;
    content.generation_config = nlohmann::json::object();
    content.model_card = "card";
    content.record.cursor = state_.cursor;
    content.tokenizer_directory = root_ / "run";
    ASSERT_TRUE(formats::write_checkpoint(path(), content).ok());
  }
  void TearDown() override { fs::remove_all(root_); }
  fs::path path() const { return root_ / "c"; }
  int64_t size_of(const char* file) const {
    return static_cast<int64_t>(fs::file_size(path() / file));
  }
  formats::TrainingState empty() const {
    formats::TrainingState state;
    state.specs = state_.specs;
    state.moments = {{"m", {}}, {"v", {}}};
    return state;
  }

  fs::path root_;
  ThreadPool pool_{2};
  formats::TrainingState state_;
};

// As an audit asks: all files, the digests, then the state once for each interval beside it.
TEST_F(Stored, EveryByteIsHashedOnceForItsFileAndOnceForItsTensor) {
  int64_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path()))
    if (entry.is_regular_file()) files += static_cast<int64_t>(entry.file_size());
  const int64_t tensors = size_of("model.safetensors") + size_of("state/optimizer.safetensors") +
                          size_of("state/cursor.json");
  StoredStates states(pool_);
  for (int time = 0; time < 3; ++time) {
    StoredCheckpoint& stored = **states.open(path());
    EXPECT_EQ(*stored.manifest(), *ledger::ModelManifest::of_directory(path()));
    EXPECT_TRUE(stored.check_files().ok());
    EXPECT_EQ(stored.digests()->state, stored.record().state_digest);
    EXPECT_EQ(stored.digests()->weights, stored.record().weights_digest);
    formats::TrainingState state = empty();
    ASSERT_TRUE(stored.read(state).ok());
    EXPECT_EQ(state.masters, state_.masters);
    EXPECT_EQ(state.cursor, state_.cursor);
    EXPECT_EQ(stored.bytes_hashed(), files + tensors);
  }
}

TEST_F(Stored, ReadingHashesNoTensor) {
  StoredCheckpoint stored = *StoredCheckpoint::open(path(), pool_);
  EXPECT_EQ(stored.bytes_hashed(), 0);
  std::vector<float> masters;
  ASSERT_TRUE(stored.read_masters(state_.specs, masters).ok());
  EXPECT_EQ(masters, state_.masters);
  int64_t listed = 0;
  for (const auto& [file, digest] : stored.record().files) listed += size_of(file.c_str());
  EXPECT_EQ(stored.bytes_hashed(), listed);
}

TEST_F(Stored, AFlippedByteOfAnyFileIsNamedAndRefused) {
  StoredCheckpoint known = *StoredCheckpoint::open(path(), pool_);
  ASSERT_TRUE(known.check_files().ok());
  for (const auto& [file, digest] : known.record().files) {
    const std::string intact = *read_file(path() / file);
    std::string damaged = intact;
    damaged[damaged.size() / 2] ^= 0x10;
    ASSERT_TRUE(write_file(path() / file, damaged).ok());
    // Whoever knew the file before sees that it was written again.
    StoredCheckpoint fresh = *StoredCheckpoint::open(path(), pool_);
    for (StoredCheckpoint* stored : {&fresh, &known}) {
      formats::TrainingState state = empty();
      const Status status = stored->read(state);
      ASSERT_FALSE(status.ok()) << file;
      EXPECT_NE(status.error().message.find(file), std::string::npos) << status.error().message;
    }
    ASSERT_TRUE(write_file(path() / file, intact).ok());
  }
  EXPECT_TRUE(known.check_files().ok());
  fs::remove(path() / "config.json");
  EXPECT_NE(known.check_files().error().message.find("config.json"), std::string::npos);
}

TEST_F(Stored, ALinkIsNoFileOfACheckpoint) {
  StoredCheckpoint stored = *StoredCheckpoint::open(path(), pool_);
  fs::create_symlink("/etc/hostname", path() / "beside");
  EXPECT_FALSE(stored.manifest().ok());
}

}  // namespace
}  // namespace naite::record
