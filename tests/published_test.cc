// SPDX-License-Identifier: Apache-2.0
// Publishing, following and verifying with real processes: a web server that many people have,
// SIGKILL at chosen and at random moments.
#include <algorithm>
#include <sstream>

#include "tests/process.h"

namespace naite {
namespace {

// A process in the background with its output in files; stopped at the end at the latest.
class Background {
 public:
  Background(const Words& words, const fs::path& out) {
    child_ = fork();
    if (child_ != 0) return;
    freopen(out.c_str(), "w", stdout);
    freopen((out.string() + ".err").c_str(), "w", stderr);
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(strdup(word.c_str()));
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  ~Background() {
    if (child_ <= 0) return;
    kill(child_, SIGTERM);
    wait();
  }
  int wait() {
    int status = 0;
    waitpid(child_, &status, 0);
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void signal(int number) const { kill(child_, number); }

 private:
  pid_t child_ = -1;
};

class PublishedProcess : public Process {
 protected:
  void SetUp() override {
    Process::SetUp();
    ASSERT_EQ(run({"key", "new", fresh("keys"), "--name", "example.org/team"}).exit_code, 0);
    fs::create_directories(directory_ / "tree");
  }
  void train_until(const std::string& step) {
    Words more = {"--keys", fresh("keys"), "--set", "checkpoint.audit_every=10%"};
    if (!step.empty()) more = with(more, {"--stop-after-step", step});
    const Ended ended = run(train(fresh("run"), more));
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
  }
  // Python's server, which knows no ranges.
  std::string serve() {
    server_.emplace(Words{"python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1",
                          "--directory", fresh("tree")},
                    fresh("server"));
    for (;;) {
      const std::string said =
          *read_file(fs::exists(fresh("server")) ? fresh("server") : "/dev/null");
      if (const size_t at = said.find("(http://"); said.find(')') != std::string::npos)
        return said.substr(at + 1, said.find("/)") - at - 1) + "/run";
      usleep(10'000);
    }
  }
  void holds(const std::string& what, const Words& more = {}) {
    const Ended ended = run(with({"verify", what, "--threads", "1"}, more));
    EXPECT_EQ(ended.exit_code, 0) << what << ended.out << ended.err;
  }
  static std::map<std::string, std::string> content_of(const fs::path& directory) {
    std::map<std::string, std::string> out;
    for (const auto& item : fs::recursive_directory_iterator(directory))
      if (item.is_regular_file())
        out[item.path().lexically_relative(directory).string()] = *sha256_file(item.path());
    return out;
  }
  std::optional<Background> server_;
};

TEST_F(PublishedProcess, PublishedWhileItTrainsFollowedAndVerified) {
  train_until("5");
  Background publishing(
      {NAITE_BINARY, "publish", fresh("run"), fresh("tree"), "--watch", "--interval", "0.1"},
      fresh("publish"));
  while (!fs::exists(fresh("tree") + "/run/ledger/checkpoint")) usleep(10'000);
  const std::string url = serve();
  Background following({NAITE_BINARY, "follow", url, fresh("copy"), "--interval", "0.1", "--json"},
                       fresh("follow"));
  train_until("");
  EXPECT_EQ(publishing.wait(), 0) << *read_file(fresh("publish.err"));
  EXPECT_EQ(following.wait(), 0) << *read_file(fresh("follow.err"));
  std::istringstream lines(*read_file(fresh("follow")));
  std::vector<int64_t> steps;
  nlohmann::json last;
  for (std::string line; std::getline(lines, line);) {
    last = nlohmann::json::parse(line);
    if (last.contains("checkpoint")) steps.push_back(last["step"]);
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{0, 5, 10, 15, 20}));
  EXPECT_EQ(last["outcome"], "ended");
  holds(fresh("copy"), {"--all"});
  holds(url, {"--cache", fresh("cache"), "--sample", "3"});
  EXPECT_EQ(digest(fresh("copy")), digest(fresh("run")));
  const Ended said = run({"generate", fresh("copy"), "--prompt", "You may", "--max-tokens", "3"});
  EXPECT_EQ(said.exit_code, 0) << said.err;
  // What is not there contradicts nobody.
  const Ended nothing = run({"verify", url + "-not", "--cache", fresh("nothing")});
  EXPECT_EQ(nothing.exit_code, 2);
  EXPECT_NE(nothing.out.find("404"), std::string::npos) << nothing.out << nothing.err;
}

TEST_F(PublishedProcess, KilledPublishingLeavesATreeThatVerifiesAndGoesOn) {
  train_until("");
  const Words words = {"publish", fresh("run"), fresh("tree")};
  const auto published = [&](const Words& environment, int64_t kill_after_ms) {
    const Ended ended = run(words, environment, kill_after_ms);
    EXPECT_EQ(ended.err, "");
    if (fs::exists(fresh("tree") + "/run/ledger/checkpoint")) holds(fresh("tree") + "/run");
    return ended.exit_code;
  };
  for (const char* point :
       {"publish-shard:1", "publish-link:1", "publish-link:12", "publish-state:1",
        "publish-state:4", "publish-file:2", "publish-file:6", "publish-file:1"})
    EXPECT_EQ(published({fmt::format("NAITE_KILL_AT={}", point)}, -1), -1) << point;
  EXPECT_EQ(published({}, -1), 0);
  const auto whole = content_of(fresh("tree"));
  for (const int64_t milliseconds : {3, 10, 20, 35, 60, 100, 150}) {
    fs::remove_all(fresh("tree"));
    published({}, milliseconds);
    published({}, milliseconds / 2);
    EXPECT_EQ(published({}, -1), 0);
    EXPECT_EQ(content_of(fresh("tree")), whole) << milliseconds;
  }
}

TEST_F(PublishedProcess, KilledFollowingGoesOn) {
  train_until("");
  ASSERT_EQ(run({"publish", fresh("run"), fresh("tree")}).exit_code, 0);
  const std::string url = serve();
  const Words words = {"follow", url, fresh("copy"), "--once"};
  for (const char* point : {"mirror-tile:1", "mirror-tile:2", "mirror-file:1", "mirror-file:6",
                            "mirror-state-file:3", "mirror-state:1", "mirror-state:3"})
    EXPECT_EQ(run(words, {fmt::format("NAITE_KILL_AT={}", point)}).exit_code, -1) << point;
  const auto finish = [&] {
    const Ended ended = run(words);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    holds(fresh("copy"));
    for (const auto& [file, digest] : content_of(fresh("tree") + "/run"))
      EXPECT_EQ(*sha256_file(fresh("copy") + "/" + file), digest) << file;
  };
  finish();
  for (const int64_t milliseconds : {5, 50, 140}) {
    fs::remove_all(fresh("copy"));
    run(words, {}, milliseconds);
    run(words, {}, milliseconds * 3 / 4);
    finish();
  }
}

}  // namespace
}  // namespace naite
