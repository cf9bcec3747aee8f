// SPDX-License-Identifier: Apache-2.0
// Other people's files through the built program: hostile ones end in one line and little memory,
// models are taken over with a record of where they come from.
#include "tests/process.h"

namespace naite {
namespace {

using nlohmann::json;

constexpr int kDeep = 10000;
// Above what the program takes to say its version: a sanitizer adds much to both.
#ifdef NAITE_DEBUG  // AddressSanitizer's shadow and red zones come on top
constexpr int64_t kPeakBytesMax = 384 << 20;
#else
constexpr int64_t kPeakBytesMax = 128 << 20;
#endif

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
    // AddressSanitizer keeps what was freed; that is not what the program takes.
    const Ended ended = run(arguments, {"ASAN_OPTIONS=quarantine_size_mb=8"});
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
  json& vocab = tokenizer["model"]["vocab"];
  vocab[""] = vocab["b"];
  vocab.erase("b");
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

  // More values than any file of its kind has, a few bytes each.
  const std::string many = fmt::format("[{}0]", repeated("[],", 9 << 20));
  for (const char* file : {"config.json", "tokenizer.json", "generation_config.json",
                           "tokenizer_config.json", "record.json"})
    expect_refused(with_file(model, file, fmt::format("{{\"options\": {}}}", many)),
                   file + std::string(": more than "));
  expect_refused(
      {"train", with_text("toml", fmt::format("x = {}", many.substr(0, 3 << 20)))[1], "--dry-run"},
      "more than ");
  const std::string manifest = fresh("run") + "/data/manifest.json";
  ASSERT_TRUE(write_file(manifest, fmt::format("{{\"options\": {}}}", many)).ok());
  fs::remove_all(fresh("run") + "/ledger");
  const Ended inspected = run({"data", "inspect", fresh("run")});
  EXPECT_EQ(inspected.exit_code, 1);
  EXPECT_NE(inspected.err.find("manifest.json: more than"), std::string::npos) << inspected.err;
  EXPECT_LT(inspected.peak_bytes - run({"--version"}).peak_bytes, kPeakBytesMax);

  const std::string dots = "a" + repeated(".a", 1000000);
  const std::pair<std::string, std::string> recipes[] = {
      {"x = " + kArrays, "not valid TOML"},
      {dots + " = 1", "TOML key of more than 32 parts"},
      {"[" + dots + "]", "TOML key of more than 32 parts"}};
  for (const auto& [text, says] : recipes)
    expect_refused({"train", with_text("toml", text)[1], "--dry-run"}, says);
}

// Whatever is said of a model in any of its files and is not done ends in one line that names it,
// and never in another model.
TEST_F(Files, NothingThatIsSaidOfAModelIsDroppedSilently) {
  const std::string model = trained_model();
  const json config = json::parse(*read_file(model + "/config.json"));
  const json layered = {{"full_attention", {{"rope_theta", 1e6}}},
                        {"sliding_attention", {{"rope_theta", 1e4}}}};
  const std::pair<json, const char*> configs[] = {
      {{{"rope_parameters", layered}}, "rope_parameters"},
      {{{"rope_parameters", {{"rope_type", "yarn"}}}}, "factor"},
      {{{"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}}, "rope_scaling"},
      {{{"partial_rotary_factor", 0.5}}, "partial_rotary_factor"},
      {{{"attn_logit_softcapping", 50.0}}, "attn_logit_softcapping"},
      {{{"logits_scaling", 8.0}}, "logits_scaling"},
      {{{"quantization_config", {{"quant_method", "awq"}}}}, "quantization_config"},
      {{{"sliding_window", 4}}, "sliding_window"},
      {{{"mlp_bias", true}}, "mlp_bias"},
      {{{"hidden_act", "relu"}}, "hidden_act"},
      {{{"architectures", {"LlamaModel"}}}, "architectures"},
      {{{"some_later_idea", 3}}, "some_later_idea"},
      {{{"transformers_weights", "other.safetensors"}}, "transformers_weights"},
      {{{"auto_map", {{"AutoModelForCausalLM", "modeling_llama.Mine"}}}}, "auto_map"},
      {{{"configuration_files", {"config.4.0.0.json"}}}, "configuration_files"},
      {{{"dtype", "float16"}, {"torch_dtype", "float16"}}, "the config's type is float16"},
      {{{"eos_token_id", {1, 99999}}}, "99999"},
      {{{"tie_word_embeddings", true}}, "lm_head.weight"}};
  for (const auto& [changes, says] : configs) {
    json changed = config;
    changed.update(changes);
    const Words import = with_file(model, "config.json", changed.dump());
    expect_refused(import, says);
    expect_refused({"generate", import[1], "--prompt", "a"}, says);
    expect_refused({"export", import[1], "--to", "gguf", "--out", fresh("out")}, says);
  }
  const std::pair<const char*, const char*> files[] = {
      {"generation_config.json", R"({"eos_token_id": [1, 70000]})"},
      {"added_tokens.json", R"({"<pad>": 70000})"},
      {"special_tokens_map.json", R"({"pad_token": "<never seen>"})"},
      {"adapter_config.json", "{}"},
      {"tokenizer_config.json", R"({"fast_tokenizer_files": ["tokenizer.4.0.0.json"]})"},
      {"tokenizer_config.json", R"({"add_prefix_space": true})"},
      {"tokenizer_config.json", R"({"do_lower_case": true})"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"0": {"content": "!"}}})"},
      {"model.safetensors.index.json", R"({"weight_map": {"a": "other.safetensors"}})"}};
  for (const auto& [file, text] : files) {
    const Words import = with_file(model, file, text);
    const std::string says = file == std::string("model.safetensors.index.json") ? "index" : file;
    expect_refused(import, says);
    expect_refused({"generate", import[1], "--prompt", "a"}, says);
  }
}

TEST_F(Files, ATokenBeyondTheModelIsNamedByEveryCommand) {
  const std::string model = trained_model();
  json tokenizer = json::parse(*read_file(model + "/tokenizer.json"));
  const json config = json::parse(*read_file(model + "/config.json"));
  for (const int64_t id : {config["vocab_size"].get<int64_t>(), int64_t{5'000'000}}) {
    json changed = tokenizer;
    changed["added_tokens"].push_back({{"id", id}, {"content", "<pad>"}, {"special", true}});
    const Words import = with_file(model, "tokenizer.json", changed.dump());
    const std::string says = fmt::format("<pad> has the id {}, but the model's vocab_size is {}",
                                         id, config["vocab_size"].get<int64_t>());
    expect_refused(import, says);
    expect_refused({"generate", import[1], "--prompt", "a <pad> b"}, says);
    expect_refused({"export", import[1], "--to", "gguf", "--out", fresh("out")}, says);
    expect_refused({"export", import[1], "--to", "hf", "--out", fresh("out")}, says);
  }
}

TEST_F(Files, FilesOfOtherKindsAreCalledWhatTheyAre) {
  const std::string model = trained_model();
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') +
      "\nsize 123\n";
  for (const char* file : {"model.safetensors", "tokenizer.json", "config.json"}) {
    const Words import = with_file(model, file, pointer);
    expect_refused(import, "Git LFS");
    expect_refused({"generate", import[1], "--prompt", "a"}, "Git LFS");
    expect_refused(with_file(model, file, ""), file);
  }
  expect_refused(with_text("gguf", pointer), "Git LFS");
  const std::string directory = fresh("pickled");
  fs::create_directories(directory);
  EXPECT_TRUE(write_file(directory + "/config.json", "{}").ok());
  EXPECT_TRUE(write_file(directory + "/pytorch_model.bin", "PK").ok());
  expect_refused({"generate", directory, "--prompt", "a"}, "convert them to safetensors");
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
