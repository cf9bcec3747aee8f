// SPDX-License-Identifier: Apache-2.0
#include "base/base.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

#include "base/interruptible.h"

namespace naite {
namespace {

namespace fs = std::filesystem;

fs::path fresh_directory(const std::string& name) {
  const fs::path path = fs::temp_directory_path() / fmt::format("naite-{}-{}", name, ::getpid());
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

TEST(Result, ALongMessageKeepsItsEnds) {
  std::string key = "a\nb";
  for (int i = 0; i < 3000; ++i) key += "\xea\xb0\x80";  // three bytes each
  const std::string message = Error(fail("no key `{}`: try `name`", key)).message;
  EXPECT_LT(message.size(), 1100);
  EXPECT_TRUE(message.starts_with("no key `a b"));
  EXPECT_TRUE(message.ends_with("`: try `name`"));
  const size_t gap = message.find(" ... ");
  ASSERT_NE(gap, std::string::npos);
  EXPECT_EQ(message.substr(gap - 3, 3), "\xea\xb0\x80");
  EXPECT_EQ(message.substr(gap + 5, 3), "\xea\xb0\x80");
}

TEST(Result, AMessageIsOneLine) {
  EXPECT_EQ(fail("no key `{}`", "a\nb\t\x7f").message, "no key `a b \\x7f`");
}

TEST(ForeignFiles, AreKnownByTheirFirstBytes) {
  const auto name_of = [](const std::string& bytes) -> std::string {
    const std::optional<ForeignFile> file = what_is(bytes);
    return file ? std::string(file->what) : "";
  };
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') +
      "\nsize 12345\n";
  EXPECT_EQ(name_of(pointer), "a Git LFS pointer, not the file itself");
  EXPECT_EQ(name_of(pointer + std::string(2000, ' ')), "");  // a text about them
  EXPECT_EQ(name_of("/annex/objects/SHA256E-s1--0.txt\n"),
            "a git-annex pointer, not the file itself");
  EXPECT_EQ(name_of("\xef\xbb\xbf \n<!DOCTYPE HTML><title>403"), "an HTML page");
  EXPECT_EQ(name_of("<HTML lang=ko>"), "an HTML page");
  EXPECT_EQ(name_of("<htm"), "");
  EXPECT_EQ(name_of("Entry not found"), "a server's error message instead of the file");
  EXPECT_EQ(name_of(std::string("\xff\xfe\0\0a\0\0\0", 8)), "UTF-32 text (byte-order mark)");
  EXPECT_EQ(name_of(std::string("\xff\xfe"
                                "a\0",
                                4)),
            "UTF-16 text (byte-order mark)");
  EXPECT_EQ(name_of("\xfe\xff\xac"), "UTF-16 text (byte-order mark)");
  EXPECT_EQ(name_of("\x1f\x8b\x08"), "gzip data");
  EXPECT_EQ(name_of(std::string("\xfd"
                                "7zXZ\0",
                                6)),
            "xz data");
  EXPECT_EQ(name_of("BZh91AY&SY"), "bzip2 data");
  EXPECT_EQ(name_of("Ring1AY&SY"), "");
  EXPECT_EQ(name_of(std::string(257, 'a') + "ustar"), "a tar archive");
  EXPECT_EQ(name_of("%PDF-1.7"), "a PDF document");
  EXPECT_EQ(name_of("\x80\x02}q"), "a Python pickle (PyTorch's old format)");
  for (const char* text : {"", "a", "PK", "PAR1 and ARROW1", "GGUF is a format", "BZh9 is a chord",
                           "{\"text\": \"<html>\"}", "\xea\xb0\x80\xeb\x82\x98"})
    EXPECT_EQ(name_of(text), "") << text;
}

TEST(ForeignFiles, AMarkIsNoText) {
  EXPECT_EQ(without_byte_order_mark("\xef\xbb\xbf"
                                    "a\xef\xbb\xbf"),
            "a\xef\xbb\xbf");
  EXPECT_EQ(without_byte_order_mark("\xef\xbb\xbf"), "");
  EXPECT_EQ(without_byte_order_mark("\xef\xbb"), "\xef\xbb");
}

TEST(Philox, MatchesThePublishedVectors) {
  // Random123 distribution, kat_vectors, philox4x32 10 rounds.
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, BoundedNumbersStayBelowTheBound) {
  for (uint64_t i = 0; i < 1000; ++i) {
    EXPECT_LT(random_below(7, 1, Purpose::kDataOrder, i), 7u);
    const double unit = random_unit(1, Purpose::kSampling, i);
    EXPECT_GE(unit, 0.0);
    EXPECT_LT(unit, 1.0);
  }
}

TEST(Sha256, MatchesFips180) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Bf16, RoundsToNearestEvenAndFlushes) {
  EXPECT_EQ(float_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie to even
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // tie to even, upwards
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x807fffffu)), 0x8000);  // subnormal: signed zero
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x7f7fffffu)), 0x7f80);  // overflow: infinity
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x7f800001u)), 0x7fc0);  // NaN stays NaN
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = bf16_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    const bool subnormal = (bits & 0x7f80) == 0;
    EXPECT_EQ(float_to_bf16(value), subnormal ? (bits & 0x8000) : bits);
  }
}

TEST(FloatMode, FlushesAndIsInheritedByThePool) {
  set_float_mode();
  volatile float tiny = 1.5e-38f;
  volatile float half = 0.5f;
  EXPECT_EQ(tiny * half, 0.0f);
  ThreadPool pool(3);
  std::atomic<int> set{0};
  pool.run(64, [&](int64_t, int) { set += float_mode_is_set(); });
  EXPECT_EQ(set, 64);
}

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<int> hits(round);
      pool.run(round, [&](int64_t task, int thread) {
        ASSERT_LT(thread, threads);
        ++hits[task];
      });
      EXPECT_EQ(std::accumulate(hits.begin(), hits.end(), 0), round);
    }
  }
}

// More threads than processors, loops so short that most threads come late to them.
TEST(ThreadPool, ALateThreadMeetsOnlyTheLoopUnderWay) {
  ThreadPool pool(8);
  std::vector<int64_t> sums(16);
  for (int64_t round = 0; round < 20000; ++round) {
    const int64_t tasks = 2 + round % 15;
    std::fill(sums.begin(), sums.end(), 0);
    pool.run(tasks, [&, round](int64_t task, int) { sums[task] += round + task; });
    for (int64_t task = 0; task < 16; ++task)
      ASSERT_EQ(sums[task], task < tasks ? round + task : 0) << round;
  }
}

TEST(ThreadPool, WhatATaskThrowsReachesTheCaller) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 50; ++round) {
      std::atomic<int> done{0};
      EXPECT_THROW(pool.run(20,
                            [&](int64_t task, int) {
                              if (task == 7 || task == 8) throw std::bad_alloc();
                              ++done;
                            }),
                   std::bad_alloc);
      done = 0;
      pool.run(20, [&](int64_t, int) { ++done; });
      ASSERT_EQ(done, 20);
    }
  }
}

TEST(ThreadPool, AStopEndsWhatIsInterruptible) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::atomic<bool> stop{false};
    std::atomic<int> done{0};
    const auto loop = [&] {
      pool.run(1000, [&](int64_t, int) {
        if (++done == 100) stop = true;
      });
    };
    {
      const Interruptible until(&stop);
      EXPECT_THROW(loop(), Interrupted);
      EXPECT_LT(done, 100 + threads + 1);
      EXPECT_THROW(loop(), Interrupted);
    }
    done = 0;
    loop();
    EXPECT_EQ(done, 1000);
  }
}

TEST(Math, AgreesWithTheCLibrary) {
  for (double x = -40.0; x < 40.0; x += 0.37) {
    EXPECT_NEAR(exact_exp2(x) / std::exp2(x), 1.0, 1e-14);
    EXPECT_NEAR(exact_log2(std::exp2(x)), x, 1e-13);
    EXPECT_NEAR(exact_sin(x * 1000), std::sin(x * 1000), 1e-11);
    EXPECT_NEAR(exact_cos(x * 1000), std::cos(x * 1000), 1e-11);
  }
  EXPECT_NEAR(exact_power(10000.0, -0.25), 0.1, 1e-15);
  EXPECT_EQ(integer_power(0.5, 10), 0x1p-10);
}

// What is wrong with a file, and what is wrong with this machine.
TEST(Result, AnErrorSaysWhatItIsAbout) {
  EXPECT_EQ(fail("x").kind, ErrorKind::kWrong);
  EXPECT_EQ(missing("x").kind, ErrorKind::kMissing);
  EXPECT_EQ(rephrased(unable("x"), "y: {}", "x").kind, ErrorKind::kUnable);
  for (const int code : {ENOENT, ENOTDIR})
    EXPECT_EQ(kind_of_system_error(code), ErrorKind::kMissing) << code;
  for (const int code : {EISDIR, ELOOP, ENAMETOOLONG})
    EXPECT_EQ(kind_of_system_error(code), ErrorKind::kWrong) << code;
  for (const int code : {EACCES, EPERM, EIO, ENOMEM, EMFILE, ENFILE, ENOSPC, EDQUOT, EROFS, EFBIG})
    EXPECT_EQ(kind_of_system_error(code), ErrorKind::kUnable) << code;
  const Result<std::string> nothing = read_file("/nowhere/at all");
  EXPECT_EQ(nothing.error().kind, ErrorKind::kMissing);
  EXPECT_EQ(nothing.error().message, "cannot read /nowhere/at all: No such file or directory");
  EXPECT_EQ(read_file("/").error().kind, ErrorKind::kWrong);  // a folder is no file
  EXPECT_EQ(write_file("/dev/full/x", "").error().kind, ErrorKind::kMissing);
}

TEST(Files, JsonThatIsAnotherFileIsNamed) {
  const fs::path directory = fresh_directory("foreign");
  const fs::path path = directory / "config.json";
  ASSERT_TRUE(write_file(path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n").ok());
  EXPECT_EQ(read_json(path).error().message,
            path.string() +
                " is a Git LFS pointer, not the file itself: `git lfs pull` fetches the "
                "file");
  EXPECT_NE(parse_toml("\xff\xfe"
                       "a",
                       "recipe.toml")
                .error()
                .message.find("UTF-16"),
            std::string::npos);
  ASSERT_TRUE(write_file(path, "{").ok());
  EXPECT_NE(read_json(path).error().message.find("not valid JSON"), std::string::npos);
  fs::remove_all(directory);
}

TEST(Files, WriteIsAtomicAndLeavesNoRemains) {
  const fs::path dir = fresh_directory("files");
  ASSERT_TRUE(write_file(dir / "a", "one").ok());
  ASSERT_TRUE(write_file(dir / "a", "two").ok());
  EXPECT_EQ(*read_file(dir / "a"), "two");
  {
    Result<FileWriter> writer = FileWriter::create(dir / "b");
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->write("half").ok());
  }
  EXPECT_EQ(*list_directory(dir), std::vector<std::string>{"a"});
  EXPECT_EQ(MappedFile::open(dir / "a")->bytes(), "two");
  const Result<std::string> missing = read_file(dir / "none");
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find("No such file"), std::string::npos);
  fs::remove_all(dir);
}

TEST(Files, DirectoryAppearsWhole) {
  const fs::path dir = fresh_directory("dirs");
  {
    Result<DirectoryWriter> writer = DirectoryWriter::create(dir / "kept");
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(write_file(writer->path() / "x", "1").ok());
    EXPECT_FALSE(fs::exists(dir / "kept"));
    ASSERT_TRUE(writer->commit().ok());
  }
  EXPECT_TRUE(fs::exists(dir / "kept" / "x"));
  fs::create_directories(dir / ".tmp-dead-1");
  ASSERT_TRUE(remove_unfinished(dir).ok());
  EXPECT_EQ(*list_directory(dir), std::vector<std::string>{"kept"});
  fs::remove_all(dir);
}

TEST(Config, NamesFileKeyExpectedAndFound) {
  Result<nlohmann::json> value = parse_toml("[model]\nhidden_sise = 4\nlayers = 'x'\n", "r.toml");
  ASSERT_TRUE(value.ok());
  {
    Table table((*value)["model"], "r.toml: [model]");
    table.integer("hidden_size", 8, 1, 100);
    table.string("layers", "");
    const Status status = table.finish();
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().message,
              "r.toml: [model] does not know the key `hidden_sise`; did you mean `hidden_size`?");
  }
  Table table((*value)["model"], "r.toml: [model]");
  table.integer("layers", 8, 1, 100);
  EXPECT_EQ(table.finish(true).error().message,
            "r.toml: [model] `layers` must be an integer from 1 to 100, is \"x\"");
  EXPECT_EQ(parse_toml("a = \n", "r.toml").error().message.substr(0, 9), "r.toml:1:");
  std::string dots = "a";
  for (int i = 0; i < 1000000; ++i) dots += ".a";
  for (const std::string& text :
       {dots + " = 1", "[" + dots + "]", "a = \"\"\"\"\"\"\n" + dots + " = 1",
        "a = '\\' # '\n[[" + dots + "]]", "b = { c = 1, " + dots + " = 2 }"})
    EXPECT_EQ(parse_toml(text, "r.toml").error().message, "r.toml: TOML key of more than 32 parts");
  for (const std::string& text :
       {"a = '" + dots + "'", "a = \"\"\"\n" + dots + "\"\"\"", "# " + dots,
        "a = \"\\\"" + dots + "\"", std::string("a = [0.1, 0.2]")})
    EXPECT_TRUE(parse_toml(text, "r.toml").ok());
}

TEST(Config, HostileJsonIsRefused) {
  EXPECT_FALSE(parse_json(std::string(10000, '['), "x").ok());
  EXPECT_FALSE(parse_json("{\"a\":", "x").ok());
  EXPECT_FALSE(parse_json("", "x").ok());
  EXPECT_TRUE(parse_json("{\"a\": \"[[[[\"}", "x").ok());
}

}  // namespace
}  // namespace naite
