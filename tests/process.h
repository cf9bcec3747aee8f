// SPDX-License-Identifier: Apache-2.0
#pragma once
// Real processes of the built program for tests, and a fixture with a directory of their own.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/base.h"

namespace naite {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

struct Ended {
  int exit_code = -1;  // -1: killed by a signal
  std::string out, err;
  int64_t peak_bytes = 0;
};

// Runs naite with arguments and environment ("NAME=value"). kill_after_ms >= 0: SIGKILL after that.
inline Ended run(const Words& arguments, const Words& environment = {},
                 int64_t kill_after_ms = -1) {
  static int counter = 0;
  const fs::path out = fs::temp_directory_path() / fmt::format("naite-{}-{}", getpid(), ++counter);
  for (const char* stream : {".out", ".err"})  // the child may be killed before it opens them
    NAITE_CHECK(write_file(out.string() + stream, "").ok());
  const pid_t child = fork();
  if (child == 0) {
    for (const std::string& item : environment) putenv(strdup(item.c_str()));
    freopen((out.string() + ".out").c_str(), "w", stdout);
    freopen((out.string() + ".err").c_str(), "w", stderr);
    std::vector<char*> argv{strdup(NAITE_BINARY)};
    for (const std::string& item : arguments) argv.push_back(strdup(item.c_str()));
    argv.push_back(nullptr);
    execv(NAITE_BINARY, argv.data());
    _exit(127);
  }
  if (kill_after_ms >= 0) {
    usleep(static_cast<useconds_t>(kill_after_ms * 1000));
    kill(child, SIGKILL);
  }
  int status = 0;
  rusage usage{};
  wait4(child, &status, 0, &usage);
  Ended ended;
  if (WIFEXITED(status)) ended.exit_code = WEXITSTATUS(status);
  ended.out = *read_file(out.string() + ".out");
  ended.err = *read_file(out.string() + ".err");
  ended.peak_bytes = int64_t{1024} * usage.ru_maxrss;
  fs::remove(out.string() + ".out");
  fs::remove(out.string() + ".err");
  return ended;
}

inline Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

class Process : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / fmt::format("naite-process-{}", getpid());
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string fresh(const std::string& name) { return (directory_ / name).string(); }

  static Words train(const std::string& run_directory, const Words& more = {},
                     const std::string& recipe = "tiny") {
    const std::string path = NAITE_SOURCE "/tests/recipes/" + recipe + ".toml";
    return with({"train", path, "--run", run_directory}, more);
  }
  static std::string digest(const std::string& run_directory) {
    const Ended ended = run({"digest", run_directory});
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    return ended.out;
  }
  // Trains to the end in a fresh directory and gives the digest.
  std::string trained(const std::string& name, const Words& more, const Words& environment = {},
                      const std::string& recipe = "tiny") {
    const Ended ended = run(train(fresh(name), more, recipe), environment);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    return digest(fresh(name));
  }

  // The public key of a directory of keys, or of a run's log.
  static std::string vkey_of(const fs::path& directory) {
    const fs::path run_key = directory / "ledger" / "vkey";
    std::string vkey = *read_file(fs::exists(run_key) ? run_key : directory / "log.vkey");
    vkey.pop_back();
    return vkey;
  }

  fs::path directory_;
};

}  // namespace naite
