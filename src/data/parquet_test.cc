// SPDX-License-Identifier: Apache-2.0
// What the program itself does about Parquet: with a plugin that only plays one, since Arrow may be
// absent. tests/interop/test_parquet.py has the real one.
#include "data/parquet.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdlib>

#include "data/documents.h"
#include "data/parquet_footer.h"
#include "data/reading_report.h"

namespace naite::data {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

// A footer with one field, a list of `count` structs (up to 127) that have no field.
std::string footer_of(int count) {
  return fmt::format("\x19\xfc{}{}{}", static_cast<char>(count),
                     std::string(static_cast<size_t>(count), '\0'), '\0');
}

std::string parquet(const std::string& rows, const std::string& footer = footer_of(1)) {
  std::string size(4, '\0');
  size[0] = static_cast<char>(footer.size());
  return "PAR1" + rows + "=\n" + footer + size + "PAR1";
}

class ParquetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / fmt::format("naite-parquet-{}", ::getpid());
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    use(NAITE_FAKE_PLUGIN);
  }
  void TearDown() override {
    ::unsetenv("NAITE_PARQUET_PLUGIN");
    fs::remove_all(dir_);
  }

  static void use(const fs::path& plugin) { ::setenv("NAITE_PARQUET_PLUGIN", plugin.c_str(), 1); }

  fs::path write(const std::string& name, const std::string& content) {
    EXPECT_TRUE(write_file(dir_ / name, content).ok());
    return dir_ / name;
  }

  Status read(const fs::path& path, bool strict = false) {
    documents_.clear();
    counts_ = {};
    const Result<InputFiles> inputs = find_inputs(path.string(), {});
    if (!inputs) return inputs.error();
    for (const InputFile& file : inputs->files)
      NAITE_TRY(read_documents(
          file, source_, strict,
          [&](const Document& document) -> Result<bool> {
            documents_.emplace_back(document.text);
            stop_ = documents_.size() == stop_after_;
            return documents_.size() < documents_max_;
          },
          counts_, &hashed_, &stop_));
    return {};
  }

  std::string error_of(const std::string& name, const std::string& content) {
    const Status status = read(write(name, content));
    return status.ok() ? "no error" : status.error().message;
  }

  fs::path dir_;
  SourceOptions source_;
  std::vector<std::string> documents_;
  size_t documents_max_ = 1000, stop_after_ = 0;
  ReadCounts counts_;
  ManifestFile hashed_;
  std::atomic<bool> stop_ = false;
};

TEST_F(ParquetTest, ARowIsADocument) {
  const std::string content = parquet("하나\n\n-\n둘\n\xff\n");
  ASSERT_TRUE(read(write("a.parquet", content)).ok());
  EXPECT_THAT(documents_, ElementsAre("하나", "둘"));
  EXPECT_EQ(counts_.records, 5);
  EXPECT_EQ(counts_.lines_skipped, 2);  // the null, the byte that is no UTF-8
  EXPECT_EQ(losses(counts_), "2 of 5 rows (1 not UTF-8, 1 null)");
  EXPECT_THAT(counts_.first, ElementsAre(EndsWith("a.parquet: row 3: no text: the value is null"),
                                         HasSubstr("a.parquet: row 5: not UTF-8 at byte 0")));
  EXPECT_EQ(counts_.empty_documents, 1);
  EXPECT_EQ(hashed_.sha256, sha256_hex(content));
  EXPECT_EQ(hashed_.bytes, static_cast<int64_t>(content.size()));
  documents_max_ = 1;
  ASSERT_TRUE(read(dir_ / "a.parquet").ok());
  EXPECT_THAT(documents_, ElementsAre("하나"));
}

TEST_F(ParquetTest, StrictMeansEveryRow) {
  Status status = read(write("a.parquet", parquet("하나\n-\n")), true);
  EXPECT_THAT(status.error().message, EndsWith("a.parquet: row 2: no text: the value is null"));
  status = read(write("a.parquet", parquet("x\xff\n")), true);
  EXPECT_THAT(status.error().message, HasSubstr("row 1: not UTF-8 at byte 1"));
  EXPECT_TRUE(read(write("a.parquet", parquet("\n")), true).ok());
}

TEST_F(ParquetTest, AStopIsHeardBetweenRows) {
  stop_after_ = 1;
  const Status status = read(write("a.parquet", parquet("하나\n둘\n셋\n")));
  EXPECT_THAT(status.error().message, HasSubstr("interrupted"));
  EXPECT_THAT(documents_, ElementsAre("하나"));
}

TEST_F(ParquetTest, FoldersHoldThem) {
  fs::create_directories(dir_ / "year=1971");
  write("b.PARQUET", parquet("나\n"));
  write("year=1971/part-0.snappy.parquet", parquet("다\n"));
  write("_metadata", "other");
  ASSERT_TRUE(read(dir_).ok());
  EXPECT_THAT(documents_, ElementsAre("나", "다"));
  ASSERT_TRUE(read(dir_ / "*.PARQUET").ok());
  EXPECT_THAT(documents_, ElementsAre("나"));
}

TEST_F(ParquetTest, WithoutThePluginTheCommandsAreNamed) {
  use(dir_ / "naite_parquet.so");
  const std::string error = error_of("a.parquet", parquet("a\n"));
  EXPECT_THAT(error, AllOf(HasSubstr("a.parquet: "), HasSubstr("pip install pyarrow"),
                           HasSubstr("cmake --preset release -DNAITE_PARQUET=")));
  EXPECT_EQ(error.find('\n'), std::string::npos);
  write("naite_parquet.so", "not a library");
  EXPECT_THAT(error_of("a.parquet", parquet("a\n")), HasSubstr("cannot load the Parquet plugin"));
  Dl_info other{};
  ASSERT_NE(::dladdr(reinterpret_cast<void*>(&::inflate), &other), 0);
  use(fs::absolute(other.dli_fname));
  EXPECT_THAT(error_of("a.parquet", parquet("a\n")), HasSubstr("is of another build of Naite"));
}

TEST_F(ParquetTest, WhatIsNoParquetIsNamed) {
  const std::string whole = parquet("하나\n");
  EXPECT_THAT(error_of("a.parquet", ""), HasSubstr("an empty file"));
  EXPECT_THAT(error_of("a.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
              HasSubstr("git lfs pull"));
  EXPECT_THAT(error_of("a.parquet", "<!doctype html>"), HasSubstr("not Parquet"));
  EXPECT_THAT(error_of("a.parquet", "PAR1"), HasSubstr("cut off"));
  EXPECT_THAT(error_of("a.parquet", whole.substr(0, whole.size() - 1)), HasSubstr("cut off"));
  EXPECT_THAT(error_of("a.parquet", "PARE" + whole.substr(4)), HasSubstr("encrypted"));
  EXPECT_THAT(error_of("a.parquet", parquet("", "")), HasSubstr("its footer claims 0 bytes"));
  EXPECT_THAT(error_of("a.parquet", parquet("", "\x19")), HasSubstr("its footer cannot be read"));
  EXPECT_THAT(error_of("a.parquet.gz", whole), HasSubstr("unpack it first"));
  EXPECT_THAT(error_of("a.parquet", parquet("a\n!\n")), HasSubstr("a.parquet: two lines"));
  EXPECT_THAT(error_of("a.parquet", parquet("*\n")), HasSubstr("decompression bomb"));
  source_.text_key = "body";
  EXPECT_THAT(error_of("a.parquet", whole), HasSubstr("no column `body`"));
}

TEST(ParquetFooter, IsSkimmedBeforeItIsUnpacked) {
  EXPECT_TRUE(check_parquet_footer(footer_of(100)).ok());
  EXPECT_TRUE(check_parquet_footer(footer_of(100) + "a signature").ok());
  const std::string whole = footer_of(100);
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(check_parquet_footer(whole.substr(0, size)).ok()) << size;
  // Three million structs in three bytes each.
  const std::string many = fmt::format("\x19\xfc\xc0\x8d\xb7\x01{}", std::string(3'000'000, '\0')) +
                           std::string(1, '\0');
  EXPECT_THAT(check_parquet_footer(many).error().message, HasSubstr("more than 1536 MiB"));
  EXPECT_THAT(check_parquet_footer(std::string(100, '\x1c')).error().message,
              HasSubstr("cannot be read"));
}

}  // namespace
}  // namespace naite::data
