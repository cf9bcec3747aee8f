// SPDX-License-Identifier: Apache-2.0
#include "data/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <numeric>

#include "data/data.h"
#include "data/shards.h"

namespace naite::data {
namespace {

namespace fs = std::filesystem;

class LoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    dir_ = fs::temp_directory_path() / fmt::format("naite-{}-{}", name, ::getpid());
    fs::remove_all(dir_);
    fs::create_directories(dir_ / "run");
    options_.sequence_length = 16;
    options_.validation = 0.0;
  }
  void TearDown() override { fs::remove_all(dir_); }

  void add_source(const std::string& name, int documents, int repeats, double weight = 1.0) {
    SourceOptions source;
    source.name = name;
    source.path = (dir_ / (name + ".txt")).string();
    source.language = name;
    source.document = "line";
    source.weight = {{0.0, weight}};
    std::string text;
    for (int i = 0; i < documents; ++i) {
      text += fmt::format("{}{}", name, i);
      for (int j = 0; j < repeats; ++j) text += fmt::format(" {}", i * 7 + j);
      text += "\n";
    }
    ASSERT_TRUE(write_file(source.path, text).ok());
    options_.sources.push_back(source);
  }

  Manifest prepared(int threads = 2) {
    PrepareRequest request;
    request.tokenizer.vocab_size = 256;
    request.data = options_;
    request.run_directory = dir_ / "run";
    request.num_threads = threads;
    Result<Manifest> manifest = prepare(request);
    EXPECT_TRUE(manifest.ok()) << (manifest.ok() ? "" : manifest.error().message);
    return manifest.ok() ? *manifest : Manifest{};
  }

  Result<Loader> open(int64_t rows, int64_t steps, uint64_t seed = 1) {
    return Loader::open({dir_ / "run", options_, seed, rows, steps});
  }

  static Batch rows_of(const Loader& loader, int64_t step, int64_t first, int64_t count) {
    Batch rows = Batch::text(count * loader.sequence_length());
    loader.declare(rows);
    loader.fill(step, first, count, rows);
    return rows;
  }

  fs::path dir_;
  DataOptions options_;
};

TEST_F(LoaderTest, RowsArePureFunctionsOfTheirPlace) {
  add_source("a", 60, 4);
  add_source("b", 40, 9);
  prepared();
  Result<Loader> one = open(6, 50), two = open(6, 50), other_seed = open(6, 50, 2);
  ASSERT_TRUE(one.ok() && two.ok() && other_seed.ok());
  const Batch whole = rows_of(*one, 31, 0, 6);
  for (int64_t row = 5; row >= 0; --row) {
    const Batch single = rows_of(*two, 31, row, 1);
    EXPECT_TRUE(std::ranges::equal(single.ints("ids"),
                                   whole.ints("ids").subspan(static_cast<size_t>(row) * 16, 16)));
  }
  EXPECT_EQ(rows_of(*one, 31, 0, 6), whole);
  EXPECT_FALSE(rows_of(*other_seed, 31, 0, 6) == whole);
  EXPECT_FALSE(rows_of(*one, 30, 0, 6) == whole);
}

TEST_F(LoaderTest, SpansAndPositionsFollowDocuments) {
  add_source("a", 50, 2);
  const int32_t end = prepared().end_of_document;
  for (const char* attention : {"document", "full"}) {
    options_.attention = attention;
    Result<Loader> loader = open(4, 3);
    ASSERT_TRUE(loader.ok());
    const Batch rows = rows_of(*loader, 1, 0, 4);
    for (int t = 0; t < 64; ++t) {
      const bool starts =
          t % 16 == 0 || (options_.attention == "document" && rows.ints("ids")[t] == end);
      EXPECT_EQ(rows.ints("positions")[t], starts ? 0 : rows.ints("positions")[t - 1] + 1);
      EXPECT_EQ(rows.ints("spans")[2 * t], t - rows.ints("positions")[t]);
      EXPECT_EQ(rows.ints("spans")[2 * t + 1], t + 1);
      if (t % 16 != 15) {
        EXPECT_EQ(rows.ints("targets")[t], rows.ints("ids")[t + 1]);
      }
    }
  }
}

TEST_F(LoaderTest, AnEpochVisitsEveryTokenOnce) {
  add_source("a", 37, 3);
  const Manifest manifest = prepared();
  const int64_t rows = manifest.sources[0].train.tokens / 16;
  Result<Loader> loader = open(1, rows);
  ASSERT_TRUE(loader.ok());
  std::vector<int64_t> seen(259);
  for (int64_t step = 0; step < rows; ++step) {
    const Batch row = rows_of(*loader, step, 0, 1);
    for (const int32_t token : row.ints("ids")) ++seen[token];
  }
  EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), int64_t{0}), rows * 16);
  // All documents are opened, but for those in the few tokens that no row covers.
  EXPECT_GE(seen[manifest.end_of_document], 35);
  EXPECT_LE(seen[manifest.end_of_document], 37);
  EXPECT_DOUBLE_EQ(loader->epochs_by_source(rows)[0], 1.0);
}

TEST_F(LoaderTest, TheMixtureFollowsTheSchedule) {
  add_source("a", 60, 4);
  add_source("b", 60, 4);
  options_.sources[0].weight = {{0.0, 3.0}, {0.5, 1.0}, {1.0, 1.0}};
  options_.sources[1].weight = {{0.0, 1.0}};
  prepared();
  Result<Loader> loader = open(7, 2000);
  ASSERT_TRUE(loader.ok());
  const auto share = [&](int64_t from, int64_t to) {
    const std::vector<int64_t> tokens = loader->tokens_by_source(from, to);
    EXPECT_EQ(tokens[0] + tokens[1], (to - from) * 7 * 16);
    return static_cast<double>(tokens[0]) / static_cast<double>(tokens[0] + tokens[1]);
  };
  EXPECT_NEAR(share(0, 20), 0.75, 0.01);
  EXPECT_NEAR(share(1000, 2000), 0.5, 0.001);
  EXPECT_NEAR(share(495, 505), 2.0 / 3.0, 0.02);
}

TEST_F(LoaderTest, CrossLingualRowsChangeLanguageAsOftenAsAsked) {
  add_source("ko", 400, 0);
  add_source("en", 400, 0);
  options_.packing = "xlda";
  options_.attention = "full";
  prepared();
  const Tokenizer bytes = Tokenizer::bytes();
  for (const double probability : {0.0, 0.3, 1.0}) {
    options_.language_switch = probability;
    Result<Loader> loader = open(4, 500);
    ASSERT_TRUE(loader.ok()) << loader.error().message;
    int documents = 0, changes = 0;
    for (int64_t step = 0; step < 500; ++step) {
      const Batch rows = rows_of(*loader, step, 0, 4);
      for (int row = 0; row < 4; ++row) {
        std::string text = bytes.decode(rows.ints("ids").subspan(row * 16, 16));
        EXPECT_EQ(rows.ints("positions")[row * 16 + 15], 15);
        // A document is named "ko17 ..." or "en17 ...": compare those that begin in this row.
        std::string before;
        for (size_t at = text.find("<|endoftext|>"); at != std::string::npos;
             at = text.find("<|endoftext|>", at + 1)) {
          const std::string language = text.substr(at + 13, 2);
          if (language.size() < 2) break;
          if (!before.empty()) ++documents, changes += before != language;
          before = language;
        }
      }
    }
    ASSERT_GT(documents, 1000);
    EXPECT_NEAR(static_cast<double>(changes) / documents, probability, 0.05);
    const std::vector<int64_t> tokens = loader->tokens_by_source(0, 500);
    EXPECT_EQ(tokens[0] + tokens[1], 500 * 4 * 16);
    EXPECT_EQ(rows_of(*loader, 400, 2, 1), rows_of(*open(4, 500), 400, 2, 1));
  }
  options_.sources[1].language = options_.sources[0].language = "ko";
  EXPECT_FALSE(open(4, 500).ok());
}

TEST_F(LoaderTest, ValidationCountsEveryByteOnce) {
  add_source("a", 200, 3);
  options_.validation = 0.2;
  const Manifest manifest = prepared();
  const ManifestSplit& held_out = manifest.sources[0].validation;
  EXPECT_GT(held_out.documents, 15);
  EXPECT_EQ(manifest.sources[0].train.documents + held_out.documents, 200);
  Result<Loader> loader = open(4, 10);
  ASSERT_TRUE(loader.ok());
  const int64_t count = loader->num_validation_rows(0);
  Batch rows = Batch::text(count * 16);
  EXPECT_EQ(loader->fill_validation(0, 0, count, rows), held_out.bytes);
  const auto scored =
      std::ranges::count_if(rows.ints("targets"), [](int32_t target) { return target >= 0; });
  EXPECT_EQ(scored, held_out.bytes);  // one token a byte
}

// Shards may say what the loss at each token counts; rows of other sources count 1.
TEST_F(LoaderTest, WeightsOfTokensComeWithTheRows) {
  add_source("a", 60, 4);
  add_source("b", 60, 4);
  Manifest manifest = prepared();
  Result<Loader> plain = open(4, 3);
  ASSERT_TRUE(plain.ok());
  const Batch before = rows_of(*plain, 1, 0, 4);
  EXPECT_FALSE(before.has("weights"));
  // The same tokens again, with weights that follow from the token.
  const auto weight_of = [](int32_t token) { return static_cast<float>(token % 3) / 2; };
  const fs::path data = dir_ / "run" / "data";
  ManifestSplit& split = manifest.sources[0].train;
  Result<SplitReader> reader = SplitReader::open(data, split, manifest.token_bytes);
  ASSERT_TRUE(reader.ok());
  SplitWriter writer(data, "weighted", manifest.token_bytes, true);
  for (int64_t document = 0; document < reader->num_documents(); ++document) {
    const int64_t first = reader->document_start(document) + 1;
    std::vector<int32_t> tokens(static_cast<size_t>(reader->document_end(document) - first));
    reader->copy(first, std::span(tokens));
    std::vector<float> weights;
    for (const int32_t token : tokens) weights.push_back(weight_of(token));
    ASSERT_TRUE(writer.begin_document(manifest.end_of_document, 0).ok());
    ASSERT_TRUE(writer.add(tokens, static_cast<int64_t>(tokens.size()), weights).ok());
  }
  split = *writer.finish();
  ASSERT_TRUE(split.shards[0].has_weights());
  ASSERT_TRUE(write_file(data / "manifest.json", manifest.to_json().dump()).ok());
  Result<Loader> loader = open(4, 3);
  ASSERT_TRUE(loader.ok()) << loader.error().message;
  const Batch rows = rows_of(*loader, 1, 0, 4);
  EXPECT_TRUE(std::ranges::equal(rows.ints("ids"), before.ints("ids")));
  size_t weighted = 0, masked = 0;
  for (size_t t = 0; t < 64; ++t) {
    const int32_t target = before.ints("targets")[t];
    const float weight = rows.floats("weights")[t];
    EXPECT_EQ(rows.ints("targets")[t], weight == 0 ? -1 : target);
    masked += weight == 0;
    weighted += weight == 0.5f;
  }
  EXPECT_GT(weighted, 5u);
  EXPECT_GT(masked, 5u);
  EXPECT_NE(digest_of({&rows, 1}), digest_of({&before, 1}));
  ThreadPool pool(1);
  EXPECT_TRUE(check_shards(data, manifest, pool).ok());
  std::string bytes = *read_file(data / "weighted-00000.weights");
  bytes[40] ^= 1;
  ASSERT_TRUE(write_file(data / "weighted-00000.weights", bytes).ok());
  EXPECT_THAT(check_shards(data, manifest, pool).error().message,
              ::testing::HasSubstr("weighted-00000.weights: its SHA-256"));
  options_.packing = "xlda";
  EXPECT_THAT(open(4, 3).error().message, ::testing::HasSubstr("takes no text with weights"));
}

TEST_F(LoaderTest, ASingleDocumentGivesUpItsEndAtALine) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += fmt::format("line {} of the play\n", i);
  ASSERT_TRUE(write_file(dir_ / "play.txt", text).ok());
  SourceOptions source;
  source.name = "play";
  source.path = (dir_ / "play.txt").string();
  options_.sources.push_back(source);
  options_.validation = 0.1;
  const Manifest manifest = prepared();
  const ManifestSource& packed = manifest.sources[0];
  EXPECT_EQ(packed.train.documents, 1);
  EXPECT_EQ(packed.validation.documents, 1);
  EXPECT_EQ(packed.train.bytes + packed.validation.bytes, static_cast<int64_t>(text.size()));
  EXPECT_EQ(text[static_cast<size_t>(packed.train.bytes) - 1], '\n');
  EXPECT_NEAR(static_cast<double>(packed.validation.bytes), 0.1 * text.size(), 30.0);
}

TEST_F(LoaderTest, PackedTextCanBeLookedInto) {
  add_source("a", 300, 3);
  add_source("b", 20, 3);
  options_.validation = 0.1;
  prepared();
  Result<PackedText> packed = PackedText::open(dir_ / "run");
  ASSERT_TRUE(packed.ok());
  EXPECT_THAT(packed->document(1, false, 0), ::testing::StartsWith("b"));
  ThreadPool pool(2);
  const PhraseHits one = packed->find("a250 ", 5, pool);
  ASSERT_EQ(one.count, 1);
  EXPECT_EQ(one.hits[0].source, "a");
  EXPECT_EQ(one.hits[0].byte, 0);
  const std::string document = packed->document(0, one.hits[0].validation, one.hits[0].document);
  EXPECT_THAT(document, ::testing::StartsWith("a250 "));
  EXPECT_EQ(one.hits[0].context, document);
  const PhraseHits many = packed->find("a", 5, pool);
  EXPECT_EQ(many.count, 300);
  EXPECT_EQ(many.hits.size(), 5u);
  const PackedRow row = packed->random_row(16, 7);
  EXPECT_EQ(row.text, packed->random_row(16, 7).text);
  EXPECT_FALSE(row.text.empty());
}

TEST_F(LoaderTest, TooLittleTextIsSaidPlainly) {
  add_source("a", 1, 1);
  options_.sequence_length = 64;
  prepared();
  const Result<Loader> loader = open(1, 1);
  ASSERT_FALSE(loader.ok());
  EXPECT_THAT(loader.error().message, ::testing::HasSubstr("fewer than one row of 64"));
}

}  // namespace
}  // namespace naite::data
