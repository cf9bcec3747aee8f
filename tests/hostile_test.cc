// SPDX-License-Identifier: Apache-2.0
// What somebody puts into a run's folders, names or log, through the built program: nothing but
// what the signed log has is used, and nothing that is printed obeys anybody else.
#include "ledger/ledger.h"
#include "tests/process.h"

namespace naite {
namespace {

using nlohmann::json;

class Hostile : public Process {
 protected:
  void SetUp() override {
    Process::SetUp();
    ASSERT_EQ(run({"key", "new", fresh("keys"), "--name", "example.org/team"}).exit_code, 0);
  }
  Words keyed(const std::string& name, const Words& more = {}) {
    return train(fresh(name), with({"--keys", fresh("keys")}, more));
  }
  // Another run of the same keys, as good as whole.
  fs::path foreign_state() {
    if (!fs::exists(fresh("foreign"))) {
      EXPECT_EQ(run(keyed("foreign", {"--set", "run.seed=8"})).exit_code, 0);
    }
    return newest(fresh("foreign") + "/checkpoints");
  }
  static fs::path newest(const fs::path& folder) { return folder / list_directory(folder)->back(); }
  static void copy(const fs::path& from, const fs::path& to) {
    fs::remove_all(to);
    fs::create_directories(to.parent_path());
    fs::copy(from, to, fs::copy_options::recursive);
  }
  static Ended refused(const Words& words, const std::string& says, int exit_code = 1) {
    const Ended ended = run(words);
    EXPECT_EQ(ended.exit_code, exit_code) << says << ended.err;
    EXPECT_NE(ended.err.find(says), std::string::npos) << says << ", but: " << ended.err;
    const size_t line = ended.err.rfind("naite: ");  // training says before what it does
    EXPECT_EQ(ended.err.find('\n', line), ended.err.size() - 1) << ended.err;
    return ended;
  }
  // Nothing that a terminal obeys, and every line feed is the program's.
  static void is_plain(const std::string& text) {
    for (const char* bad : {"\x1b", "\r", "\x7f", "\xc2\x9b", "\xe2\x80\xae", "\xe2\x80\x8b",
                            "\xf3\xa0\x81\x81", "\nforged"})
      EXPECT_EQ(text.find(bad), std::string::npos) << text;
    EXPECT_NO_THROW(static_cast<void>(json(text).dump())) << "no UTF-8";
  }
  const std::string paint_ =
      "x\x1b[2J\x1b[1A\r\xc2\x9b"
      "8m\x7f\xe2\x80\xae\xe2\x80\x8b\xf3\xa0\x81\x81\nforged  line";
};

TEST_F(Hostile, AStateThatTheLogDoesNotHaveIsNotUsed) {
  const std::string mine = fresh("mine");
  ASSERT_EQ(run(keyed("mine", {"--stop-after-step", "7"})).exit_code, 0);
  const std::string before = digest(mine);
  EXPECT_EQ(before, digest(newest(mine + "/checkpoints").string()));
  EXPECT_NE(before, digest(newest(mine + "/autosave").string()));
  for (const char* place : {"autosave/step0000000021", "audit/step0000000021",
                            "checkpoints/stage1-step0000000021-tokens0000000000005376"}) {
    const fs::path planted = fs::path(mine) / place;
    copy(foreign_state(), planted);
    EXPECT_EQ(digest(mine), before) << place;
    fs::remove_all(fresh("out"));
    EXPECT_EQ(run({"export", mine, "--to", "hf", "--out", fresh("out")}).exit_code, 0);
    EXPECT_EQ(digest(fresh("out")), before.substr(0, before.find('\n') + 1)) << place;
    const Ended verified = run({"verify", mine});
    EXPECT_EQ(verified.exit_code, 1) << place;
    EXPECT_NE(verified.out.find("step0000000021"), std::string::npos) << verified.out;
    EXPECT_EQ(run({"key", "cosign", mine, "--keys", fresh("keys")}).exit_code, 1)
        << "their own key signed them already";
    EXPECT_FALSE(fs::exists(planted / "cosignatures"));
    fs::remove_all(planted);
    fs::remove_all(planted.parent_path().filename() == "audit" ? planted.parent_path() : planted);
  }
  EXPECT_EQ(run({"verify", mine}).exit_code, 0);
}

TEST_F(Hostile, TrainingGoesOnFromItsOwnStatesOnly) {
  ASSERT_EQ(run(keyed("whole")).exit_code, 0);
  const std::string expected = digest(fresh("whole"));
  const std::string mine = fresh("mine");
  ASSERT_EQ(run(keyed("mine", {"--stop-after-step", "7"})).exit_code, 0);
  const fs::path own = newest(mine + "/autosave");
  copy(own, fresh("kept"));
  // Of another run of the same keys, under its own name and under this one's.
  ASSERT_EQ(run(keyed("other", {"--set", "run.seed=8", "--stop-after-step", "7"})).exit_code, 0);
  const fs::path planted = fs::path(mine) / "autosave/step0000000008";
  for (const fs::path& from : {foreign_state(), newest(fresh("other") + "/autosave")}) {
    copy(from, planted);
    refused(keyed("mine"), planted.string() + " was not stored by this run");
    fs::remove_all(planted);
    copy(from, own);
    refused(keyed("mine"), own.string() + " was not stored by this run");
    copy(fresh("kept"), own);
  }
  // Its own, but changed: what is not signed by name, and what is not as its record says.
  copy(fresh("kept"), planted);
  refused(keyed("mine"), "is another state or another log");
  fs::remove_all(planted);
  ASSERT_TRUE(write_file(own / "record.json", *read_file(own / "record.json") + " ").ok());
  refused(keyed("mine"), "was not stored by this run");
  copy(fresh("kept"), own);
  std::string weights = *read_file(own / "model.safetensors");
  weights[weights.size() - 5] ^= 1;
  ASSERT_TRUE(write_file(own / "model.safetensors", weights).ok());
  EXPECT_NE(run(keyed("mine")).err.find("model.safetensors is damaged"), std::string::npos);
  copy(fresh("kept"), own);
  // A foreign checkpoint or audit state that no log has is passed over.
  copy(foreign_state(), fs::path(mine) / "audit/step0000000019");
  const Ended resumed = run(keyed("mine"));
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("audit/step0000000019 is not in the log and is not used"),
            std::string::npos)
      << resumed.err;
  EXPECT_EQ(digest(mine), expected);
  fs::remove_all(fs::path(mine) / "audit");
  EXPECT_EQ(run({"verify", mine, "--all"}).exit_code, 0);
}

TEST_F(Hostile, AStateWithOtherFilesThanTheLogHasIsNamed) {
  const std::string mine = fresh("mine");
  ASSERT_EQ(run(keyed("mine")).exit_code, 0);
  const fs::path last = newest(mine + "/checkpoints");
  copy(last, fresh("kept"));
  const Words uses[] = {{"generate", mine, "--prompt", "a"},
                        {"digest", mine},
                        {"export", mine, "--to", "gguf", "--out", fresh("out")},
                        {"import", mine, "--out", fresh("out")},
                        {"key", "cosign", mine, "--keys", fresh("keys")},
                        train(fresh("branch"), {"--from", mine})};
  const std::string says = last.string() + " does not hold the files that the log has for it";
  copy(foreign_state(), last);
  for (const Words& words : uses) refused(words, says);
  copy(fresh("kept"), last);
  ASSERT_TRUE(write_file(last / "adapter_model.safetensors", "x").ok());
  for (const Words& words : uses) refused(words, says);
  copy(fresh("kept"), last);
  std::string config = *read_file(last / "config.json");
  ASSERT_TRUE(write_file(last / "config.json", config + " ").ok());
  for (const Words& words : uses) refused(words, "config.json is damaged");
  // Named itself, a checkpoint is what its record says.
  refused({"generate", last.string(), "--prompt", "a"}, "config.json is damaged");
  fs::remove_all(last);  // as in a copy that is on its way: the one before it is the newest
  EXPECT_EQ(digest(mine), digest(newest(mine + "/checkpoints").string()));
}

TEST_F(Hostile, ACopyWithoutKeysOrWithoutALog) {
  const std::string mine = fresh("mine");
  ASSERT_EQ(run(train(mine)).exit_code, 0);
  const std::string expected = digest(mine);
  fs::remove(mine + "/.run-key");
  EXPECT_EQ(digest(mine), expected);
  EXPECT_EQ(run({"generate", mine, "--prompt", "a", "--max-tokens", "2"}).exit_code, 0);
  ASSERT_EQ(run({"publish", mine, fresh("tree"), "--name", "it"}).exit_code, 0);
  EXPECT_EQ(digest(fresh("tree") + "/it"), expected);
  const std::string checkpoint = newest(mine + "/checkpoints").string();
  fs::rename(mine + "/ledger", fresh("ledger"));
  for (const Words& words : {Words{"generate", mine, "--prompt", "a"}, Words{"digest", mine},
                             Words{"key", "cosign", mine, "--keys", fresh("keys")}})
    refused(words, "has no signed log that says which states are its own");
  refused(train(mine), "has states, but no log that says which of them are its own");
  EXPECT_EQ(digest(checkpoint), expected);
  EXPECT_EQ(run({"data", "inspect", mine}).exit_code, 0);
  fs::rename(fresh("ledger"), mine + "/ledger");
  json manifest = json::parse(*read_file(mine + "/data/manifest.json"));
  manifest["sources"][0]["license"] = "CC0-1.0";
  ASSERT_TRUE(write_file(mine + "/data/manifest.json", manifest.dump()).ok());
  refused({"data", "inspect", mine}, "manifest.json is not the file that the log commits to");
  const std::string tokenizer = mine + "/tokenizer.json";
  ASSERT_TRUE(write_file(tokenizer, *read_file(tokenizer) + " ").ok());
  refused({"tokenizer", "encode", mine}, "tokenizer.json is not the file that the log commits to");
}

TEST_F(Hostile, WhatIsPrintedObeysNobodyElse) {
  const std::string mine = fresh("mine");
  ASSERT_EQ(run(train(mine)).exit_code, 0);
  std::string name = paint_;
  std::replace(name.begin(), name.end(), '/', '_');
  fs::create_directory(fs::path(mine) / "checkpoints" / name);
  fs::create_directory(fs::path(mine) / "checkpoints" / "\xff\xfe");
  const Ended verified = run({"verify", mine});
  EXPECT_EQ(verified.exit_code, 1);
  is_plain(verified.out + verified.err);
  const Ended as_json = run({"verify", mine, "--json"});
  EXPECT_EQ(as_json.exit_code, 1) << as_json.err;
  is_plain(as_json.out);
  EXPECT_FALSE(json::parse(as_json.out)["holds"].get<bool>());
  fs::rename(mine, fresh("") + paint_);
  for (const Words& words :
       {Words{"digest", fresh("") + paint_, "--json"}, Words{"verify", fresh("") + paint_},
        Words{"verify", fresh("") + paint_, "--json"}, Words{"data", "inspect", fresh(paint_)},
        Words{"generate", fresh(paint_) + "/none", "--prompt", "a"}, Words{"train", paint_},
        Words{paint_}, Words{"verify", "\xff", "--json"}, Words{"log", "show", fresh(paint_)}}) {
    const Ended ended = run(words);
    is_plain(ended.out + ended.err);
  }
}

// Anybody may have written a log: an entry of another form than a run's is shown as it stands, or
// refused in one line.
TEST_F(Hostile, ALogOfOtherEntriesBreaksNothing) {
  const json entries[] = {{{"type", "commitment"}, {"steps", "x"}},
                          {{"type", "commitment"}, {"architecture", 1}},
                          {{"type", "seed"}, {"seed", json::object()}},
                          {{"type", "initial"}, {"tensors", 3}, {"total", "all"}},
                          {{"type", "steps"}, {"first", 1}},
                          {{"type", "steps"}, {"first", 1e300}, {"steps", json::array()}},
                          {{"type", "state"}, {"step", json::array()}, {"directory", 7}},
                          {{"type", "amendment"}, {"step", nullptr}, {"changes", 1}},
                          {{"type", "run"}, {"origin", paint_}},
                          {{"type", paint_}},
                          json::array({paint_})};
  const ledger::Signer signer = *ledger::Signer::make("example.org/odd");
  for (const json& entry : entries) {
    const std::string place = fresh("odd");
    fs::remove_all(place);
    fs::create_directories(place);
    ledger::LogWriter log = *ledger::LogWriter::open(place, signer);
    ASSERT_TRUE(log.append({*ledger::canonical_json(entry)}).ok());
    ASSERT_TRUE(write_file(place + "/vkey", signer.verifier().vkey() + "\n").ok());
    const Ended shown = run({"log", "show", place});
    is_plain(shown.out + shown.err);
    EXPECT_EQ(std::count(shown.out.begin(), shown.out.end(), '\n'), shown.exit_code == 0 ? 2 : 1)
        << shown.out << shown.err;
    const Ended as_json = run({"log", "show", place, "--json"});
    EXPECT_EQ(as_json.exit_code, 0) << as_json.err;
    is_plain(as_json.out);
    EXPECT_EQ(json::parse(as_json.out), entry);
  }
}

TEST_F(Hostile, ATerminalIsShownWhatAModelWrites) {
  const std::string mine = fresh("mine");
  ASSERT_EQ(run(train(mine, {"--stop-after-step", "0"})).exit_code, 0);
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  ASSERT_TRUE(grantpt(terminal) == 0 && unlockpt(terminal) == 0);
  const std::string name = ptsname(terminal);
  const int kept_open = open(name.c_str(), O_RDWR | O_NOCTTY);
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(name.c_str(), O_RDWR | O_NOCTTY), STDOUT_FILENO);
    execl(NAITE_BINARY, NAITE_BINARY, "generate", mine.c_str(), "--prompt", "a\x1b[8mb\xc2\x9b",
          "--max-tokens", "8", nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  std::string shown(1 << 12, '\0');
  shown.resize(static_cast<size_t>(std::max<ssize_t>(0, read(terminal, shown.data(), 1 << 12))));
  EXPECT_TRUE(shown.starts_with("a\\x1b[8mb\\u{9b}")) << shown;
  EXPECT_EQ(shown.find('\x1b'), std::string::npos) << shown;
  close(kept_open);
  close(terminal);
}

// What a program takes is what was made, byte for byte.
TEST_F(Hostile, ATextThatAProgramTakesStaysAsItIs) {
  const std::string mine = fresh("mine");
  ASSERT_EQ(run(train(mine, {"--stop-after-step", "0"})).exit_code, 0);
  const std::string prompt = "\x1b[8m\xe2\x80\xae\r\n";
  const Ended ended = run({"generate", mine, "--prompt", prompt, "--max-tokens", "1"});
  EXPECT_TRUE(ended.out.starts_with(prompt)) << ended.out << ended.err;
}

}  // namespace
}  // namespace naite
