// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "data/added_tokens.h"
#include "data/stats.h"
#include "data/tokenizer_model.h"
#include "data/train_tokenizer.h"

namespace naite::data {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kText =
    "나이테는 나무가 자란 흔적이다. 나이테는 나무의 나이를 알려 준다. 나무가 자라면 나이테도 "
    "자란다.\n"
    "Growth rings show how a tree grew; growth rings can't be forged. How a tree grew, rings "
    "show.\n";

Tokenizer trained(int64_t vocab_size, int threads = 2, const std::string& text = kText) {
  ThreadPool pool(threads);
  TokenizerTrainer trainer(pool);
  // The text twice, as one and in parts, so that threads have something to share.
  std::vector<std::string_view> texts = {text};
  for (size_t at = 0; at < text.size();) {
    const size_t cut = std::max<size_t>(safe_cut(std::string_view(text).substr(at), 40), 1);
    texts.push_back(std::string_view(text).substr(at, cut));
    at += cut;
  }
  trainer.add(texts);
  return trainer.train(vocab_size, {});
}

// The definition of encoding a piece, word for word.
std::vector<int32_t> merged_slowly(const PairTable& merges, std::vector<int32_t> ids) {
  while (true) {
    size_t best = ids.size();
    PairTable::Found found;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const PairTable::Found here = merges.find(ids[i], ids[i + 1]);
      if (here.rank < found.rank) {
        found = here;
        best = i;
      }
    }
    if (best == ids.size()) return ids;
    ids[best] = found.id;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

// The definition of training, word for word: count all pairs anew before every merge.
std::vector<std::string> learned_slowly(const std::string& text, int64_t num_tokens) {
  std::vector<std::string> tokens;
  std::array<int32_t, 256> id_of{};
  for (const uint8_t byte : byte_order()) {
    id_of[byte] = static_cast<int32_t>(tokens.size());
    tokens.emplace_back(1, static_cast<char>(byte));
  }
  std::vector<std::vector<int32_t>> pieces;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = piece_end(SplitRule{}, text, begin);
    pieces.emplace_back();
    for (size_t i = begin; i < end; ++i)
      pieces.back().push_back(id_of[static_cast<unsigned char>(text[i])]);
    begin = end;
  }
  while (static_cast<int64_t>(tokens.size()) < num_tokens) {
    std::map<std::pair<int32_t, int32_t>, int64_t> counts;
    for (const auto& piece : pieces)
      for (size_t i = 0; i + 1 < piece.size(); ++i) ++counts[{piece[i], piece[i + 1]}];
    std::pair<int32_t, int32_t> best;
    int64_t most = TokenizerTrainer::kCountMin - 1;
    for (const auto& [pair, count] : counts)  // ascending: the first among equals is the lowest
      if (count > most) {
        most = count;
        best = pair;
      }
    if (most < TokenizerTrainer::kCountMin) break;
    tokens.push_back(tokens[static_cast<size_t>(best.first)] +
                     tokens[static_cast<size_t>(best.second)]);
    for (auto& piece : pieces)
      for (size_t i = 0; i + 1 < piece.size(); ++i)
        if (piece[i] == best.first && piece[i + 1] == best.second) {
          piece[i] = static_cast<int32_t>(tokens.size()) - 1;
          piece.erase(piece.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
  }
  return tokens;
}

TEST(Tokenizer, PlainBytes) {
  const Tokenizer bytes = Tokenizer::bytes();
  EXPECT_EQ(bytes.vocab_size(), 259);
  EXPECT_THAT(bytes.encode("!a"), ElementsAre(0, 64));
  EXPECT_EQ(bytes.end_of_document(), 256);
  EXPECT_EQ(bytes.turn_start(), 257);
  EXPECT_EQ(bytes.turn_end(), 258);
  EXPECT_EQ(bytes.text_bytes(0), 1);
  EXPECT_EQ(bytes.text_bytes(256), 0);
  EXPECT_EQ(bytes.token_bytes(-1), "");
  EXPECT_EQ(bytes.token_bytes(259), "");
}

TEST(Tokenizer, SpecialTokensCountOnlyWhereTheyMay) {
  const Tokenizer bytes = Tokenizer::bytes();
  EXPECT_THAT(bytes.encode("!<|im_end|>!"), ElementsAre(0, 258, 0));
  EXPECT_EQ(bytes.encode("!<|im_end|>!", Specials::kAsText).size(), 12u);
  EXPECT_EQ(bytes.decode(bytes.encode("<|endoftext|>a")), "<|endoftext|>a");
  EXPECT_EQ(bytes.decode(bytes.encode("<|endoftext|>a"), /*skip_specials=*/true), "a");
}

TEST(Tokenizer, ThreadsChangeNothing) {
  const std::string one = trained(360, 1).to_json();
  EXPECT_EQ(trained(360, 2).to_json(), one);
  EXPECT_EQ(trained(360, 7).to_json(), one);
}

TEST(Tokenizer, TrainingFollowsItsDefinition) {
  std::string text = kText;
  for (int i = 0; i < 200; ++i) text += fmt::format("aaab{} baab{} ", i % 7, i % 13);
  const Tokenizer fast = trained(420, 2, text + text);
  // trained() counts its text twice; so does this.
  const std::vector<std::string> slow = learned_slowly(text + text + "\n" + text + text, 417);
  ASSERT_EQ(fast.vocab_size(), static_cast<int64_t>(slow.size()) + 3);
  for (size_t id = 0; id < slow.size(); ++id)
    EXPECT_EQ(fast.token_bytes(static_cast<int32_t>(id)), slow[id]) << id;
}

TEST(Tokenizer, TrainingEndsWhenNothingRepeats) {
  ThreadPool pool(1);
  TokenizerTrainer trainer(pool);
  const std::string_view text = "abcdefg";
  trainer.add({&text, 1});
  EXPECT_EQ(trainer.train(1000, {}).vocab_size(), 259);
}

RC_GTEST_PROP(TokenizerProperty, MergingFollowsItsDefinition, ()) {
  static const Tokenizer kTokenizer = trained(400);
  const auto picks = *rc::gen::container<std::vector<uint8_t>>(
      *rc::gen::element<size_t>(3, 20, 95, 96, 97, 300), rc::gen::arbitrary<uint8_t>());
  std::vector<int32_t> ids;
  for (const uint8_t pick : picks) {  // half of them from a text full of merges
    const char c = pick % 2 == 0 ? kText[pick % kText.size()] : static_cast<char>(pick);
    ids.push_back(kTokenizer.model().byte_ids[static_cast<unsigned char>(c)]);
  }
  const std::vector<int32_t> expected = merged_slowly(kTokenizer.model().merges, ids);
  apply_merges(kTokenizer.model().merges, ids);
  RC_ASSERT(ids == expected);
}

RC_GTEST_PROP(TokenizerProperty, DecodingUndoesEncoding, (const std::string& noise)) {
  static const Tokenizer kTokenizer = trained(400);
  const size_t from = *rc::gen::inRange<size_t>(0, kText.size());
  const std::string text = noise + kText.substr(from) + "<|im_start|>" + noise;
  for (const Specials specials : {Specials::kParse, Specials::kAsText}) {
    const std::vector<int32_t> ids = kTokenizer.encode(text, specials);
    RC_ASSERT(kTokenizer.decode(ids) == text);
    StreamDecoder stream(kTokenizer);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.add(id);
    RC_ASSERT(streamed + stream.finish() == text);
    std::vector<int32_t> cached;
    Encoder encoder(kTokenizer);
    for (int round = 0; round < 2; ++round) {
      cached.clear();
      encoder.encode(text, specials, cached);
      RC_ASSERT(cached == ids);
    }
  }
}

TEST(TokenStats, CountsByScript) {
  const Tokenizer bytes = Tokenizer::bytes();
  Encoder encoder(bytes);
  SourceStats stats;
  add_stats(bytes, encoder, "가 ab1漢", stats);
  EXPECT_EQ(stats.all.bytes, 10);
  EXPECT_EQ(stats.all.tokens, 10);
  EXPECT_EQ(stats.scripts["Hangul"].tokens, 3);
  EXPECT_EQ(stats.scripts["Latin"].tokens, 2);
  EXPECT_EQ(stats.scripts["Han"].tokens, 3);
  EXPECT_EQ(stats.scripts["Common"].tokens, 2);
  EXPECT_EQ(stats.all.single_byte_share(), 1.0);
}

TEST(StreamDecoder, GivesWholeCharactersOnly) {
  const Tokenizer bytes = Tokenizer::bytes();
  StreamDecoder stream(bytes);
  std::vector<std::string> given;
  for (const int32_t id : bytes.encode("가a\xf0\x9f\x98\x80\xea")) given.push_back(stream.add(id));
  EXPECT_THAT(given, ElementsAre("", "", "가", "a", "", "", "", "\xf0\x9f\x98\x80", ""));
  EXPECT_EQ(stream.finish(), "\xea");
}

// --- tokenizer.json
// -------------------------------------------------------------------------------

TEST(TokenizerJson, ComesBackTheSame) {
  const Tokenizer made = trained(380);
  const Result<Tokenizer> read = Tokenizer::from_json(made.to_json(), "made");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->to_json(), made.to_json());
  EXPECT_EQ(read->encode(kText), made.encode(kText));
  EXPECT_EQ(read->end_of_document(), made.end_of_document());
  EXPECT_EQ(read->turn_end(), made.turn_end());
  EXPECT_EQ(read->vocab_size(), made.vocab_size());
  EXPECT_EQ(json::parse(made.config_to_json())["eos_token"], "<|endoftext|>");
}

TEST(TokenizerJson, MergesInTheOldForm) {
  const Tokenizer made = trained(380);
  json file = json::parse(made.to_json());
  for (json& merge : file["model"]["merges"])
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  const Result<Tokenizer> read = Tokenizer::from_json(file.dump(), "old");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->encode(kText), made.encode(kText));
}

TEST(TokenizerJson, WholePiecesWinIfMergesAreIgnored) {
  json file = json::parse(Tokenizer::bytes().to_json());
  file["model"]["vocab"]["abc"] = 256;
  file["added_tokens"] = json::array();
  EXPECT_EQ(Tokenizer::from_json(file.dump(), "x")->encode("abc").size(), 3u);
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(Tokenizer::from_json(file.dump(), "x")->encode("abc"), ElementsAre(256));
}

TEST(TokenizerJson, AddedTokensKeepTheirRules) {
  json file = json::parse(Tokenizer::bytes().to_json());
  const auto add = [&](int id, const char* content, const char* flag) {
    file["added_tokens"].push_back({{"id", id},
                                    {"content", content},
                                    {"special", false},
                                    {"normalized", false},
                                    {flag, true}});
  };
  add(259, "[L]", "lstrip");
  add(260, "[R]", "rstrip");
  add(261, "word", "single_word");
  add(262, "[R]long", "special");
  const Tokenizer tokenizer = *Tokenizer::from_json(file.dump(), "x");
  EXPECT_THAT(tokenizer.encode("!  [L]!"), ElementsAre(0, 259, 0));
  EXPECT_THAT(tokenizer.encode("![R] \n!"), ElementsAre(0, 260, 0));
  EXPECT_THAT(tokenizer.encode("!word!"), ElementsAre(0, 261, 0));
  EXPECT_EQ(tokenizer.encode("awords").size(), 6u);
  EXPECT_THAT(tokenizer.encode("[R]long"), ElementsAre(262));
}

TEST(TokenizerJson, WhatItCannotDoIsNamed) {
  const json good = json::parse(Tokenizer::bytes().to_json());
  const auto error_of = [&](const char* pointer, json value) {
    json file = good;
    file[json::json_pointer(pointer)] = std::move(value);
    const Result<Tokenizer> read = Tokenizer::from_json(file.dump(), "t.json");
    return read.ok() ? "no error" : read.error().message;
  };
  EXPECT_THAT(error_of("/model/type", "Unigram"), HasSubstr("model type is not supported"));
  EXPECT_THAT(error_of("/normalizer", {{"type", "Lowercase"}}), HasSubstr("normalizer"));
  EXPECT_THAT(error_of("/pre_tokenizer", {{"type", "Metaspace"}}), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(error_of("/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\w+"),
              HasSubstr("the split pattern is not supported: {\"Regex\":\"\\\\w+\"}"));
  EXPECT_THAT(error_of("/model/merges", json::array({json::array({"a", "b"})})),
              HasSubstr("merge 0 (\"a\" \"b\") names a token that `vocab` lacks"));
  EXPECT_THAT(error_of("/model/merges", json::array({7})), HasSubstr("merge 0 is neither"));
  EXPECT_THAT(error_of("/model/merges", json::array({json::array({"a", ""})})),
              HasSubstr("merge 0 gives one of its own parts again"));
  EXPECT_THAT(error_of("/model/vocab/a", -1), HasSubstr("outside 0.."));
  EXPECT_THAT(error_of("/model/byte_fallback", true), HasSubstr("byte_fallback"));
  EXPECT_THAT(error_of("/added_tokens/0/id", 1e9), HasSubstr("`id` must be"));
  EXPECT_THAT(error_of("/model/vocab/a", 1), HasSubstr("two tokens have the id 1"));
  // Other programs number added tokens on from the vocabulary, by their texts.
  EXPECT_THAT(error_of("/added_tokens/2/id", 300), HasSubstr("where other programs give it 258"));
  EXPECT_THAT(error_of("/added_tokens/1/id", 5), HasSubstr("where other programs give it 257"));
  EXPECT_THAT(error_of("/added_tokens/0/content", "a"), HasSubstr("has the id 256, where"));
  EXPECT_THAT(Tokenizer::from_json("{", "t.json").error().message, HasSubstr("not valid JSON"));
}

}  // namespace
}  // namespace naite::data
