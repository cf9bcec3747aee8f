// SPDX-License-Identifier: Apache-2.0
#include "formats/token_ids.h"

#include <gtest/gtest.h>

namespace naite::formats {
namespace {

using nlohmann::json;

constexpr int64_t kVocabSize = 6;

// Four ordinary tokens and two that were added, for a model of six.
TokenFiles good() {
  const json tokenizer = json::parse(R"({
    "added_tokens": [{"id": 4, "content": "<end>", "special": true},
                     {"id": 5, "content": "<pad>", "special": true}],
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<end>", "type_id": 0}}, {"Sequence": {"id": "A"}}],
      "special_tokens": {"<end>": {"id": "<end>", "ids": [4], "tokens": ["<end>"]}}},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}}})");
  TokenFiles files;
  files.tokenizer = {"tokenizer.json", tokenizer};
  files.tokenizer_config = {"tokenizer_config.json", {{"eos_token", "<end>"}}};
  files.special_tokens = {"special_tokens_map.json", {{"pad_token", {{"content", "<pad>"}}}}};
  files.added_tokens = {"added_tokens.json", {{"<pad>", 5}}};
  files.generation = {"generation_config.json", {{"eos_token_id", {4, 3}}}};
  files.config = {"config.json", {{"bos_token_id", nullptr}, {"pad_token_id", -1}}};
  return files;
}

std::string refusal(const TokenFiles& files, int64_t vocab_size = kVocabSize) {
  const Result<TokenUse> use = use_tokens(files, vocab_size);
  return use.ok() ? "accepted" : use.error().message;
}

TEST(TokenIds, WhatBeginsAndEndsATextIsTakenFromAllFiles) {
  TokenFiles files = good();
  files.config.value["eos_token_id"] = 2;
  const Result<TokenUse> use = use_tokens(files, kVocabSize);
  ASSERT_TRUE(use.ok()) << use.error().message;
  EXPECT_EQ(use->begin, std::vector<int32_t>{4});
  EXPECT_EQ(use->stop, (std::vector<int32_t>{4, 3, 2}));
  files.tokenizer.value["post_processor"] = nullptr;
  files.tokenizer_config.value["bos_token"] = "<pad>";
  EXPECT_TRUE(use_tokens(files, kVocabSize)->begin.empty());
  files.tokenizer_config.value["add_bos_token"] = true;
  EXPECT_EQ(use_tokens(files, kVocabSize)->begin, std::vector<int32_t>{5});
}

TEST(TokenIds, WhatMakesOtherProgramsReadAnotherTokenizerIsRefused) {
  const auto expect = [](const TokenFiles& files, const std::string& says) {
    EXPECT_NE(refusal(files).find(says), std::string::npos) << says << ", but " << refusal(files);
  };
  TokenFiles files = good();
  json& config = files.tokenizer_config.value;
  config["added_tokens_decoder"]["4"] = {{"content", "<end>"}, {"special", true}};
  EXPECT_EQ(refusal(files), "accepted");
  config["added_tokens_decoder"]["4"]["lstrip"] = true;
  expect(files, "`lstrip` of the token <end>");
  config["added_tokens_decoder"] = {{"3", {{"content", "c"}}}};
  expect(files, "the token c is an added one here and an ordinary one in tokenizer.json");
  files = good();
  for (const json& value : {json(true), json("x"), json({"tokenizer.4.0.0.json"})}) {
    files.tokenizer_config.value = {{"fast_tokenizer_files", value}};
    expect(files, "`fast_tokenizer_files`");
  }
  files.tokenizer_config.value = {{"do_lower_case", false},
                                  {"fast_tokenizer_files", json::array()}};
  EXPECT_EQ(refusal(files), "accepted");
  files.tokenizer_config.value = {{"add_prefix_space", true}};
  expect(files, "`add_prefix_space`");
  files.tokenizer.value["pre_tokenizer"] = {{"type", "ByteLevel"}};
  EXPECT_EQ(refusal(files), "accepted");
  files.tokenizer_config.value = json::object();
  expect(files, "`add_prefix_space`");
}

TEST(TokenIds, AnIdBeyondTheModelIsNamedWhereverItStands) {
  EXPECT_EQ(refusal(good(), 5),
            "tokenizer.json: the token <pad> has the id 5, but the model's vocab_size is 5");
  const auto expect = [](TokenFiles files, const std::string& says) {
    EXPECT_NE(refusal(files).find(says), std::string::npos) << says << ", but " << refusal(files);
  };
  for (const json& id : {json(6), json(-2), json(1u << 31), json("4"), json(1.5)}) {
    TokenFiles files = good();
    files.generation.value["eos_token_id"] = {4, id};
    expect(files, "generation_config.json: the token eos_token_id has the id " + id.dump());
    files = good();
    files.config.value["pad_token_id"] = id;
    expect(files, "config.json: the token pad_token_id has the id " + id.dump());
    files = good();
    files.added_tokens.value["<x>"] = id;
    expect(files, "added_tokens.json: the token <x> has the id " + id.dump());
    files = good();
    files.tokenizer.value["model"]["vocab"]["x"] = id;
    expect(files, "tokenizer.json: the token x has the id " + id.dump());
  }
  TokenFiles files = good();
  files.tokenizer_config.value["added_tokens_decoder"]["9"] = {{"content", "<x>"}};
  expect(files, "tokenizer_config.json: the token <x> has the id 9, but the model's vocab_size");
  files = good();
  files.tokenizer.value["post_processor"]["special_tokens"]["<end>"]["ids"] = {77};
  expect(files, "the token <end> has the id 77");
  files = good();
  files.generation.value["suppress_tokens"] = {1, 99};
  expect(files, "suppress_tokens has the id 99");
}

TEST(TokenIds, TokensThatOtherProgramsWouldNumberOtherwiseAreNamed) {
  const auto expect = [](TokenFiles files, const std::string& says) {
    EXPECT_NE(refusal(files).find(says), std::string::npos) << says << ", but " << refusal(files);
  };
  TokenFiles files = good();
  files.tokenizer.value["model"]["vocab"]["c"] = 2;
  expect(files, "have the same id 2");
  files = good();
  files.tokenizer.value["added_tokens"][1]["id"] = 4;
  expect(files, "have the same id 4");
  files = good();
  files.tokenizer.value["model"]["vocab"].erase("c");  // a hole before the added ones
  expect(files, "the token <end> has the id 4, where other programs give it 3");
  files = good();
  files.tokenizer.value["added_tokens"][0]["content"] = "ab";
  expect(files, "the token ab has the ids 2 and 4");
  files = good();
  files.tokenizer_config.value["added_tokens_decoder"]["3"] = {{"content", "<pad>"}};
  expect(files, "the token <pad> has the id 3, in tokenizer.json it has 5");
  for (const char* key : {"eos_token", "pad_token", "unk_token"}) {
    files = good();
    files.special_tokens.value[key] = "<absent>";
    expect(files, std::string("special_tokens_map.json: `") + key + "` is \"<absent>\", which");
  }
  files = good();
  files.tokenizer_config.value["additional_special_tokens"] = {"<pad>", "<absent>"};
  expect(files, "`additional_special_tokens` is \"<absent>\"");
}

TEST(TokenIds, WhatWouldStandBehindEveryTextIsRefused) {
  TokenFiles files = good();
  json& single = files.tokenizer.value["post_processor"]["single"];
  std::swap(single[0], single[1]);
  EXPECT_NE(refusal(files).find("puts <end> behind every text"), std::string::npos);
  files = good();
  files.tokenizer_config.value["add_eos_token"] = true;
  EXPECT_NE(refusal(files).find("`add_eos_token` is true"), std::string::npos);
  files = good();
  files.tokenizer.value["post_processor"] = {{"type", "RobertaProcessing"}};
  EXPECT_NE(refusal(files).find("RobertaProcessing"), std::string::npos);
}

}  // namespace
}  // namespace naite::formats
