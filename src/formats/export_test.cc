// SPDX-License-Identifier: Apache-2.0
#include "formats/export.h"

#include <gtest/gtest.h>

#include <limits>

#include "formats/gguf_keys.h"

namespace naite::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kTokenizer = R"({
  "version": "1.0",
  "added_tokens": [{"id": 4, "content": "<|endoftext|>", "special": true},
                   {"id": 5, "content": "<tool>", "special": false}],
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
    {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": "x|\\p{N}|y"}},
    {"type": "ByteLevel", "use_regex": false}]},
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "aba": 3},
            "merges": [["a", "b"], "ab a"]}})";

// A model directory with weights that depend on their names alone.
class Export : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / fmt::format("naite-export-{}", ::getpid());
    fs::remove_all(root_);
    fs::create_directories(root_ / "model");
  }
  void TearDown() override { fs::remove_all(root_); }

  static json config(bool tied) {
    return {
        {"model_type", "llama"},       {"vocab_size", 8},        {"hidden_size", 32},
        {"intermediate_size", 64},     {"num_hidden_layers", 3}, {"num_attention_heads", 4},
        {"num_key_value_heads", 2},    {"rope_theta", 5000.0},   {"max_position_embeddings", 128},
        {"tie_word_embeddings", tied}, {"eos_token_id", 4}};
  }
  static std::vector<float> values_of(const tape::ParameterSpec& spec) {
    std::vector<float> out(static_cast<size_t>(spec.size()));
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<float>(
                   random_unit(std::hash<std::string>()(spec.name), Purpose::kSampling, i)) -
               0.5f;
    return out;
  }
  void make(bool tied, const std::string& extra = "", const json& changes = json::object()) {
    const fs::path directory = root_ / "model";
    json changed = config(tied);
    changed.update(changes);
    model_ = *model::make_model(changed, "test", false);
    ASSERT_TRUE(write_file(directory / "config.json", changed.dump()));
    ASSERT_TRUE(write_file(directory / "tokenizer.json", kTokenizer));
    ASSERT_TRUE(write_file(directory / "generation_config.json", R"({"eos_token_id": [4, 5]})"));
    ASSERT_TRUE(write_file(directory / "tokenizer_config.json",
                           R"({"pad_token": "<tool>", "chat_template": "{{ x }}"})"));
    std::map<std::string, tape::ParameterSpec> by_name;
    std::vector<TensorSpec> specs;
    for (tape::ParameterSpec spec : model_->tensors()) {
      if (spec.name == omitted_) continue;
      if (spec.name == longer_) ++spec.cols;
      by_name[spec.name] = spec;
      specs.push_back(
          {spec.name, StoredType::kF32,
           spec.role == tape::Role::kVector ? Shape{spec.cols} : Shape{spec.rows, spec.cols}});
    }
    if (!extra.empty()) specs.push_back({extra, StoredType::kF32, {0}});
    const auto deliver = [&](const TensorSpec& spec, const ByteSink& sink) -> Status {
      if (spec.name == extra) return {};
      std::vector<float> values = values_of(by_name.at(spec.name));
      if (spec.name == changed_.first) values[1] = changed_.second;
      return sink(values.data(), values.size() * sizeof(float));
    };
    ASSERT_TRUE(write_model_safetensors(directory, specs, {}, deliver));
  }
  // The largest difference between the weights of `files` and those of make().
  float difference(const ModelFiles& files) {
    float largest = 0.0f;
    for (const tape::ParameterSpec& spec : model_->tensors()) {
      std::vector<float> values(static_cast<size_t>(spec.size()));
      const Status status = files.read(spec, values);
      EXPECT_TRUE(status) << (status ? "" : status.error().message);
      const std::vector<float> expected = values_of(spec);
      for (size_t i = 0; i < values.size(); ++i)
        largest = std::max(largest, std::abs(values[i] - expected[i]));
    }
    return largest;
  }

  fs::path root_;
  std::unique_ptr<model::Model> model_;
  std::pair<std::string, float> changed_;  // a tensor, and a value that make() puts into it
  std::string omitted_, longer_;  // tensors that make() leaves out, or gives one value too many
};

TEST_F(Export, HuggingFaceDirectoriesReadBackInEveryTypeAndInShards) {
  for (const bool tied : {false, true}) {
    make(tied);
    const Result<ModelFiles> files = ModelFiles::open(root_ / "model");
    ASSERT_TRUE(files) << files.error().message;
    EXPECT_EQ(difference(*files), 0.0f);
    for (const auto& [type, bound] : {std::pair(StoredType::kF32, 0.0f),
                                      {StoredType::kF16, 3e-4f},
                                      {StoredType::kBf16, 2e-3f}}) {
      const fs::path out = root_ / "out";
      ASSERT_TRUE(export_hugging_face(*files, *model_, out, {type, 20000}));
      EXPECT_TRUE(fs::exists(out / "model.safetensors.index.json") || type != StoredType::kF32);
      const Result<ModelFiles> back = ModelFiles::open(out);
      ASSERT_TRUE(back) << back.error().message;
      EXPECT_TRUE(back->check(model_->tensors()));
      EXPECT_LE(difference(*back), bound);
      EXPECT_EQ(back->config()["eos_token_id"], json({4, 5}));
      EXPECT_FALSE(export_hugging_face(*files, *model_, out, {}));  // it exists
      fs::remove_all(out);
    }
  }
}

TEST_F(Export, GgufReadsBackInEveryQuantization) {
  for (const bool tied : {false, true}) {
    make(tied);
    const Result<ModelFiles> files = ModelFiles::open(root_ / "model");
    ASSERT_TRUE(files);
    for (const auto& [name, bound] :
         {std::pair("f32", 0.0f), {"f16", 3e-4f}, {"bf16", 2e-3f}, {"q8_0", 3e-3f}}) {
      const fs::path path = root_ / "model.gguf";
      const Status status = export_gguf(*files, *model_, path, name);
      ASSERT_TRUE(status) << status.error().message;
      const Result<ModelFiles> back = ModelFiles::open(path);
      ASSERT_TRUE(back) << back.error().message;
      const Status check = back->check(model_->tensors());
      EXPECT_TRUE(check) << (check ? "" : check.error().message);
      EXPECT_LE(difference(*back), bound) << name;
      const Result<std::unique_ptr<model::Model>> again =
          model::make_model(back->config(), "gguf", false);
      ASSERT_TRUE(again) << again.error().message;
      EXPECT_EQ((*again)->config(), model_->config());
    }
    EXPECT_FALSE(export_gguf(*files, *model_, root_ / "x.gguf", "q3"));
  }
}

TEST_F(Export, EveryArchitectureTravelsThroughGguf) {
  const json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 64}};
  const json yarn = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
  for (const json& changes : {json{{"model_type", "qwen2"}, {"rope_scaling", yarn}},
                              json{{"model_type", "qwen3"}, {"head_dim", 16}},
                              json{{"model_type", "llama"}, {"rope_scaling", llama3}}}) {
    make(false, "", changes);
    const Result<ModelFiles> files = ModelFiles::open(root_ / "model");
    ASSERT_TRUE(files) << files.error().message;
    const Status status = export_gguf(*files, *model_, root_ / "model.gguf", "f32");
    ASSERT_TRUE(status) << status.error().message;
    const Result<ModelFiles> back = ModelFiles::open(root_ / "model.gguf");
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_TRUE(back->check(model_->tensors()));
    EXPECT_EQ(difference(*back), 0.0f);
    Result<std::unique_ptr<model::Model>> again = model::make_model(back->config(), "gguf", false);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ((*again)->config(), model_->config());
  }
}

TEST_F(Export, TheTokenizerTravelsThroughGguf) {
  make(true);
  const Result<ModelFiles> files = ModelFiles::open(root_ / "model");
  ASSERT_TRUE(files);
  ASSERT_TRUE(export_gguf(*files, *model_, root_ / "model.gguf", "f16"));
  const Result<Gguf> gguf = Gguf::open(root_ / "model.gguf");
  ASSERT_TRUE(gguf);
  EXPECT_EQ(*gguf->text("tokenizer.ggml.pre"), "qwen2");
  EXPECT_EQ(*gguf->texts("tokenizer.ggml.tokens"),
            (std::vector<std::string_view>{"a", "b", "ab", "aba", "<|endoftext|>", "<tool>",
                                           "[PAD6]", "[PAD7]"}));
  EXPECT_EQ(*gguf->integers("tokenizer.ggml.token_type"),
            (std::vector<int64_t>{1, 1, 1, 1, 3, 4, 5, 5}));
  EXPECT_EQ(*gguf->texts("tokenizer.ggml.merges"), (std::vector<std::string_view>{"a b", "ab a"}));
  EXPECT_EQ(*gguf->integer("tokenizer.ggml.eos_token_id"), 4);
  EXPECT_EQ(*gguf->integer("tokenizer.ggml.padding_token_id"), 5);
  EXPECT_EQ(*gguf->text("tokenizer.chat_template"), "{{ x }}");
  const Result<std::string> text = tokenizer_from_gguf(*gguf);
  ASSERT_TRUE(text) << text.error().message;
  const json back = json::parse(*text);
  EXPECT_EQ(back["model"]["vocab"], json::parse(kTokenizer)["model"]["vocab"]);
  EXPECT_EQ(back["model"]["merges"], json::parse(R"([["a", "b"], ["ab", "a"]])"));
  ASSERT_EQ(back["added_tokens"].size(), 2u);
  EXPECT_EQ(back["added_tokens"][0]["special"], true);
  EXPECT_EQ(back["added_tokens"][1]["content"], "<tool>");
  const json config = *tokenizer_config_from_gguf(*gguf);
  EXPECT_EQ(config["eos_token"], "<|endoftext|>");
  EXPECT_EQ(config["pad_token"], "<tool>");
}

TEST_F(Export, MissingForeignAndMisshapenTensorsAreNamed) {
  make(false, "model.layers.0.self_attn.q_proj.bias");
  Result<ModelFiles> files = ModelFiles::open(root_ / "model");
  ASSERT_TRUE(files);
  std::vector<tape::ParameterSpec> specs = model_->tensors();
  EXPECT_NE(files->check(specs).error().message.find("q_proj.bias has no place"),
            std::string::npos);
  specs[0].cols += 1;
  EXPECT_NE(
      files->check(specs).error().message.find("has shape [8, 32], the config asks for [8, 33]"),
      std::string::npos);
  specs[0].name = "absent";
  EXPECT_NE(files->check(specs).error().message.find("absent is missing"), std::string::npos);
  EXPECT_FALSE(ModelFiles::open(root_));
  EXPECT_FALSE(ModelFiles::open(root_ / "nothing"));
}

const json kMotif = {{"model_type", "Motif"}, {"num_noise_heads", 1}, {"num_key_value_heads", 2}};

TEST_F(Export, MotifKeepsItsNamesAndHasNoGguf) {
  make(true, "", kMotif);
  const Result<ModelFiles> files = ModelFiles::open(root_ / "model");
  ASSERT_TRUE(files) << files.error().message;
  ASSERT_TRUE(export_hugging_face(*files, *model_, root_ / "out", {StoredType::kF32, 20000}));
  const Result<ModelFiles> back = ModelFiles::open(root_ / "out");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_TRUE(back->check(model_->tensors()));
  EXPECT_EQ(difference(*back), 0.0f);
  EXPECT_EQ(back->config()["model_type"], "Motif");
  EXPECT_EQ(back->config()["architectures"], json({"MotifForCausalLM"}));
  const Result<Safetensors> tensors = Safetensors::open(root_ / "out");
  ASSERT_TRUE(tensors);
  EXPECT_EQ(tensors->find("model.layers.2.self_attn.lambda_q1")->shape, Shape{8});
  EXPECT_EQ(tensors->find("model.layers.2.self_attn.subln.weight")->shape, Shape{16});
  EXPECT_EQ(tensors->find("model.layers.2.self_attn.o_proj.weight")->shape, (Shape{32, 48}));
  EXPECT_EQ(tensors->find("model.layers.2.mlp.act_fn.weight")->shape, Shape{3});
  EXPECT_EQ(tensors->find("model.layers.2.mlp.act_fn.bias")->shape, Shape{1});
  const Status gguf = export_gguf(*files, *model_, root_ / "model.gguf", "f32");
  ASSERT_FALSE(gguf);
  EXPECT_TRUE(gguf.error().message.starts_with("no other format is known for model_type Motif"));
}

TEST_F(Export, MotifTensorsThatAreMissingOrMisshapenAreNamed) {
  const auto message = [&] {
    make(true, "", kMotif);
    const Result<ModelFiles> files = ModelFiles::open(root_ / "model");
    EXPECT_TRUE(files);
    return files->check(model_->tensors()).error().message;
  };
  const std::string directory = (root_ / "model").string();
  omitted_ = "model.layers.1.self_attn.lambda_k2";
  EXPECT_EQ(message(), directory + ": the tensor " + omitted_ + " is missing");
  omitted_.clear();
  longer_ = "model.layers.0.mlp.act_fn.weight";
  EXPECT_EQ(message(),
            directory + ": the tensor " + longer_ + " has shape [4], the config asks for [3]");
}

constexpr const char* kDown = "model.layers.1.mlp.down_proj.weight";

TEST_F(Export, ValuesThatATypeCannotHoldAreRefusedBeforeAnythingIsWritten) {
  const auto said = [&](float value, const char* quantization, StoredType dtype) {
    changed_ = {kDown, value};
    make(false);
    const Result<ModelFiles> files = ModelFiles::open(root_ / "model");
    EXPECT_TRUE(files);
    const Status gguf = export_gguf(*files, *model_, root_ / "x.gguf", quantization);
    const Status hf = export_hugging_face(*files, *model_, root_ / "x", {dtype, 0});
    EXPECT_EQ(gguf.ok(), hf.ok());
    EXPECT_EQ(fs::exists(root_ / "x.gguf"), gguf.ok());
    EXPECT_EQ(fs::exists(root_ / "x"), hf.ok());
    fs::remove_all(root_ / "x");
    fs::remove(root_ / "x.gguf");
    return gguf.ok() ? std::string() : gguf.error().message + hf.error().message;
  };
  const std::string half = said(1e5f, "f16", StoredType::kF16);
  EXPECT_NE(
      half.find("blk.1.ffn_down.weight has 1 values beyond the range of F16: write it as bf16"),
      std::string::npos)
      << half;
  EXPECT_NE(half.find(std::string(kDown) + " has 1 values beyond the range of F16"),
            std::string::npos)
      << half;
  EXPECT_NE(said(-7e4f, "f16", StoredType::kF16), "");
  EXPECT_EQ(said(65504.0f, "f16", StoredType::kF16), "");
  EXPECT_EQ(said(1e5f, "bf16", StoredType::kBf16), "");
  EXPECT_NE(said(3.4e38f, "bf16", StoredType::kBf16).find("write it as f32"), std::string::npos);
  EXPECT_EQ(said(3.4e38f, "f32", StoredType::kF32), "");
}

TEST_F(Export, BlocksWhoseScaleOverflowsAreRefused) {
  changed_ = {kDown, 1e10f};
  make(false);
  const Result<ModelFiles> files = ModelFiles::open(root_ / "model");
  ASSERT_TRUE(files);
  for (const char* quantization : {"q8_0", "q4_k_m"}) {
    const Status status = export_gguf(*files, *model_, root_ / "x.gguf", quantization);
    ASSERT_FALSE(status) << quantization;
    EXPECT_NE(status.error().message.find("blk.1.ffn_down.weight has"), std::string::npos);
  }
}

TEST(Ranges, EveryTypeSaysWhatItLost) {
  const std::vector<float> large(256, 1e12f), tiny(256, 1e-12f);
  for (const StoredType type :
       {StoredType::kF16, StoredType::kQ8_0, StoredType::kQ4K, StoredType::kQ6K}) {
    std::string bytes;
    ASSERT_TRUE(encode_floats(type, large, bytes));
    EXPECT_GT(count_values(type, bytes)->not_finite, 0) << stored_type_info(type).name;
    bytes.clear();
    ASSERT_TRUE(encode_floats(type, tiny, bytes));
    EXPECT_EQ(count_values(type, bytes)->zero, 256) << stored_type_info(type).name;
  }
}

TEST_F(Export, WeightsThatAreNoNumbersAreNamed) {
  for (const float wrong :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    changed_ = {kDown, wrong};
    make(false);
    const Result<ModelFiles> files = ModelFiles::open(root_ / "model");
    ASSERT_TRUE(files);
    const Status gguf = export_gguf(*files, *model_, root_ / "x.gguf", "q8_0");
    const Status hf = export_hugging_face(*files, *model_, root_ / "x", {StoredType::kF32, 0});
    for (const Status& status : {gguf, hf}) {
      ASSERT_FALSE(status);
      EXPECT_NE(status.error().message.find(std::string(kDown) + " holds 1 values"),
                std::string::npos)
          << status.error().message;
    }
  }
}

// A model whose config ties the embeddings, with a head in the file all the same.
TEST_F(Export, AHeadBesideTiedEmbeddingsMustBeTheirCopy) {
  make(false);
  json config = ModelFiles::open(root_ / "model")->config();
  config["tie_word_embeddings"] = true;
  ASSERT_TRUE(write_file(root_ / "model/config.json", config.dump()));
  const std::unique_ptr<model::Model> tied = *model::make_model(config, "test", false);
  const Result<ModelFiles> other = ModelFiles::open(root_ / "model");
  ASSERT_TRUE(other);
  const Status status = other->check(tied->tensors());
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("lm_head.weight differs from model.embed_tokens.weight"),
            std::string::npos)
      << status.error().message;

  for (const StoredType type : {StoredType::kF32, StoredType::kF64}) {  // a copy, and a wider one
    const std::vector<tape::ParameterSpec> specs = tied->tensors();
    std::map<std::string, tape::ParameterSpec> by_name;
    std::vector<TensorSpec> targets;
    for (const tape::ParameterSpec& spec : specs) {
      by_name[spec.name] = spec;
      targets.push_back(
          {spec.name, StoredType::kF32,
           spec.role == tape::Role::kVector ? Shape{spec.cols} : Shape{spec.rows, spec.cols}});
    }
    by_name["lm_head.weight"] = by_name["model.embed_tokens.weight"];
    targets.push_back({"lm_head.weight", type, {8, 32}});
    ASSERT_TRUE(write_model_safetensors(
        root_ / "model", targets, {}, [&](const TensorSpec& spec, const ByteSink& sink) -> Status {
          std::string bytes;
          NAITE_TRY(encode_floats(spec.type, values_of(by_name.at(spec.name)), bytes));
          return sink(bytes.data(), bytes.size());
        }));
    const Result<ModelFiles> copy = ModelFiles::open(root_ / "model");
    ASSERT_TRUE(copy);
    const Status accepted = copy->check(specs);
    EXPECT_TRUE(accepted) << accepted.error().message;
  }

  config["tie_word_embeddings"] = false;  // and the other way round: a head is asked for
  omitted_ = "lm_head.weight";
  make(false);
  const Status missing = ModelFiles::open(root_ / "model")->check(model_->tensors());
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find("lm_head.weight is missing"), std::string::npos);
}

TEST_F(Export, EveryStopTravelsThroughGguf) {
  make(true);
  const Result<ModelFiles> files = ModelFiles::open(root_ / "model");
  ASSERT_TRUE(files);
  EXPECT_EQ(files->tokens(8)->stop, (std::vector<int32_t>{4, 5}));
  ASSERT_TRUE(export_gguf(*files, *model_, root_ / "model.gguf", "f32"));
  const Result<Gguf> gguf = Gguf::open(root_ / "model.gguf");
  ASSERT_TRUE(gguf);
  EXPECT_EQ(*gguf->integer("tokenizer.ggml.eos_token_id"), 4);
  EXPECT_EQ(*gguf->integer("tokenizer.ggml.eot_token_id"), 5);
  const Result<ModelFiles> back = ModelFiles::open(root_ / "model.gguf");
  ASSERT_TRUE(back);
  const Result<TokenUse> use = back->tokens(8);
  ASSERT_TRUE(use.ok()) << use.error().message;
  EXPECT_EQ(use->stop, (std::vector<int32_t>{4, 5}));
  EXPECT_NE(back->tokens(5).error().message.find("has the id 5, but the model's vocab_size is 5"),
            std::string::npos);
}

TEST(Architectures, RowOrdersAreInverse) {
  std::vector<float> values(2 * 6 * 3);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const std::vector<float> before = values;
  to_gguf_order(Transform::kInterleavedPairs, 6, 3, values);
  EXPECT_EQ(values[3], 3 * 3);      // row 1 of GGUF is row head_dim / 2 of ours
  EXPECT_EQ(values[2 * 3], 1 * 3);  // row 2 is row 1
  from_gguf_order(Transform::kInterleavedPairs, 6, 3, values);
  EXPECT_EQ(values, before);
}

TEST(Architectures, EveryNameIsUsedOnce) {
  for (const Architecture& architecture : architectures()) {
    std::map<std::string, int> seen;
    for (const auto& [ours, gguf] : gguf_names(architecture, 2)) {
      EXPECT_EQ(seen[gguf.name]++, 0) << gguf.name;
      EXPECT_LT(gguf.name.size(), 64u);
    }
  }
  EXPECT_FALSE(architecture_of("gpt5"));
  EXPECT_FALSE(architecture_of_gguf("gpt5"));
}

}  // namespace
}  // namespace naite::formats
