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
    state_.cursor = {12, 4096, -3, "chain-1", "recipe"};
  }
  void TearDown() override { fs::remove_all(root_); }

  static std::vector<float> values(uint32_t stream) {
    std::vector<float> out(17);
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<float>(random_unit(1, Purpose::kSampling, i, stream) - 0.5);
    return out;
  }
  CheckpointContent content() const {
    CheckpointContent content;
    content.config = {{"model_type", "llama"}};
    content.dtype = GetParam();
    content.generation_config = json::object();
    content.model_card = "card";
    content.record.cursor = state_.cursor;
    content.tokenizer_directory = root_ / "run";
    return content;
  }
  void write(const std::string& name) {
    CheckpointContent content = this->content();
    content.state = &state_;
    const Result<Record> written = write_checkpoint(root_ / name, content);
    ASSERT_TRUE(written.ok()) << written.error().message;
    EXPECT_EQ(written->to_json(), Record::read(root_ / name)->to_json());
  }
  TrainingState empty() const {
    TrainingState state;
    state.specs = state_.specs;
    state.moments = {{"m", {}}, {"v", {}}, {"w", {}, {1}}};
    return state;
  }

  fs::path root_;
  ThreadPool pool_{2};
  TrainingState state_;
};
INSTANTIATE_TEST_SUITE_P(Types, Checkpoint, testing::Values(StoredType::kF32, StoredType::kBf16),
                         [](const auto& info) {
                           return info.param == StoredType::kF32 ? "fp32" : "bf16";
                         });

TEST_P(Checkpoint, ReadsBackEveryBit) {
  write("c");
  TrainingState read = empty();
  const Status status = read_tensors(root_ / "c", read);
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(read.masters, state_.masters);
  EXPECT_EQ(read.moments[0].values, state_.moments[0].values);
  EXPECT_EQ(read.moments[1].values, state_.moments[1].values);
  EXPECT_EQ(read.moments[2].values, state_.moments[2].values);
  EXPECT_EQ(*read_cursor(root_ / "c"), state_.cursor);
  const Record record = *Record::read(root_ / "c");
  EXPECT_EQ(record.weights_digest, *weights_digest(root_ / "c", pool_));
  EXPECT_EQ(record.weights_digest, directory_digests(root_ / "c", pool_)->weights);
  EXPECT_EQ(record.state_digest, directory_digests(root_ / "c", pool_)->state);
  EXPECT_EQ(record.weights_digest, state_digests(state_, GetParam(), pool_)->weights);
  EXPECT_EQ(record.state_digest, state_digests(state_, GetParam(), pool_)->state);
}

// Flips every bit behind the header of a file, one at a time, and expects another digest or an
// error.
TEST_P(Checkpoint, AnySingleBitOfParametersMomentsOrCursorChangesTheDigest) {
  write("c");
  const std::string expected = directory_digests(root_ / "c", pool_)->state;
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
      const Result<CheckpointDigests> found = directory_digests(root_ / "c", pool_);
      // White space in the cursor file is not part of the cursor.
      const bool white = std::isspace(static_cast<unsigned char>(damaged[bit / 8])) &&
                         std::isspace(static_cast<unsigned char>(intact[bit / 8]));
      EXPECT_TRUE(white || !found.ok() || found->state != expected) << file << " bit " << bit;
    }
    std::ofstream(path, std::ios::binary) << intact;
  }
  EXPECT_EQ(directory_digests(root_ / "c", pool_)->state, expected);
}

// Without a value, the layout has every file: texts whole, tensors but for their bytes.
TEST_P(Checkpoint, TheLayoutIsWhatIsWritten) {
  write("c");
  TrainingState shape = empty();
  shape.cursor = state_.cursor;
  CheckpointContent content = this->content();
  content.state = &shape;
  const CheckpointLayout layout = *layout_of(content);
  std::map<std::string, std::string> tensor_files;
  for (const auto& [name, tensors] : layout.tensors) {
    const std::string file = *read_file(root_ / "c" / name);
    EXPECT_TRUE(file.starts_with(tensors.head)) << name;
    EXPECT_EQ(static_cast<int64_t>(file.size()), tensors.bytes) << name;
    tensor_files[name] = sha256_hex(file);
  }
  for (const auto& [name, text] : layout.texts)
    EXPECT_EQ(*read_file(root_ / "c" / name), text) << name;
  const Record record = layout.record_of(*directory_digests(root_ / "c", pool_), tensor_files);
  EXPECT_EQ(*read_file(root_ / "c/record.json"), record_text(record));
  size_t files = 0;
  for (const auto& item : fs::recursive_directory_iterator(root_ / "c"))
    files += item.is_regular_file();
  EXPECT_EQ(files, layout.texts.size() + layout.tensors.size() + 1);
}

TEST_P(Checkpoint, AMissingFileOrTensorIsOneClearLine) {
  write("c");
  fs::remove(root_ / "c" / "state" / "optimizer.safetensors");
  TrainingState state = empty();
  EXPECT_FALSE(read_tensors(root_ / "c", state).ok());
  write("d");
  state = empty();
  state.specs.push_back({"c.weight", 2, 2, tape::Role::kMatrix});
  EXPECT_NE(read_tensors(root_ / "d", state).error().message.find("c.weight"), std::string::npos);
}

TEST(RecordText, WhatIsNoRecordIsOneClearLine) {
  const fs::path directory = fs::temp_directory_path() / fmt::format("naite-record-{}", getpid());
  fs::create_directories(directory);
  const auto message = [&](const std::string& text) {
    EXPECT_TRUE(write_file(directory / "record.json", text).ok());
    const Result<Record> read = Record::read(directory);
    EXPECT_FALSE(read.ok()) << text;
    return read.ok() ? std::string() : read.error().message;
  };
  for (const char* text : {"[]", "1", "null", "\"x\"", "", "{", "[{}]", "1e999"}) {
    const std::string line = message(text);
    EXPECT_NE(line.find("record.json"), std::string::npos) << line;
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  }
  const std::string files = R"("files": {"a": "00"})";
  EXPECT_NE(message("{}").find("lists no files"), std::string::npos);
  EXPECT_NE(message(R"({"files": {"../a": "00"}})").find("in its directory"), std::string::npos);
  for (const char* wrong :
       {R"("step": "3")", R"("loss": [])", R"("validation": 1)", R"("validation": {"a": null})",
        R"("branch": 7)", R"("branch": {"from": 1})", R"("data": {})", R"("data": [3])",
        R"("state_digest": "xyz")", R"("weights_digest": 1)", R"("origin": [])", R"("steps": 1)"})
    EXPECT_FALSE(message("{" + files + ", " + wrong + "}").empty()) << wrong;
  EXPECT_TRUE(write_file(directory / "record.json", "{" + files + "}").ok());
  EXPECT_TRUE(Record::read(directory).ok());
  fs::remove_all(directory);
}

}  // namespace
}  // namespace naite::formats
