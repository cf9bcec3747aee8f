// SPDX-License-Identifier: Apache-2.0
#include "data/prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <csignal>
#include <cstdlib>
#include <map>

#include "data/data.h"

namespace naite::data {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(::deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(::deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

// Sentences that differ, in two scripts.
std::string prose(int sentences, int seed) {
  static const char* const kWords[] = {"나이테는",  "나무의", "자란",  "흔적을",
                                       "보여준다.", "rings",  "show",  "how",
                                       "trees",     "grew,",  "don't", "42"};
  std::string text;
  for (int i = 0; i < sentences; ++i) {
    for (int j = 0; j < 9; ++j)
      text += fmt::format("{} ", kWords[(i * i + j * (seed + 3) + i * j) % 12]);
    text += fmt::format("{}.\n", i * 31 + seed);
  }
  return text;
}

PrepareRequest request_in(const fs::path& dir) {
  PrepareRequest request;
  request.tokenizer.vocab_size = 400;
  request.data.sequence_length = 32;
  request.data.validation = 0.1;
  request.run_directory = dir / "run";
  request.num_threads = 2;
  return request;
}

void add_source(PrepareRequest& request, const std::string& name, const fs::path& path,
                const std::string& document = "file") {
  SourceOptions source;
  source.name = source.language = name;
  source.path = path.string();
  source.document = document;
  source.license = "CC0-1.0";
  request.data.sources.push_back(source);
}

class PrepareTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    dir_ = fs::temp_directory_path() / fmt::format("naite-prepare-{}-{}", name, ::getpid());
    fs::remove_all(dir_);
    fs::create_directories(dir_ / "run");
    fs::create_directories(dir_ / "text");
    request_ = request_in(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  fs::path write(const std::string& name, const std::string& content) {
    const fs::path path = dir_ / "text" / name;
    EXPECT_TRUE(write_file(path, content).ok());
    return path;
  }
  Manifest ok() {
    Result<Manifest> manifest = prepare(request_);
    EXPECT_TRUE(manifest.ok()) << (manifest.ok() ? "" : manifest.error().message);
    return manifest.ok() ? *manifest : Manifest{};
  }
  std::string error() {
    const Result<Manifest> manifest = prepare(request_);
    if (manifest.ok()) return "no error";
    EXPECT_EQ(manifest.error().message.find('\n'), std::string::npos);
    EXPECT_FALSE(fs::exists(dir_ / "run" / "data" / "manifest.json"));
    return manifest.error().message;
  }

  fs::path dir_;
  PrepareRequest request_;
};

std::map<std::string, std::string> files_of(const fs::path& run) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(run))
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), run).string()] = *read_file(entry.path());
  return files;
}

TEST_F(PrepareTest, ThreadsChangeNothing) {
  for (int i = 0; i < 30; ++i) write(fmt::format("{:02}.txt", i), prose(40, i));
  add_source(request_, "all", dir_ / "text");
  std::map<std::string, std::string> first;
  for (const int threads : {1, 2, 5}) {
    fs::remove_all(dir_ / "run");
    fs::create_directories(dir_ / "run");
    request_.num_threads = threads;
    ok();
    const auto files = files_of(dir_ / "run");
    if (first.empty()) first = files;
    EXPECT_EQ(files, first);
  }
  EXPECT_TRUE(first.contains("tokenizer.json"));
  EXPECT_TRUE(first.contains("data/manifest.json"));
}

TEST_F(PrepareTest, CompleteDataIsUsedAsItStands) {
  add_source(request_, "one", write("one.txt", prose(100, 1)));
  const Manifest made = ok();
  fs::remove(dir_ / "text" / "one.txt");
  EXPECT_EQ(ok().to_json(), made.to_json());
  request_.data.sources[0].weight = {{0.0, 5.0}};  // no business of the shards
  EXPECT_EQ(ok().to_json(), made.to_json());
  request_.data.validation = 0.2;
  EXPECT_THAT(prepare(request_).error().message,
              HasSubstr("validation = 0.1, the recipe says 0.2"));
}

// Whoever verifies has no text, but the recipe: what it decides of manifest and tokenizer.
TEST_F(PrepareTest, AManifestIsWhatItsOptionsMakeOfIt) {
  request_.tokenizer.vocab_size = 300;
  add_source(request_, "one", write("one.txt", prose(100, 1)));
  const Manifest made = ok();
  const Tokenizer tokenizer = *Tokenizer::load(dir_ / "run");
  const auto wrong = [&](const std::function<void(Manifest&)>& change) {
    Manifest changed = made;
    change(changed);
    const Status status = check_prepared(changed, tokenizer, request_.tokenizer, request_.data);
    return status.ok() ? std::string() : status.error().message;
  };
  EXPECT_EQ(wrong([](Manifest&) {}), "");
  EXPECT_EQ(wrong([](Manifest& m) { m.options["source"][0]["path"] = "/moved/one.txt"; }), "");
  EXPECT_NE(wrong([](Manifest& m) { m.options["strict"] = true; }), "");
  EXPECT_NE(wrong([](Manifest& m) { m.options = nullptr; }), "");
  EXPECT_NE(wrong([](Manifest& m) { m.sources.push_back(m.sources[0]); }), "");
  EXPECT_NE(wrong([](Manifest& m) { m.sources[0].license = "MIT"; }), "");
  EXPECT_NE(wrong([](Manifest& m) { m.sources[0].train.tokens += 1; }), "");
  EXPECT_NE(wrong([](Manifest& m) { m.sources[0].train.shards[0].tokens = INT64_MAX; }), "");
  EXPECT_NE(wrong([](Manifest& m) { m.sources[0].train.shards[0].file = "x.tokens"; }), "");
  EXPECT_NE(wrong([](Manifest& m) { m.token_bytes = 4; }), "");
  EXPECT_NE(wrong([](Manifest& m) { m.end_of_document = 0; }), "");
  request_.tokenizer.vocab_size = 290;
  EXPECT_THAT(wrong([](Manifest&) {}), HasSubstr("the recipe asks for 290"));
  request_.tokenizer.vocab_size = 256;
  EXPECT_THAT(wrong([](Manifest&) {}), HasSubstr("plain bytes"));
}

TEST_F(PrepareTest, ATokenizerThatIsTrainedSaysNothingButItsMerges) {
  request_.tokenizer.vocab_size = 300;
  add_source(request_, "one", write("one.txt", prose(100, 1)));
  ok();
  const std::string json = *read_file(dir_ / "run/tokenizer.json");
  const std::string config = *read_file(dir_ / "run/tokenizer_config.json");
  const auto ours = [&](const std::string& with_json, const std::string& with_config) {
    EXPECT_TRUE(write_file(dir_ / "run/tokenizer.json", with_json).ok());
    EXPECT_TRUE(write_file(dir_ / "run/tokenizer_config.json", with_config).ok());
    const Result<Tokenizer> read = Tokenizer::load(dir_ / "run");
    return read.ok() && read->is_of_our_making();
  };
  EXPECT_TRUE(ours(json, config));
  EXPECT_FALSE(ours(json + " ", config));
  EXPECT_FALSE(ours(json, config + " "));
  const size_t at = json.find("\"merges\"");
  ASSERT_NE(at, std::string::npos);
  EXPECT_FALSE(ours(json.substr(0, at) + "\"more\": 1, " + json.substr(at), config));
}

TEST_F(PrepareTest, ADamagedShardIsNamed) {
  add_source(request_, "one", write("one.txt", prose(100, 1)));
  const Manifest made = ok();
  const fs::path shard = dir_ / "run" / "data" / made.sources[0].train.shards[0].file;
  std::string bytes = *read_file(shard);
  bytes[10] ^= 1;
  ASSERT_TRUE(write_file(shard, bytes).ok());
  EXPECT_THAT(prepare(request_).error().message, HasSubstr(shard.string()));
  EXPECT_THAT(prepare(request_).error().message, HasSubstr("SHA-256"));
  ASSERT_TRUE(write_file(shard, bytes.substr(2)).ok());
  EXPECT_THAT(Loader::open({dir_ / "run", request_.data, 1, 1, 1}).error().message,
              HasSubstr("cut off"));
}

TEST_F(PrepareTest, DuplicatesAreDroppedAndLikenessesCounted) {
  const std::string text = prose(60, 1);
  write("a.txt", text);
  write("b.txt", text);
  std::string like = text;
  like.replace(like.find("rings"), 5, "bands");
  write("c.txt", like);
  write("d.txt", prose(60, 2) + "서로 다른 글이다.\n");
  write("e.txt", "");
  add_source(request_, "one", dir_ / "text");
  request_.data.validation = 0.0;
  Manifest manifest = ok();
  EXPECT_EQ(manifest.sources[0].duplicates, 1);
  EXPECT_EQ(manifest.sources[0].near_duplicates, 1);
  EXPECT_EQ(manifest.sources[0].empty_documents, 1);
  EXPECT_EQ(manifest.sources[0].train.documents, 3);
  EXPECT_EQ(manifest.sources[0].files.size(), 5u);
  EXPECT_EQ(manifest.sources[0].license, "CC0-1.0");
  fs::remove_all(dir_ / "run" / "data");
  request_.data.near_duplicates = "drop";
  EXPECT_EQ(ok().sources[0].train.documents, 2);
}

TEST_F(PrepareTest, ReadsEveryKindPlainAndPacked) {
  const std::string text = prose(20, 3);
  write("a.txt", text + "a");
  write("b.md.gz", gzip(text + "b"));
  write("c.txt.zst", zstd(text + "c") + zstd("d"));  // two frames
  write("d.jsonl", nlohmann::json({{"text", text + "e"}}).dump() + "\n\n" +
                       nlohmann::json({{"text", text + "f"}}).dump() + "\nbroken\n{\"no\": 1}\n");
  write("e.html",
        "<html><body><nav>menu</nav><h1>나이테</h1><p>A <b>ring</b>.<script>x</script></p>"
        "<ul><li>one<li>two</ul></body></html>");
  write("f.png", "not text");
  add_source(request_, "one", dir_ / "text");
  request_.tokenizer.vocab_size = 256;
  request_.data.validation = 0.0;
  request_.data.near_duplicates = "off";
  const Manifest manifest = ok();
  const ManifestSource& source = manifest.sources[0];
  EXPECT_EQ(source.train.documents, 6);
  EXPECT_EQ(source.lines_skipped, 2);
  EXPECT_EQ(source.files_skipped, 1);
  const std::string html = "# 나이테\n\nA ring.\n\n- one\n- two\n";
  EXPECT_EQ(source.train.bytes, static_cast<int64_t>(5 * text.size() + 6 + html.size()));
}

TEST_F(PrepareTest, BadInputIsOneClearLine) {
  const std::string text = prose(20, 3);
  const auto error_of = [&](const std::string& name, const std::string& content) {
    fs::remove_all(dir_ / "text");
    fs::create_directories(dir_ / "text");
    request_.data.sources.clear();
    add_source(request_, "one", write(name, content));
    return error();
  };
  EXPECT_THAT(error_of("a.txt", "abc\xff"), HasSubstr("a.txt: not UTF-8 at byte 3"));
  EXPECT_THAT(error_of("a.txt", "abc\xea\xb0"), HasSubstr("a.txt: not UTF-8 at byte 3"));
  EXPECT_THAT(error_of("a.txt", text + "\xed\xa0\x80"),
              HasSubstr(fmt::format("not UTF-8 at byte {}", text.size())));
  EXPECT_THAT(error_of("a.zst", zstd(text).substr(0, 40)), HasSubstr("ends in the middle"));
  EXPECT_THAT(error_of("a.gz", gzip(text).substr(0, 60)), HasSubstr("ends in the middle"));
  EXPECT_THAT(error_of("a.gz", "not gzip at all"), HasSubstr("not gzip data"));
  EXPECT_THAT(error_of("a.gz", gzip(std::string(100 << 20, 'a'))), HasSubstr("bomb"));
  EXPECT_THAT(error_of("a.txt", ""), HasSubstr("no training text"));
  EXPECT_THAT(error_of("a.jsonl", "{\n[1]\n"), HasSubstr("broken lines: 2"));
  request_.data.strict = true;
  EXPECT_THAT(error_of("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\n"),
              HasSubstr("a.jsonl:3: not valid JSON"));
  EXPECT_THAT(error_of("a.jsonl", "{\"text\": 1}\n"), HasSubstr("a.jsonl:1: the value of `text`"));
  EXPECT_THAT(error_of("a.jsonl", "{\"text\": \"\xff\"}\n"), HasSubstr("not UTF-8 at byte 10"));
  request_.data.sources[0].path = (dir_ / "none" / "*.txt").string();
  EXPECT_THAT(error(), HasSubstr("nothing is at"));
  request_.data.sources[0].path = (dir_ / "text").string();
  fs::create_directory_symlink(dir_ / "text", dir_ / "text" / "again");
  EXPECT_THAT(error(), HasSubstr("again leads back to a folder that contains it"));
  fs::remove(dir_ / "text" / "again");
  fs::create_symlink("self.txt", dir_ / "text" / "self.txt");
  EXPECT_THAT(error(), HasSubstr("self.txt is a symbolic link that leads to itself"));
  request_.data.sources[0].path = "/proc/self/mem";
  EXPECT_THAT(error(), HasSubstr("cannot read /proc/self/mem"));
}

TEST_F(PrepareTest, DocumentsAreLinesOrParagraphs) {
  write("a.txt", "one\r\ntwo\n\n\nthree\nfour\n \t\nfive");
  request_.data.validation = 0.0;
  request_.tokenizer.vocab_size = 256;
  add_source(request_, "a", dir_ / "text" / "a.txt", "line");
  Manifest manifest = ok();
  EXPECT_EQ(manifest.sources[0].train.documents, 6);  // a line of blanks is a line
  EXPECT_EQ(manifest.sources[0].empty_documents, 2);
  fs::remove_all(dir_ / "run" / "data");
  request_.data.sources[0].document = "blank_line";
  manifest = ok();
  EXPECT_EQ(manifest.sources[0].train.documents, 3);
  EXPECT_EQ(manifest.sources[0].train.bytes, 8 + 10 + 4);  // "one\r\ntwo", "three\nfour", "five"
}

// --- killed at any moment
// -------------------------------------------------------------------------

constexpr const char* kChildDirectory = "NAITE_TEST_PREPARE_DIRECTORY";

PrepareRequest killed_request(const fs::path& dir) {
  PrepareRequest request = request_in(dir);
  add_source(request, "a", dir / "text");
  add_source(request, "b", dir / "b.jsonl");
  return request;
}

TEST(PrepareChild, RunsForTheTestThatKillsIt) {
  const char* dir = std::getenv(kChildDirectory);
  if (dir == nullptr) GTEST_SKIP() << "only as a child process";
  EXPECT_TRUE(prepare(killed_request(dir)).ok());
}

int run_child(const fs::path& dir, const std::string& kill_at) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("NAITE_KILL_AT", kill_at.c_str(), 1);
    ::setenv(kChildDirectory, dir.c_str(), 1);
    ::execl("/proc/self/exe", "naite_data_test", "--gtest_filter=PrepareChild.*", "--gtest_brief=1",
            static_cast<char*>(nullptr));
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST_F(PrepareTest, KilledAnywhereTheNextStartIsRight) {
  for (int i = 0; i < 12; ++i) write(fmt::format("{:02}.txt", i), prose(40, i));
  std::string lines;
  for (int i = 0; i < 12; ++i) lines += nlohmann::json({{"text", prose(9, 100 + i)}}).dump() + "\n";
  ASSERT_TRUE(write_file(dir_ / "b.jsonl", lines).ok());
  request_ = killed_request(dir_);
  ok();
  const auto whole = files_of(dir_ / "run");
  for (const char* point : {"data-count:1", "data-tokenizer:1", "data-pack:1", "data-shard:1",
                            "data-shard:2", "data-shard:3", "data-manifest:1", "data-done:1"}) {
    fs::remove_all(dir_ / "run");
    fs::create_directories(dir_ / "run");
    const int status = run_child(dir_, point);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << point;
    EXPECT_EQ(fs::exists(dir_ / "run" / "data" / "manifest.json"),
              std::string_view(point) == "data-done:1");
    ok();
    EXPECT_EQ(files_of(dir_ / "run"), whole) << point;
  }
}

}  // namespace
}  // namespace naite::data
