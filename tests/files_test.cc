// SPDX-License-Identifier: Apache-2.0
// Other people's files through the built program: hostile ones end in one line and little memory,
// models are taken over with a record of where they come from.
#include "tests/process.h"

namespace naite {
namespace {

using nlohmann::json;

constexpr int kDeep = 10000;
// Above what the program takes to say its version: a sanitizer adds much to both.
constexpr int64_t kPeakBytesMax = 128 << 20;

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

// 10,000 deep.
const std::string kArrays = repeated("[", kDeep) + repeated("]", kDeep);
const std::string kTables = repeated("{\"a\":", kDeep) + "1" + repeated("}", kDeep);

template <typename T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string safetensors(const std::string& header, size_t data_bytes) {
  return bytes_of(uint64_t{header.size()}) + header + std::string(data_bytes, '\0');
}

std::string one_tensor(const char* shape, const char* offsets) {
  return fmt::format(R"({{"x":{{"dtype":"F32","shape":{},"data_offsets":{}}}}})", shape, offsets);
}

std::string gguf_text(const std::string& text) { return bytes_of(uint64_t{text.size()}) + text; }

std::string gguf(uint64_t num_tensors, uint64_t num_keys, const std::string& rest) {
  return "GGUF" + bytes_of(uint32_t{3}) + bytes_of(num_tensors) + bytes_of(num_keys) + rest;
}

// A tensor called "t" of three dimensions.
std::string gguf_tensor(uint64_t size, uint64_t offset) {
  return gguf_text("t") + bytes_of(uint32_t{3}) + bytes_of(size) + bytes_of(size) + bytes_of(size) +
         bytes_of(uint32_t{0}) + bytes_of(offset) + std::string(256, '\0');
}

class Files : public Process {
 protected:
  // A file of a model that is good but for it.
  Words with_file(const std::string& model, const std::string& file, const std::string& text) {
    const fs::path directory = fresh(fmt::format("case{}", ++count_));
    fs::copy(model, directory, fs::copy_options::recursive);
    EXPECT_TRUE(write_file(directory / file, text).ok());
    return {"import", directory.string(), "--out", fresh("out")};
  }
  Words with_text(const std::string& extension, const std::string& bytes) {
    const std::string path = fresh(fmt::format("case{}.{}", ++count_, extension));
    EXPECT_TRUE(write_file(path, bytes).ok());
    return {"import", path, "--out", fresh("out")};
  }
  void expect_refused(const Words& arguments, const std::string& says) {
    const Ended ended = run(arguments);
    EXPECT_EQ(ended.exit_code, 1) << says;
    EXPECT_NE(ended.err.find(says), std::string::npos) << says << ", but: " << ended.err;
    EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1) << ended.err;
    EXPECT_LT(ended.err.size(), 1000) << says;
    static const int64_t idle_bytes = run({"--version"}).peak_bytes;
    EXPECT_LT(ended.peak_bytes - idle_bytes, kPeakBytesMax) << says;
    EXPECT_FALSE(fs::exists(fresh("out"))) << says;
  }
  std::string trained_model() {
    const std::string run_directory = fresh("run");
    EXPECT_EQ(run(train(run_directory)).exit_code, 0);
    const Ended exported = run({"export", run_directory, "--to", "hf", "--out", fresh("model")});
    EXPECT_EQ(exported.exit_code, 0) << exported.err;
    return fresh("model");
  }

 private:
  int count_ = 0;
};

TEST_F(Files, HostileWeightsAreOneClearLineInBoundedMemory) {
  const std::string model = trained_model();
  const auto expect = [&](const std::string& bytes, const std::string& says) {
    expect_refused(with_file(model, "model.safetensors", bytes), says);
  };
  expect(bytes_of(uint64_t{1} << 63) + "{}", "claims a header of 9223372036854775808 bytes");
  expect(safetensors(one_tensor("[2]", "[0,8]"), 4), "outside the data (4 bytes)");
  expect(safetensors(one_tensor("[1]", "[9223372036854775808,9223372036854775812]"), 4),
         "outside the data (4 bytes)");
  expect(safetensors(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                     R"("y":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                     6),
         "tensors overlap");
  expect(safetensors(one_tensor("[4294967296,4294967296,4294967296]", "[0,4]"), 4),
         "no valid number of elements");
  expect(safetensors(one_tensor("[4611686018427387904,4]", "[0,0]"), 0),
         "no valid number of elements");
  expect(safetensors(kArrays, 0), "does not begin with {");
  expect(safetensors("{\"x\":" + kArrays + "}", 0), "model.safetensors: ");
  expect(safetensors(kTables, 0), "model.safetensors: ");
}

TEST_F(Files, HostileGgufIsOneClearLineInBoundedMemory) {
  const auto expect = [&](const std::string& bytes, const std::string& says) {
    expect_refused(with_text("gguf", bytes), says);
  };
  const std::string nested = repeated(bytes_of(uint32_t{9}) + bytes_of(uint64_t{1}), kDeep);
  expect(gguf(0, 1, gguf_text("k") + bytes_of(uint32_t{9}) + nested), "nested too deep");
  expect(gguf(uint64_t{1} << 63, 0, ""), "truncated");
  expect(gguf(0, uint64_t{1} << 63, ""), "truncated");
  expect(gguf(0, 1, bytes_of(uint64_t{1} << 63) + std::string(64, 'k')), "truncated");
  expect(gguf(1, 0, gguf_tensor(uint64_t{1} << 32, 0)), "no valid number of elements");
  expect(gguf(1, 0, gguf_tensor(1, uint64_t{1} << 62)), "outside the data");
}

TEST_F(Files, HostileTextsAreOneClearLineInBoundedMemory) {
  const std::string model = trained_model();
  json config = json::parse(*read_file(model + "/config.json"));
  config["vocab_size"] = config["hidden_size"] = int64_t{1} << 62;
  expect_refused(with_file(model, "config.json", config.dump()), "`vocab_size` must be an integer");
  for (const char* file : {"config.json", "tokenizer_config.json", "record.json"})
    for (const std::string& text : {kArrays, kTables})
      expect_refused(with_file(model, file, text), "JSON nested deeper than 100 levels");

  json tokenizer = json::parse(*read_file(model + "/tokenizer.json"));
  json& merges = tokenizer["model"]["merges"];
  merges = json::array({json::array({"ab", "a"}), json::array({"a", "b"})});
  const std::string ahead = tokenizer.dump();
  tokenizer["model"]["vocab"][""] = tokenizer["model"]["vocab"].size();
  merges = json::array({json::array({"a", ""})});
  const std::pair<std::string, std::string> tokenizers[] = {
      {ahead, "names a token that `vocab` lacks"},
      {tokenizer.dump(), "gives one of its own parts again"},
      {kTables, "tokenizer.json: JSON nested deeper than 100 levels"}};
  for (const auto& [text, says] : tokenizers) {
    const std::string directory = with_file(model, "tokenizer.json", text)[1];
    expect_refused({"generate", directory, "--prompt", "a"}, says);
    expect_refused({"tokenizer", "encode", directory}, says);
  }

  const std::string dots = "a" + repeated(".a", 1000000);
  const std::pair<std::string, std::string> recipes[] = {
      {"x = " + kArrays, "not valid TOML"},
      {dots + " = 1", "TOML key of more than 32 parts"},
      {"[" + dots + "]", "TOML key of more than 32 parts"}};
  for (const auto& [text, says] : recipes)
    expect_refused({"train", with_text("toml", text)[1], "--dry-run"}, says);
}

TEST_F(Files, AnImportedModelSaysWhereItComesFrom) {
  const std::string model = trained_model();
  const Ended imported = run({"import", fresh("run"), "--out", fresh("mine"), "--json"});
  ASSERT_EQ(imported.exit_code, 0) << imported.err;
  const json line = json::parse(imported.out);
  EXPECT_EQ("weights " + line["weights"].get<std::string>() + "\n", digest(model));
  EXPECT_EQ(digest(fresh("mine")), digest(model));
  const json record = json::parse(*read_file(fresh("mine") + "/record.json"));
  EXPECT_EQ(record["origin"], line["origin"]);
  EXPECT_EQ(record["weights_digest"], line["weights"]);
  EXPECT_NE(record["origin"]["from"].get<std::string>().find("run/checkpoints/"),
            std::string::npos);
  EXPECT_EQ(record["origin"]["recipe_digest"].get<std::string>().size(), 64);
  EXPECT_EQ(record["files"]["model.safetensors"],
            *sha256_file(fresh("mine") + "/model.safetensors"));

  const std::string file = fresh("model.gguf");
  ASSERT_EQ(run({"export", model, "--to", "gguf", "--quantize", "f32", "--out", file}).exit_code,
            0);
  ASSERT_EQ(run({"import", file, "--out", fresh("theirs")}).exit_code, 0);
  const json theirs = json::parse(*read_file(fresh("theirs") + "/record.json"));
  EXPECT_EQ(theirs["origin"]["weights_digest"], *sha256_file(file));
  const Words greedy{"--prompt", "the", "--temperature", "0", "--max-tokens", "8"};
  EXPECT_EQ(run(with({"generate", fresh("theirs")}, greedy)).out,
            run(with({"generate", file}, greedy)).out);

  const Ended again = run({"import", model, "--out", fresh("mine")});  // nothing is overwritten
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_NE(again.err.find("exists already"), std::string::npos) << again.err;
}

}  // namespace
}  // namespace naite
