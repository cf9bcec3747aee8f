// SPDX-License-Identifier: Apache-2.0
// Text of other people: every name, mark, encoding and packing in which it comes, and the word that
// is said about what is not taken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iconv.h>
#include <rapidcheck/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdlib>

#include "data/data.h"
#include "data/documents.h"
#include "data/encodings.h"
#include "data/input_stream.h"
#include "data/json_lines.h"
#include "data/nfc.h"
#include "data/reading_report.h"
#include "data/unicode.h"

namespace naite::data {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kMark = "\xef\xbb\xbf";
const std::string kKorean =
    "나무는 해마다 나이테를 하나씩 만든다. 가뭄이 든 해에는 좁고, 비가 넉넉한 해에는 넓다.\n"
    "그래서 나이테를 세면 나이를 알고, 폭을 재면 옛 날씨를 안다.\n";
const std::string kJapanese =
    "木の年輪は一年に一つずつ増えていきます。雨の多い年の輪は広くなり、乾いた年の輪は狭くなります。"
    "\nだから、年輪をかぞえると木の年がわかります。\n";
const std::string kChinese =
    "树木每年长出一圈年轮。雨水多的年份年轮宽,干旱的年份年轮窄。\n数一数年轮,就知道树的年龄。\n";
const std::string kFrench =
    "Les cernes d'un chêne racontent l'été passé, la forêt et la sécheresse.\n";

std::string converted(const std::string& text, const char* encoding) {
  const iconv_t converter = ::iconv_open(encoding, "UTF-8");
  EXPECT_NE(converter, reinterpret_cast<iconv_t>(-1)) << encoding;
  std::string out(8 * text.size() + 16, '\0');
  char* in = const_cast<char*>(text.data());
  char* to = out.data();
  size_t in_left = text.size(), to_left = out.size();
  EXPECT_NE(::iconv(converter, &in, &in_left, &to, &to_left), static_cast<size_t>(-1)) << encoding;
  ::iconv_close(converter);
  out.resize(out.size() - to_left);
  return out;
}

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(::deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(::deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

// `window_log` 0: zstd's choice. The size is not stated, so that the window stands in the frame.
std::string zstd(const std::string& text, int window_log = 0, const std::string& dictionary = "") {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  if (window_log > 0) {
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
    ZSTD_CCtx_setParameter(context, ZSTD_c_hashLog, 12);
    ZSTD_CCtx_setParameter(context, ZSTD_c_strategy, ZSTD_fast);
  }
  if (!dictionary.empty()) ZSTD_CCtx_loadDictionary(context, dictionary.data(), dictionary.size());
  std::string out(ZSTD_compressBound(text.size()) + 64, '\0');
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  ZSTD_inBuffer in{text.data(), text.size(), 0};
  EXPECT_FALSE(ZSTD_isError(ZSTD_compressStream2(context, &to, &in, ZSTD_e_flush)));
  EXPECT_EQ(ZSTD_compressStream2(context, &to, &in, ZSTD_e_end), 0u);
  ZSTD_freeCCtx(context);
  out.resize(to.pos);
  return out;
}

std::string line_of(const std::string& key, const nlohmann::json& value) {
  return nlohmann::json({{key, value}}).dump() + "\n";
}

class ReadingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    dir_ = fs::temp_directory_path() / fmt::format("naite-reading-{}-{}", name, ::getpid());
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  std::string write(const std::string& name, const std::string& content) {
    const fs::path path = dir_ / name;
    fs::create_directories(path.parent_path());
    EXPECT_TRUE(write_file(path, content).ok());
    return path.string();
  }

  // All documents below a path, and what is said about the rest. An error stands for them.
  struct Seen {
    std::vector<std::string> documents;
    ReadCounts counts;
    std::string left_out, error;
  };
  Seen read(const std::string& path, const std::string& document = "file") {
    Seen seen;
    SourceOptions source;
    source.name = "s";
    source.document = document;
    const Result<InputFiles> inputs = find_inputs(path, {});
    if (!inputs.ok()) {
      seen.error = inputs.error().message;
      return seen;
    }
    seen.left_out = inputs->left_out_line();
    for (const InputFile& file : inputs->files) {
      const Status status = read_documents(
          file, source, false,
          [&](const Document& one) -> Result<bool> {
            seen.documents.emplace_back(one.text);
            return true;
          },
          seen.counts, nullptr);
      if (!status.ok()) seen.error = status.error().message;
    }
    EXPECT_EQ(seen.error.find('\n'), std::string::npos);
    return seen;
  }
  std::string error_of(const std::string& name, const std::string& content) {
    const Seen seen = read(write(name, content));
    EXPECT_FALSE(seen.error.empty()) << name;
    return seen.error;
  }

  // The lines that packing says about one source, and its error if it fails.
  std::vector<std::string> said(const std::string& path, const std::string& document = "file") {
    PrepareRequest request;
    request.tokenizer.vocab_size = 256;
    request.run_directory = dir_ / "run";
    fs::remove_all(request.run_directory);
    fs::create_directories(request.run_directory);
    SourceOptions source;
    source.name = source.language = "s";
    source.path = path;
    source.document = document;
    request.data.sources = {source};
    request.data.validation = 0;
    std::vector<std::string> lines;
    request.note = [&](const std::string& line) { lines.push_back(line); };
    const Result<Manifest> manifest = prepare(request);
    if (!manifest.ok()) lines.push_back(manifest.error().message);
    return lines;
  }

  fs::path dir_;
};

TEST_F(ReadingTest, JsonLinesUnderAllTheirNames) {
  const std::string lines = line_of("text", "하나") + line_of("text", "둘");
  const std::vector<std::string> both = {"하나", "둘"};
  for (const char* name : {"a.jsonl", "a.JSONL", "a.ndjson", "a.NDJson", "a.jsonlines", "a.json"})
    EXPECT_EQ(read(write(name, lines)).documents, both) << name;
  for (const char* name : {"a.jsonl.gz", "a.JSONL.GZ", "a.json.gz", "a.ndjson.Gz"})
    EXPECT_EQ(read(write(name, gzip(lines))).documents, both) << name;
  for (const char* name : {"a.json.zst", "a.jsonlines.ZST"})
    EXPECT_EQ(read(write(name, zstd(lines))).documents, both) << name;
  EXPECT_EQ(read(dir_.string()).documents.size(), 24u);  // the same in a folder
  EXPECT_EQ(read(write("b/long.json", line_of("text", std::string(1 << 19, 'a')))).documents.size(),
            1u);
}

TEST_F(ReadingTest, OtherJsonIsRefusedOrLeftOut) {
  const std::string array = "[" + nlohmann::json({{"text", "a"}}).dump() + "]\n";
  const std::string object = nlohmann::json({{"text", "a"}, {"id", 1}}).dump(2) + "\n";
  EXPECT_THAT(error_of("a.json", array), HasSubstr("one JSON array"));
  EXPECT_THAT(error_of("a.json", array), HasSubstr("`jq -c '.[]' FILE > NEW.jsonl`"));
  EXPECT_THAT(error_of("a.json.gz", gzip(array)),
              HasSubstr("`gzip -dc FILE | jq -c '.[]' > NEW.jsonl`"));
  EXPECT_THAT(error_of("b.json", object), HasSubstr("`jq -c . FILE > NEW.jsonl`"));
  EXPECT_THAT(error_of("c.json", "no json\n"), HasSubstr("not JSON lines"));
  write("good.txt", "text");
  const Seen seen = read(dir_.string());
  EXPECT_EQ(seen.documents, std::vector<std::string>{"text"});
  EXPECT_EQ(seen.left_out, "4 .json (not JSON lines)");
}

TEST_F(ReadingTest, JsonLinesWithoutTheirEndingAreNoText) {
  const std::string lines = line_of("text", "a") + line_of("text", "b");
  EXPECT_THAT(error_of("part-0001", lines), HasSubstr("name it .jsonl, or .txt"));
  EXPECT_THAT(error_of("dump.data.gz", gzip(lines)), HasSubstr("looks like JSON lines"));
  EXPECT_EQ(read(write("note", "{braces} are text\n")).documents.size(), 1u);
  const Seen seen = read(write("a.txt", lines));
  EXPECT_EQ(seen.documents, std::vector<std::string>{lines});
  ASSERT_EQ(seen.counts.notes.size(), 1u);
  EXPECT_THAT(seen.counts.notes[0], HasSubstr("looks like JSON lines and is read as plain text"));
}

TEST_F(ReadingTest, AByteOrderMarkIsNoText) {
  const std::vector<std::string> one = {"글"};
  for (const char* name : {"a.txt", "a.md", "a.TXT", "a.unknown"})
    EXPECT_EQ(read(write(name, kMark + "글")).documents, one) << name;
  EXPECT_EQ(read(write("a.txt.gz", gzip(kMark + "글"))).documents, one);
  EXPECT_EQ(read(write("a.txt.zst", zstd(kMark + "글"))).documents, one);
  EXPECT_EQ(read(write("a.html", kMark + "<p>글")).documents, std::vector<std::string>{"글\n"});
  const std::string line = line_of("text", "글");
  for (const char* name : {"a.jsonl", "b.json"})
    EXPECT_EQ(read(write(name, kMark + line)).documents, one) << name;
  // Files of Windows that were joined.
  const Seen joined = read(write("c.jsonl", kMark + line + kMark + line + "\r\n" + kMark));
  EXPECT_EQ(joined.documents.size(), 2u);
  EXPECT_EQ(joined.counts.lines_skipped, 0);
  EXPECT_EQ(joined.counts.records, 2);
  EXPECT_EQ(read(write("c.txt", kMark)).counts.empty_documents, 1);
  EXPECT_EQ(read(write("d.txt", kMark + "a\n" + kMark + "b\n"), "line").documents,
            (std::vector<std::string>{"a", kMark + "b"}));
  EXPECT_THAT(error_of("e.txt", kMark + "a\xff"), HasSubstr("at byte 4"));
}

TEST_F(ReadingTest, LinesThatGiveNoTextAreCountedWithTheirReason) {
  const std::string path = write(
      "a.jsonl", line_of("text", "good") + line_of("body", "other") + line_of("text", nullptr) +
                     line_of("text", 5) + "[1]\n{broken\n\n  \n{\"text\": \"\xb0\xa1\"}\n" +
                     line_of("text", {"a", "b"}) + "{}\n" + line_of("text", ""));
  const Seen seen = read(path);
  EXPECT_EQ(seen.documents, std::vector<std::string>{"good"});
  EXPECT_EQ(seen.counts.records, 10);
  EXPECT_EQ(seen.counts.lines_skipped, 8);
  EXPECT_EQ(seen.counts.empty_documents, 1);
  const std::map<std::string, int64_t> reasons = {{"without the key `text`", 2},
                                                  {"with `text` that is no string", 3},
                                                  {"not a JSON object", 1},
                                                  {"not valid JSON", 1},
                                                  {"not UTF-8", 1}};
  EXPECT_EQ(seen.counts.reasons, reasons);
  ASSERT_EQ(seen.counts.first.size(), ReadCounts::kShownMax);
  EXPECT_EQ(seen.counts.first[0], path +
                                      ":2: no key `text`, but `body`: set `text_key` if the text "
                                      "is elsewhere, perhaps in `body`");
  EXPECT_THAT(seen.counts.first[1], HasSubstr(":3: the value of `text` is not a string but null"));
  EXPECT_THAT(seen.counts.first[2], HasSubstr("but a number"));
}

TEST_F(ReadingTest, TheKeyWithMostTextIsProposed) {
  const std::string line = nlohmann::json({{"id", 7},
                                           {"lang", "ko"},
                                           {"본문", "나무의 나이테"},
                                           {"a", 1},
                                           {"b", 1},
                                           {"c", 1},
                                           {"url", "x"}})
                               .dump();
  JsonLines lines;
  const auto found = lines.text_of(line, "text");
  ASSERT_TRUE(std::holds_alternative<JsonLines::Refusal>(found));
  EXPECT_THAT(std::get<JsonLines::Refusal>(found).why, HasSubstr("and 2 more"));
  EXPECT_THAT(std::get<JsonLines::Refusal>(found).why, HasSubstr("perhaps in `본문`"));
}

TEST_F(ReadingTest, ALargeNumberBesideTheTextDoesNoHarm) {
  const Seen seen = read(write("a.jsonl",
                               "{\"id\": 123456789012345678901234567890, \"text\": "
                               "\"글\"}\n{\"id\": 123456789012345678901234567890}\n"));
  EXPECT_EQ(seen.documents, std::vector<std::string>{"글"});
  EXPECT_EQ(seen.counts.reasons.at("not valid JSON"), 1);
}

TEST_F(ReadingTest, PackingSaysWhatItTookAndWhatNot) {
  std::string lines;
  for (int i = 0; i < 300; ++i) lines += line_of("text", fmt::format("line {}", i));
  std::vector<std::string> lines_said = said(write("good.jsonl", lines));
  ASSERT_EQ(lines_said.size(), 1u);
  EXPECT_EQ(lines_said[0], "source s: read 1 file, 300 documents to train on, 0 held out");
  lines_said =
      said(write("some.jsonl", lines + line_of("content", "x") + line_of("text", "line 1")));
  EXPECT_THAT(lines_said[0], StartsWith("source s: read 1 file, 300 documents"));
  EXPECT_THAT(lines_said[0], HasSubstr("left out: 1 of 302 lines (1 without the key `text`); 1 "
                                       "duplicate; first: "));
  EXPECT_THAT(lines_said[0], HasSubstr("some.jsonl:301: no key `text`, but `content`"));
  lines_said = said(write("many.jsonl", lines + "{\n{\n{\n{\n"));
  EXPECT_THAT(lines_said[0], StartsWith("WARNING: source s lost 1.3% of its text"));
  lines_said = said(write("none.jsonl", line_of("content", "x")));
  ASSERT_EQ(lines_said.size(), 1u);
  EXPECT_THAT(lines_said[0], HasSubstr("no training text"));
  EXPECT_THAT(lines_said[0], HasSubstr("perhaps in `content`"));
}

TEST_F(ReadingTest, ForeignFilesOfAFolderAreSaid) {
  write("all/a.txt", "text one");
  write("all/b.CSV", "a,b");
  write("all/sub/c.csv", "a,b");
  write("all/.hidden", "x");
  write("all/Makefile", "all:");
  ASSERT_EQ(::mkfifo((dir_ / "all/pipe.txt").c_str(), 0600), 0);
  const std::vector<std::string> lines = said((dir_ / "all").string());
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0],
              HasSubstr("left out: files: 2 .csv, 1 hidden, 1 pipe, 1 without an ending"));
  fs::remove(dir_ / "all/a.txt");
  EXPECT_THAT(said((dir_ / "all").string())[0], HasSubstr("holds no text file"));
  EXPECT_THAT(said((dir_ / "all").string())[0], HasSubstr("there is 2 .csv, 1 hidden"));
  EXPECT_THAT(said((dir_ / "all" / "*.CSV").string())[0], HasSubstr("there is 1 .csv"));
  fs::create_directories(dir_ / "empty");
  EXPECT_THAT(said((dir_ / "empty").string())[0], HasSubstr("it is empty"));
}

TEST_F(ReadingTest, APageWithoutTextIsALoss) {
  write("web/a.html", "<html><body><script>x</script></body></html>");
  write("web/b.html", "<p>text");
  const std::vector<std::string> lines = said((dir_ / "web").string());
  EXPECT_THAT(lines[0], StartsWith("WARNING: source s lost 50.0% of its text"));
  EXPECT_THAT(lines[0], HasSubstr("1 of 2 pages (1 page without main text)"));
  EXPECT_THAT(lines[0], HasSubstr("a.html: no main text in this page"));
}

TEST_F(ReadingTest, WhatIsNoTextIsNamed) {
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') +
      "\nsize 9\n";
  for (const char* name : {"a.txt", "a.jsonl", "a.json", "a.html", "a.txt.gz", "a.jsonl.zst", "a"})
    EXPECT_THAT(error_of(name, pointer), HasSubstr("a Git LFS pointer")) << name;
  const std::string page = "<!DOCTYPE html>\n<html><title>Sign in</title></html>\n";
  EXPECT_THAT(error_of("b.jsonl", page), HasSubstr("an HTML page"));
  EXPECT_THAT(error_of("b.jsonl.gz", page), HasSubstr("not gzip data, although its name says so: "
                                                      "it is an HTML page"));
  EXPECT_THAT(read(write("b.txt", page)).counts.notes[0], HasSubstr("looks like an HTML page"));
  EXPECT_THAT(error_of("c.txt", "%PDF-1.7\n"), HasSubstr("pdftotext"));
  EXPECT_THAT(error_of("c.txt", "PK\x03\x04zip"), HasSubstr("a zip archive"));
  EXPECT_THAT(error_of("c.txt.bz2", "BZh91AY&SYzzz"), HasSubstr("bzip2 -dc FILE > NEW"));
  EXPECT_THAT(error_of("c.txt.xz", std::string("\xfd"
                                               "7zXZ\0\0",
                                               7)),
              HasSubstr("xz -dc"));
  EXPECT_THAT(error_of("c.txt.lz4", "\x04\x22\x4d\x18"), HasSubstr("lz4 -d"));
  EXPECT_THAT(error_of("c.txt", gzip("text")), HasSubstr("gzip data: name it .gz"));
  EXPECT_THAT(error_of("c.txt.gz", gzip(gzip("text"))),
              HasSubstr("what it unpacks to is gzip data"));
  std::string tar(1024, '\0');
  tar.replace(0, 5, "a.txt").replace(257, 5, "ustar");
  EXPECT_THAT(error_of("d.tar", tar), HasSubstr("a tar archive"));
  EXPECT_THAT(error_of("d.tar.gz", gzip(tar)), HasSubstr("tar -xf FILE"));
}

TEST_F(ReadingTest, OtherEncodingsAreNamedWithTheCommandThatHelps) {
  struct Case {
    const char* encoding;
    const std::string* text;
    std::string named;
  };
  const std::vector<Case> cases = {
      {"CP949", &kKorean, "CP949"},       {"EUC-KR", &kKorean, "CP949"},
      {"CP932", &kJapanese, "CP932"},     {"EUC-JP", &kJapanese, "EUC-JP"},
      {"GB18030", &kChinese, "GB18030"},  {"CP1252", &kFrench, "CP1252"},
      {"UTF-16LE", &kKorean, "UTF-16LE"}, {"UTF-16BE", &kChinese, "UTF-16BE"},
      {"UTF-16LE", &kFrench, "UTF-16LE"}, {"UTF-32LE", &kKorean, "UTF-32LE"},
      {"UTF-16", &kKorean, "UTF-16"},     {"UTF-32", &kJapanese, "UTF-32"}};
  for (const Case& one : cases) {
    const std::string bytes = converted(*one.text, one.encoding);
    const std::string command = fmt::format("`iconv -f {} -t UTF-8 FILE > NEW`", one.named);
    EXPECT_THAT(error_of("a.txt", bytes), HasSubstr(command)) << one.encoding;
    EXPECT_THAT(error_of("a.txt", bytes), Not(HasSubstr("fetch"))) << one.encoding;
    EXPECT_THAT(error_of("a.txt.gz", gzip(bytes)),
                HasSubstr(fmt::format("`gzip -dc FILE | iconv -f {} -t UTF-8 > NEW`", one.named)))
        << one.encoding;
    EXPECT_EQ(converted("a", one.named.c_str()).empty(), false);  // iconv knows the name
  }
  // ASCII first; a syllable that EUC-KR lacks; one that happens to be UTF-8, too.
  EXPECT_THAT(error_of("a.txt", converted("# notes\n\n똠방각하 펲시콜라 " + kKorean, "CP949")),
              HasSubstr("perhaps CP949"));
  EXPECT_THAT(error_of("a.txt", "\xc7\xb0\xc7\xb1 " + converted(kKorean, "CP949")),
              HasSubstr("perhaps CP949"));
  const std::string line = "{\"text\": \"" + converted("나이테를 센다", "CP949") + "\"}\n";
  EXPECT_THAT(read(write("a.jsonl", line)).counts.first[0],
              HasSubstr("a.jsonl:1: not UTF-8 at byte 10 of the line: perhaps CP949: convert it "
                        "with `iconv -f CP949"));
}

TEST_F(ReadingTest, APageNamesItsCharset) {
  const auto page = [](const std::string& meta, const char* encoding) {
    return "<html><head>" + meta + "</head><body><p>" + converted("나이테", encoding) + "</body>";
  };
  EXPECT_THAT(error_of("a.html", page("<meta charset=\"euc-kr\">", "EUC-KR")),
              HasSubstr("declares another charset: convert it with `iconv -f CP949"));
  EXPECT_THAT(
      error_of("b.htm", page("<META http-equiv=Content-Type content='text/html; charset=ks_c_5601-"
                             "1987'>",
                             "CP949")),
      HasSubstr("iconv -f CP949"));
  // A charset that cannot be is not believed, and one that nobody knows.
  EXPECT_THAT(error_of("c.html", page("<meta charset=utf-8>", "CP949")),
              HasSubstr("iconv -f CP949"));
  EXPECT_THAT(error_of("d.html", page("<meta charset=x-none>", "CP949")),
              HasSubstr("perhaps CP949"));
}

TEST_F(ReadingTest, DamagedUtf8IsNotTakenForAnotherEncoding) {
  EXPECT_THAT(error_of("a.txt", kKorean + "\xff" + kKorean), HasSubstr("single bytes are damaged"));
  EXPECT_THAT(error_of("a.txt", kKorean + "\xea\xb0"), HasSubstr("its end: if it was cut off"));
  EXPECT_EQ(read(write("a.txt", std::string("zero\0byte", 9))).documents.size(), 1u);
}

RC_GTEST_PROP(Encodings, GuessesAreRightOrSilentForAnyBytes, (const std::string& bytes)) {
  const std::string encoding = guess_encoding(bytes);
  if (!encoding.empty()) converted("a", encoding.c_str());
  RC_ASSERT(not_utf8_advice(bytes, "a.txt").find('\n') == std::string::npos);
}

RC_GTEST_PROP(Encodings, Utf8IsNeverTakenForAWideEncoding, (const std::vector<char32_t>& codes)) {
  std::string text;
  for (const char32_t code : codes)
    if (code > 0 && code < 0x110000 && (code < 0xd800 || code > 0xdfff)) append_utf8(code, text);
  RC_ASSERT(guess_wide_encoding(text).empty());
}

TEST_F(ReadingTest, SoundPackedFilesOfUnusualKinds) {
  const std::vector<std::string> one = {kKorean};
  const std::string packed = gzip(kKorean);
  EXPECT_EQ(read(write("a.txt.gz", packed + std::string(1000, '\0'))).documents, one);
  EXPECT_EQ(read(write("b.txt.gz", gzip("나무는 ") + gzip(kKorean.substr(10)))).documents, one);
  EXPECT_EQ(read(write("c.txt.gz", packed + std::string(512, '\0') + gzip(""))).documents, one);
  EXPECT_EQ(read(write("d.txt.zst", zstd(kKorean) + std::string(7, '\0'))).documents, one);
  EXPECT_EQ(read(write("e.txt.zst", zstd(kKorean, 30))).documents, one);
  EXPECT_EQ(
      read(write("f.txt.zst", std::string("\x50\x2a\x4d\x18\x02\0\0\0hi", 10) + zstd(kKorean)))
          .documents,
      one);
  EXPECT_THAT(error_of("g.txt.gz", packed + "more"), HasSubstr("behind the end of the gzip data"));
  EXPECT_THAT(error_of("g.txt.zst", zstd(kKorean) + "more"),
              HasSubstr("behind the end of the zstd"));
  EXPECT_THAT(error_of("h.txt.gz", kKorean), HasSubstr("it is plain text: rename it to h.txt"));
  EXPECT_THAT(error_of("h.jsonl.zst", "{\"text\": 1}"), HasSubstr("not zstd data"));
  EXPECT_THAT(error_of("h.txt.gz", zstd(kKorean)), HasSubstr("it is zstd data: name it .zst"));
  std::string damaged = packed;
  damaged[packed.size() / 2] ^= 0x55;
  damaged[packed.size() - 5] ^= 0x55;
  EXPECT_THAT(error_of("i.txt.gz", damaged), HasSubstr("damaged compressed data"));
  EXPECT_THAT(error_of("i.txt.gz", packed.substr(0, packed.size() - 3)),
              HasSubstr("ends in the middle"));
}

TEST_F(ReadingTest, ADictionaryIsAskedFor) {
  std::string dictionary("\x37\xa4\x30\xec\x07\0\0\0", 8);  // its id is 7
  const std::string frame = zstd(kKorean);
  // A frame whose header names a dictionary: descriptor 1, then the window, then the id.
  std::string named = frame.substr(0, 4) + char(frame[4] | 1) + frame[5] + '\x07' + frame.substr(6);
  EXPECT_THAT(error_of("a.txt.zst", named), HasSubstr("zstd -d -D DICTIONARY"));
}

TEST_F(ReadingTest, NamesAreFoundInEitherNormalForm) {
  const std::string composed = "나이테 café", decomposed = to_nfd(composed);
  ASSERT_NE(composed, decomposed);
  ASSERT_EQ(to_nfc(decomposed), composed);
  const std::vector<std::string> one = {"text"};
  write(decomposed + "/" + decomposed + ".txt", "text");
  EXPECT_EQ(read((dir_ / composed / (composed + ".txt")).string()).documents, one);
  EXPECT_EQ(read((dir_ / composed).string()).documents, one);
  EXPECT_EQ(read((dir_ / composed / "나*.txt").string()).documents, one);
  EXPECT_EQ(read((dir_ / decomposed / (composed + ".txt")).string()).documents, one);
  fs::remove_all(dir_ / decomposed);
  write(composed + ".txt", "text");
  EXPECT_EQ(read((dir_ / (decomposed + ".txt")).string()).documents, one);
  write(to_nfd("나무.txt"), "text");  // beside it: a pattern means both
  EXPECT_EQ(read((dir_ / "나*.txt").string()).documents.size(), 2u);
}

TEST_F(ReadingTest, PathsThatLeadNowhereSayWhere) {
  write("corpus/korean.txt", "text");
  const std::string dir = dir_.string();
  EXPECT_THAT(read(dir + "/corpus/koraen.txt").error,
              HasSubstr("did you mean " + dir + "/corpus/korean.txt?"));
  EXPECT_THAT(read(dir + "/corpus/korean.txt/a").error, HasSubstr("is a file, not a folder"));
  EXPECT_EQ(read(dir + "/corpus/korean.txt/").documents.size(), 1u);
  fs::create_symlink("gone.txt", dir_ / "link.txt");
  EXPECT_THAT(read(dir + "/link.txt").error, HasSubstr("link.txt is a symbolic link to gone.txt"));
  ASSERT_EQ(::mkfifo((dir_ / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(read(dir + "/pipe").error, HasSubstr("it is a pipe"));
  EXPECT_THAT(read("/dev/zero").error, HasSubstr("it is a device"));
  EXPECT_THAT(find_path(dir + "/pipe", {}).error().message, HasSubstr("it is a pipe"));
  EXPECT_THAT(read("~nobody/x").error, HasSubstr("write the whole path"));
  // A path that is tried from the same folder twice is named once.
  const std::string message =
      find_inputs("none/x.txt", {"", ".", fs::current_path()}).error().message;
  EXPECT_EQ(message.find("x.txt", message.find("x.txt") + 1), std::string::npos) << message;
}

TEST_F(ReadingTest, TheHomeDirectoryIsMeantByATilde) {
  const char* const before = std::getenv("HOME");
  const std::string kept = before == nullptr ? "" : before;
  write("corpus/a.txt", "text");
  ::setenv("HOME", dir_.c_str(), 1);
  EXPECT_EQ(read("~/corpus/a.txt").documents.size(), 1u);
  EXPECT_EQ(read("~/corpus/*.txt").documents.size(), 1u);
  EXPECT_EQ(read("~").documents.size(), 1u);
  ::setenv("HOME", kept.c_str(), 1);
}

TEST_F(ReadingTest, AStopIsHeardWhateverIsRead) {
  write("many/a.jsonl", std::string(1 << 20, '\n') + "{\n");
  std::atomic<bool> stop = true;
  SourceOptions source;
  ReadCounts counts;
  const Status status = read_documents(
      {dir_ / "many/a.jsonl", TextKind::kJsonLines}, source, false,
      [](const Document&) -> Result<bool> { return true; }, counts, nullptr, &stop);
  EXPECT_THAT(status.error().message, HasSubstr("interrupted"));
  EXPECT_THAT(find_inputs(dir_.string(), {}, &stop).error().message, HasSubstr("interrupted"));
  EXPECT_THAT(sha256_file(dir_ / "many/a.jsonl", &stop).error().message, HasSubstr("interrupted"));
}

}  // namespace
}  // namespace naite::data
