// SPDX-License-Identifier: Apache-2.0
// What machines do to the program, with real processes: streams that cannot be written or are
// closed, folders and names that are somebody else's, stops in the middle of something long, kills
// and what is left in the records of a run.
#include <cstring>

#include "tests/process.h"

namespace naite {
namespace {

struct Streams {
  const char *in = "/dev/null", *out = "/dev/null";
  bool closed[3] = {false, false, false};
  int out_descriptor = -1;  // instead of `out`
};

class Machine : public Process {
 protected:
  // The standard error of a started process goes into the file `error`.
  pid_t start(const Words& arguments, const Streams& streams = {}, const Words& environment = {}) {
    error_ = fresh("stderr");
    const pid_t child = fork();
    if (child != 0) return child;
    for (const std::string& item : environment) putenv(strdup(item.c_str()));
    const int flags[3] = {O_RDONLY, O_WRONLY, O_WRONLY | O_CREAT | O_TRUNC};
    const char* const files[3] = {streams.in, streams.out, error_.c_str()};
    for (const int stream : {0, 1, 2}) {
      const int descriptor = open(files[stream], flags[stream], 0644);
      dup2(descriptor, stream);
      if (descriptor > 2) close(descriptor);
    }
    for (const int stream : {0, 1, 2})  // after all are open: else the next one takes its place
      if (streams.closed[stream]) close(stream);
    if (streams.out_descriptor >= 0) dup2(streams.out_descriptor, 1);
    std::vector<char*> argv{strdup(NAITE_BINARY)};
    for (const std::string& item : arguments) argv.push_back(strdup(item.c_str()));
    argv.push_back(nullptr);
    execv(NAITE_BINARY, argv.data());
    _exit(127);
  }

  // The exit code, or 1000 and the signal.
  static int end_of(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  int ended(const Words& arguments, const Streams& streams = {}) {
    return end_of(start(arguments, streams));
  }
  std::string said() const { return *read_file(error_); }

  const std::string& a_run() {
    static std::string path;
    path = fresh("a-run");
    if (!fs::exists(path)) {
      EXPECT_EQ(run(train(path, {"--stop-after-step", "6"})).exit_code, 0);
    }
    return path;
  }
  std::string write(const std::string& name, const std::string& text) {
    EXPECT_TRUE(write_file(fresh(name), text).ok());
    return fresh(name);
  }

  std::string error_;
};

// --- output -------------------------------------------------------------------------------------

TEST_F(Machine, AFullDiskBehindTheOutputIsAnError) {
  std::string lines;
  for (int i = 0; i < 20000; ++i) lines += fmt::format("{} rings\n", i);
  const std::string text = write("lines.txt", lines), ids = write("ids.txt", "72 105\n");
  const std::string recipe = NAITE_SOURCE "/tests/recipes/tiny.toml";
  const std::vector<std::pair<Words, std::string>> commands = {
      {{"--help"}, ""},
      {{"train", "--help"}, ""},
      {{"--version"}, ""},
      {{"--isa-names"}, ""},
      {{"digest", a_run()}, ""},
      {{"digest", a_run(), "--json"}, ""},
      {{"generate", a_run(), "--prompt", "a", "--max-tokens", "3"}, ""},
      {{"data", "inspect", a_run()}, ""},
      {{"data", "inspect", a_run(), "--json"}, ""},
      {{"log", "show", a_run()}, ""},
      {{"log", "check", a_run()}, ""},
      {{"verify", a_run()}, ""},
      {{"verify", a_run(), "--json"}, ""},
      {{"tokenizer", "encode", a_run()}, text},
      {{"tokenizer", "encode", a_run()}, ids},
      {{"tokenizer", "decode", a_run()}, ids},
      {{"tokenizer", "stats", a_run(), text}, ""},
      {{"train", recipe, "--print-config"}, ""},
      {{"train", recipe, "--dry-run"}, ""},
      {{"export", a_run(), "--to", "hf", "--out", fresh("exported")}, ""},
  };
  for (const auto& [command, input] : commands) {
    Streams streams{input.empty() ? "/dev/null" : input.c_str(), "/dev/full"};
    const std::string name = fmt::format("{}", fmt::join(command, " "));
    const int failed = command[0] == "verify" ? 2 : 1;  // its 1 says that the run does not hold
    EXPECT_EQ(ended(command, streams), failed) << name;
    EXPECT_EQ(said(), "naite: cannot write to standard output: No space left on device\n") << name;
    streams.out = "/dev/null";
    streams.closed[1] = true;
    fs::remove_all(fresh("exported"));
    EXPECT_EQ(ended(command, streams), failed) << name << ", closed";
    EXPECT_EQ(said(), "naite: cannot write to standard output: Bad file descriptor\n") << name;
  }
}

TEST_F(Machine, ReadersThatGoAwayEndItQuietly) {
  std::string lines;
  for (int i = 0; i < 100000; ++i) lines += "rings\n";
  const std::string text = write("lines.txt", lines);
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  close(pipes[0]);
  Streams streams{text.c_str()};
  streams.out_descriptor = pipes[1];
  EXPECT_EQ(ended({"tokenizer", "encode", a_run()}, streams), 1000 + SIGPIPE);
  EXPECT_EQ(said(), "");
  EXPECT_EQ(ended({"digest", a_run()}, streams), 1000 + SIGPIPE);
  std::signal(SIGPIPE, SIG_IGN);  // inherited: then it is an error like others
  EXPECT_EQ(ended({"digest", a_run()}, streams), 1);
  EXPECT_EQ(said(), "naite: cannot write to standard output: Broken pipe\n");
  std::signal(SIGPIPE, SIG_DFL);
  close(pipes[1]);
}

TEST_F(Machine, ClosedStreamsGetNothingOfARun) {
  const std::string expected = trained("whole", {});
  for (int closed = 1; closed < 8; ++closed) {
    Streams streams;
    for (const int stream : {0, 1, 2}) streams.closed[stream] = (closed >> stream & 1) != 0;
    const std::string path = fresh(fmt::format("closed{}", closed));
    EXPECT_EQ(ended(train(path), streams), 0) << closed;
    EXPECT_EQ(digest(path), expected) << closed;
    EXPECT_EQ(fs::file_size(path + "/.lock"), 0u) << closed;
    const Ended verified = run({"verify", path});
    EXPECT_EQ(verified.exit_code, 0) << closed << verified.out;
  }
}

TEST_F(Machine, AnInputThatCannotBeReadIsAnError) {
  Streams streams{directory_.c_str(), "/dev/null"};
  EXPECT_EQ(ended({"tokenizer", "encode", a_run()}, streams), 1);
  EXPECT_NE(said().find("cannot read standard input: Is a directory"), std::string::npos) << said();
  streams.in = "/dev/null";
  streams.closed[0] = true;
  EXPECT_EQ(ended({"tokenizer", "decode", a_run()}, streams), 1);
  EXPECT_NE(said().find("cannot read standard input"), std::string::npos) << said();
}

TEST_F(Machine, MemoryThatIsNotThereIsOneLine) {
#ifdef NAITE_SANITIZE
  GTEST_SKIP() << "AddressSanitizer reserves more than any such limit";
#endif
  const rlimit tight{rlim_t{600} << 20, RLIM_INFINITY};
  rlimit before{};
  getrlimit(RLIMIT_AS, &before);
  setrlimit(RLIMIT_AS, &tight);
  const Words big = {"--set", "model.hidden_size=2048", "--set", "model.intermediate_size=8192"};
  const Ended refused = run(train(fresh("big"), big));
  setrlimit(RLIMIT_AS, &before);
  EXPECT_EQ(refused.exit_code, 1) << refused.err;
  EXPECT_NE(refused.err.find("memory"), std::string::npos) << refused.err;
  EXPECT_EQ(std::count(refused.err.begin(), refused.err.end(), '\n'), 1) << refused.err;
}

// --- names and folders --------------------------------------------------------------------------

TEST_F(Machine, NamesThatArePathsAreRefused) {
  const std::string recipe = NAITE_SOURCE "/tests/recipes/tiny.toml";
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("../up"),
        std::string("a/b"), std::string("/abs"), std::string(".hidden"), std::string("-x"),
        std::string("a\\\\b"), std::string("tab\\t"), std::string("nul\\u0000"),
        std::string("del\\u007f"), std::string(129, 'n')}) {
    for (const std::string key : {"run.name", "data.source"}) {
      const std::string value = key == "run.name"
                                    ? fmt::format("\"{}\"", name)
                                    : fmt::format("[{{name = \"{}\", path = \"LICENSE\"}}]", name);
      const Ended refused = run({"train", recipe, "--set", key + "=" + value, "--dry-run"});
      EXPECT_EQ(refused.exit_code, 1) << key << " " << value;
      EXPECT_NE(refused.err.find("`name` must be a name"), std::string::npos) << refused.err;
    }
  }
  for (const std::string name : {"나이테", "a b", "v1.2_x-y"})
    EXPECT_EQ(run({"train", recipe, "--set", "run.name=\"" + name + "\"", "--dry-run"}).exit_code,
              0)
        << name;
}

TEST_F(Machine, AFolderOfOtherThingsIsNoPlaceForARun) {
  write("file", "x");
  const Ended file = run(train(fresh("file")));
  EXPECT_EQ(file.exit_code, 1);
  EXPECT_NE(file.err.find("is no folder"), std::string::npos) << file.err;
  for (const std::string name : {"notes.txt", "recipe.toml", "data/mine.txt"}) {
    const std::string folder = fresh("folder-" + sha256_hex(name).substr(0, 8));
    fs::create_directories(fs::path(folder + "/" + name).parent_path());
    ASSERT_TRUE(write_file(folder + "/" + name, "mine\n").ok());
    const Ended mixed = run(train(folder));
    EXPECT_EQ(mixed.exit_code, 1) << name;
    EXPECT_NE(mixed.err.find("is not empty and is no run"), std::string::npos) << mixed.err;
    EXPECT_EQ(list_directory(folder)->size(), 1u) << name;
  }
  fs::create_directories(fresh("empty"));
  EXPECT_EQ(run(train(fresh("empty"), {"--stop-after-step", "1"})).exit_code, 0);
  fs::remove(fresh("empty") + "/.lock");  // a copy without what begins with a dot
  EXPECT_EQ(run(train(fresh("empty"), {"--stop-after-step", "2"})).exit_code, 0);
}

TEST_F(Machine, ATildeIsTheHomeDirectory) {
  const Words home = {"HOME=" + directory_.string()};
  const Words stop = {"--stop-after-step", "0"};
  const std::string recipe = NAITE_SOURCE "/tests/recipes/tiny.toml";
  ASSERT_EQ(run(with({"train", recipe, "--run=~/at-home"}, stop), home).exit_code, 0);
  EXPECT_TRUE(fs::exists(fresh("at-home/checkpoints")));
  EXPECT_EQ(run({"digest", "~/at-home"}, home).exit_code, 0);
  const Ended other = run(with({"train", recipe, "--run=~nobody/x"}, stop), home);
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_NE(other.err.find("~nobody/x"), std::string::npos) << other.err;
  const Ended source = run(
      {"train", recipe, "--dry-run", "--set", "data.source=[{name = \"s\", path = \"~/corpus\"}]"});
  EXPECT_EQ(source.exit_code, 1);
  EXPECT_NE(source.err.find("`~`"), std::string::npos) << source.err;
}

// --- stops and kills ----------------------------------------------------------------------------

// A step of this takes seconds, its validation longer, on the slowest instruction set.
const Words kSlow = {"--set", "model.hidden_size=96",        "--set", "model.intermediate_size=384",
                     "--set", "train.batch_tokens=1024",     "--set", "train.tokens=3072",
                     "--set", "train.micro_batch_tokens=256"};

// Stops a run each time that it has come a little further, and lets it go on: the bits stay.
TEST_F(Machine, StopsAnywhereLoseNothing) {
  for (const std::string recipe : {"tiny", "tiny-motif"}) {
    const std::string expected = trained("whole-" + recipe, {}, {}, recipe);
    const std::string path = fresh("stopped-" + recipe);
    int stops = 0;
    for (useconds_t wait = 30'000; stops < 200; wait = wait * 9 / 8, ++stops) {
      const pid_t child = start(train(path, {}, recipe));
      usleep(wait);
      kill(child, stops % 2 == 0 ? SIGTERM : SIGINT);
      const int code = end_of(child);
      // Before its handlers are there, a signal ends it as it ends others.
      ASSERT_TRUE(code == 0 || code == 1000 + SIGTERM || code == 1000 + SIGINT) << code << said();
      if (said().find("finished:") != std::string::npos) break;
    }
    EXPECT_EQ(digest(path), expected);
    const Ended verified = run({"verify", path, "--all"});
    EXPECT_EQ(verified.exit_code, 0) << verified.out;
  }
}

// Stopped in the middle of its first validation, whose step must then be measured after all.
TEST_F(Machine, AStopWhileItMeasuresIsMadeUpFor) {
  const Words slow = with(kSlow, {"--set", "checkpoint.every=\"34%\""});
  const std::string expected = trained("whole", slow);
  const std::string path = fresh("stopped");
  for (int stops = 0; stops < 100; ++stops) {
    const pid_t child = start(train(path, slow), {}, {"NAITE_ISA=portable"});
    usleep(static_cast<useconds_t>(100'000 + 50'000 * stops));
    kill(child, SIGTERM);
    ASSERT_NE(end_of(child), 1) << said();
    if (said().find("finished:") != std::string::npos) break;
  }
  EXPECT_EQ(digest(path), expected);
  EXPECT_EQ(list_directory(path + "/checkpoints")->size(),
            list_directory(fresh("whole") + "/checkpoints")->size());
  const Ended verified = run({"verify", path, "--all"});
  EXPECT_EQ(verified.exit_code, 0) << verified.out;
}

// Steps of all scalars of a run's event files, with the number of session starts.
std::pair<std::vector<int64_t>, int> steps_of_events(const std::string& run_directory) {
  std::vector<int64_t> steps;
  int starts = 0;
  const std::vector<std::string> names = *list_directory(run_directory);
  for (const std::string& name : names) {
    if (!name.starts_with("events.out.tfevents.")) continue;
    const std::string file = *read_file(run_directory + "/" + name);
    for (size_t at = 0; at < file.size();) {
      uint64_t bytes = 0;
      std::memcpy(&bytes, &file[at], 8);
      const std::string event = file.substr(at + 12, bytes);
      at += bytes + 16;
      // Nine bytes of time, then the step (all below 128 here), then what it is.
      if (event.find("train/loss") != event.npos) steps.push_back(event[10]);
      starts += event.size() > 11 && event[9] == 0x10 && event[11] == 0x3a;
    }
  }
  return {steps, starts};
}

TEST_F(Machine, EventFilesHaveEachStepOnceAfterKills) {
  const std::string path = fresh("killed");
  const Words rare = {"--set", "checkpoint.autosave_seconds=1e6"};
  std::vector<int64_t> expected(20);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<int64_t>(i) + 1;
  for (const char* at : {"step:4", "step:3", "step:9"})
    EXPECT_EQ(run(train(path, rare), {std::string("NAITE_KILL_AT=") + at}).exit_code, -1);
  // What a kill may leave behind them.
  const std::vector<std::string> names = *list_directory(path);
  for (const std::string& name : names)
    if (name.starts_with("events.out")) {
      EXPECT_TRUE(write_file(path + "/" + name, *read_file(path + "/" + name) + "torn").ok());
    }
  ASSERT_EQ(run(train(path, rare)).exit_code, 0);
  const auto [steps, starts] = steps_of_events(path);
  EXPECT_EQ(steps, expected);
  EXPECT_GE(starts, 2);
}

// --- what may change on the way -----------------------------------------------------------------

// libfaketime under the whole process: every clock, files' times included.
TEST_F(Machine, AClockThatIsWrongHarmsNothing) {
  std::string library;
  for (const fs::directory_entry& folder : fs::directory_iterator("/usr/lib"))
    if (fs::exists(folder.path() / "faketime/libfaketime.so.1"))
      library = folder.path() / "faketime/libfaketime.so.1";
  ASSERT_NE(library, "") << "tools/install_packages brings libfaketime";
  for (const char* time : {"1960-05-17 12:00:00", "2199-12-31 23:59:59"}) {
    const Words clock = {"LD_PRELOAD=" + library, fmt::format("FAKETIME=@{}", time)};
    const std::string path = fresh(fmt::format("run-of-{:.4}", time));
    const Ended begun = run(train(path, {"--stop-after-step", "6"}), clock);
    ASSERT_EQ(begun.exit_code, 0) << time << begun.err;
    for (const Words& environment : {clock, {}})
      EXPECT_EQ(run({"verify", path}, environment).exit_code, 0) << time;
    const Ended resumed = run(train(path, {}));
    ASSERT_EQ(resumed.exit_code, 0) << time << resumed.err;
    const Ended verified = run({"verify", path, "--all"});
    EXPECT_EQ(verified.exit_code, 0) << time << verified.out;
  }
}

TEST_F(Machine, AResumeUnderOtherKeysIsNoForgery) {
  const std::vector<Words> changes = {{"--set", "run.name=\"other\""},
                                      {"--set", "train.max_loss_ratio=9"},
                                      {"--set", "sample.prompts=[\"Licensed\", \"The\"]"},
                                      {"--set", "sample.max_tokens=3"},
                                      {"--set", "checkpoint.every=\"50%\""},
                                      {"--set", "checkpoint.audit_every=\"10%\""},
                                      {"--set", "checkpoint.autosave_seconds=100"}};
  for (const Words& change : changes) {
    const std::string path = fresh(sha256_hex(change[1]).substr(0, 8));
    ASSERT_EQ(run(train(path, {"--stop-after-step", "7"})).exit_code, 0);
    const Ended resumed = run(train(path, change));
    ASSERT_EQ(resumed.exit_code, 0) << change[1] << resumed.err;
    const Ended verified = run({"verify", path, "--all"});
    EXPECT_EQ(verified.exit_code, 0) << change[1] << "\n" << verified.out;
  }
  const std::string path = fresh("measured");
  ASSERT_EQ(run(train(path, {"--stop-after-step", "7"})).exit_code, 0);
  const Ended refused = run(train(path, {"--set", "train.validation_tokens=64"}));
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("validation_tokens"), std::string::npos) << refused.err;
}

TEST_F(Machine, AYoungRunIsNotAccused) {
  const std::string path = fresh("young");
  ASSERT_EQ(run(train(path, {"--stop-after-step", "0"})).exit_code, 0);
  for (const Words& how : {Words{"--sample", "1"}, Words{"--all"}}) {
    const Ended verified = run(with({"verify", path}, how));
    EXPECT_EQ(verified.exit_code, 0) << verified.out;
    EXPECT_NE(verified.out.find("open   replay     nothing to replay yet"), std::string::npos)
        << verified.out;
    EXPECT_EQ(verified.out.find("is not what its log claims"), std::string::npos);
  }
  ASSERT_EQ(run(train(path, {"--stop-after-step", "6"})).exit_code, 0);
  const Ended nowhere = run({"verify", path, "--from", "3", "--to", "4"});
  EXPECT_EQ(nowhere.exit_code, 2);  // the question is wrong, not the run
  EXPECT_NE(nowhere.err.find("no stored states 3 and 4"), std::string::npos) << nowhere.err;
  EXPECT_EQ(nowhere.out, "");
}

}  // namespace
// 0, 1 and 2: it holds, it does not, nobody knows.
TEST_F(Machine, TheAnswersOfVerifyHaveExitCodesOfTheirOwn) {
  const std::string path = fresh("answers");
  ASSERT_EQ(run(train(path, {"--stop-after-step", "2"})).exit_code, 0);
  const auto answer = [&](const Words& more) {
    const Ended ended = run(with({"verify"}, more));
    EXPECT_EQ(ended.out.find("is not what its log claims") != std::string::npos,
              ended.exit_code == 1)
        << ended.out;
    return ended.exit_code;
  };
  EXPECT_EQ(answer({path}), 0);
  const std::string nowhere = fresh("nowhere");
  for (const Words& mistake :
       {Words{nowhere}, Words{directory_.string()}, Words{path, "--policy", nowhere},
        Words{path, "--combine", nowhere}, Words{path, "--text", nowhere},
        Words{path, "--from", "1", "--to", "99"}, Words{path, "--sample", "0"},
        Words{"http://127.0.0.1:1/run", "--cache", fresh("cache")}})
    EXPECT_EQ(answer(mistake), 2) << fmt::format("{}", fmt::join(mistake, " "));
  const Ended followed = run({"follow", "http://127.0.0.1:1/run", fresh("copy"), "--once"});
  EXPECT_EQ(followed.exit_code, 2) << followed.err;
  const std::string shard = path + "/data/00-licence-train-00000.tokens";
  std::string tokens = *read_file(shard);
  tokens[100] ^= 1;
  ASSERT_TRUE(write_file(shard, tokens).ok());
  EXPECT_EQ(answer({path}), 1);
  fs::remove(shard);
  EXPECT_EQ(answer({path}), 1);
}

}  // namespace naite
