// SPDX-License-Identifier: Apache-2.0
// Honest runs made hard, by a seed: stopped and killed anywhere, gone on with otherwise, published
// and followed on the way, branched, grown, averaged, cosigned, moved, read-only, on a full disk.
// Whatever a verifier sees of them, it accuses nobody, and in the end everything holds.
//   NAITE_HONEST=100      how many are tried
//   NAITE_HONEST_SEED=17  only that one, with what was done
#include <sys/mount.h>

#include "ledger/server_testing.h"
#include "tests/process.h"

namespace naite {
namespace {

constexpr int kCount = 4;
constexpr const char* kTinyGrown = R"(
[run]
name = "grown"
[tokenizer]
file = "{}"
[[data.source]]
name = "licence"
path = "LICENSE"
document = "blank_line"
[data]
sequence_length = 32
validation = 0.1
[model]
model_type = "llama"
hidden_size = 48
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 8
intermediate_size = 80
[train]
tokens = 1024
batch_tokens = 256
micro_batch_tokens = 32
[checkpoint]
every = "50%"
)";

class Honest : public Process {
 protected:
  // Numbers that follow from the seed alone.
  uint64_t below(uint64_t bound) {
    return random_below(bound, 20261128, Purpose::kSampling, seed_, ++draws_);
  }
  template <class Items>
  std::string among(const Items& items) {
    return items[below(std::size(items))];
  }

  void note(const std::string& what) { story_ += "; " + what; }

  // What somebody says who looks at the run as it is now.
  void must_not_accuse(const Words& words) {
    const Ended ended = run(words);
    for (const char* accusation : {"FAILS", "contradicted", "not what its log claims"})
      EXPECT_EQ((ended.out + ended.err).find(accusation), std::string::npos)
          << story_ << "\n"
          << ended.out << ended.err;
    EXPECT_NE(ended.exit_code, -1) << story_ << "\n" << ended.err;
  }
  void must_hold(const std::string& directory) {
    const Ended ended = run({"verify", directory, "--all"});
    EXPECT_EQ(ended.exit_code, 0) << story_ << "\n" << ended.out << ended.err;
  }

  Words train_words(const std::string& directory) {
    Words words =
        recipe_ == "averaged" ? train(directory, averaged()) : train(directory, {}, recipe_);
    if (signed_) words = with(words, {"--keys", fresh("keys")});
    words = with(words, {"--set", "checkpoint.autosave_seconds=" + among(std::array{"0", "3600"})});
    words = with(words, {"--threads", among(std::array{"1", "2"})});
    if (!audits_.empty()) words = with(words, {"--set", "checkpoint.audit_every=" + audits_});
    return words;
  }
  static Words averaged() {
    return {"--set", "train.tokens=2560",        "--set", "schedule.kind=wsd",
            "--set", "schedule.decay_ratio=0.5", "--set", "averaging.last=3",
            "--set", "averaging.every=10%"};
  }

  // Part of the training, ended in some way.
  void train_a_while(const std::string& directory) {
    constexpr std::array kPoints = {
        "step",      "checkpoint_begin", "checkpoint_half", "checkpoint_rename", "checkpoint_done",
        "autosave",  "ledger-entries",   "ledger-tile",     "ledger-checkpoint", "ledger-remove",
        "data-pack", "data-manifest"};
    if (below(3) == 0) audits_ = among(std::array{"10%", "20%", "25%", "50%"});
    Words words = train_words(directory);
    switch (below(3)) {
      case 0: {
        const std::string step = fmt::format("{}", below(9));
        note("stopped after step " + step);
        run(with(words, {"--stop-after-step", step}));
        return;
      }
      case 1: {
        const std::string where = fmt::format("{}:{}", among(kPoints), 1 + below(6));
        note("killed at " + where);
        run(words, {"NAITE_KILL_AT=" + where});
        return;
      }
      default: {
        const auto after = static_cast<int64_t>(20 + below(200));
        note(fmt::format("killed after {} ms", after));
        run(words, {}, after);
      }
    }
  }

  // Somebody else sees it as it stands.
  void look(const std::string& directory) {
    if (!fs::exists(directory + "/ledger/checkpoint")) return;
    const Words how = below(2) == 0 ? Words{"--all"} : Words{"--sample", "2"};
    must_not_accuse(with({"verify", directory}, how));
    if (below(2) == 0) return;
    note("published");
    const Ended published = run({"publish", directory, fresh("tree"), "--name", "run"});
    if (published.exit_code != 0 || !fs::exists(fresh("tree") + "/run/ledger/checkpoint")) return;
    must_not_accuse({"verify", fresh("tree") + "/run", "--all"});
    const ledger::TestServer server(fresh("tree"));
    must_not_accuse({"follow", server.url("/run"), fresh("copy"), "--once"});
    if (fs::exists(fresh("copy") + "/ledger/checkpoint"))
      must_not_accuse({"verify", fresh("copy"), "--all"});
    // One server has one address, another one another: a copy is of one.
    fs::remove_all(fresh("copy"));
    must_not_accuse({"verify", server.url("/run"), "--cache", fresh("cache"), "--sample", "2"});
    fs::remove_all(fresh("cache"));
  }

  std::string last_checkpoint(const std::string& directory) {
    return directory + "/checkpoints/" + list_directory(directory + "/checkpoints")->back();
  }

  void cosign(const std::string& directory) {
    note("cosigned");
    EXPECT_EQ(run({"key", "new", fresh("university"), "--name", "university.example"}).exit_code,
              0);
    const Ended ended = run({"key", "cosign", directory, "--keys", fresh("university")});
    EXPECT_EQ(ended.exit_code, 0) << story_ << ended.err;
    must_hold(directory);
  }
  void branch(const std::string& directory) {
    note("branched");
    Words words = train_words(fresh("branch"));
    const std::vector<std::string> names = *list_directory(directory + "/checkpoints");
    const std::string from = directory + "/checkpoints/" + names[below(names.size())];
    EXPECT_EQ(run(with(words, {"--from", from, "--set", "run.name=branch"})).exit_code, 0)
        << story_;
    must_not_accuse({"verify", fresh("branch"), "--all"});
  }
  void grow(const std::string& directory) {
    note("grown");
    const std::string recipe = fresh("grown.toml");
    EXPECT_TRUE(
        write_file(recipe, fmt::format(fmt::runtime(kTinyGrown), directory + "/tokenizer.json"))
            .ok());
    const Ended ended = run({"grow", last_checkpoint(directory), recipe, "--run", fresh("grown")});
    EXPECT_EQ(ended.exit_code, 0) << story_ << ended.err;
    must_not_accuse({"verify", fresh("grown"), "--all"});
  }
  void move(const std::string& directory) {
    note("moved, read-only");
    const std::string other = fresh("another place");
    fs::rename(directory, other);
    for (const auto& item : fs::recursive_directory_iterator(other))
      fs::permissions(item.path(), fs::perms::owner_write, fs::perm_options::remove);
    // For whoever may write anywhere, only a mount forbids it.
    const bool mounted =
        mount(other.c_str(), other.c_str(), nullptr, MS_BIND, nullptr) == 0 &&
        mount(nullptr, other.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0;
    must_hold(other);
    if (mounted) umount(other.c_str());
    for (const auto& item : fs::recursive_directory_iterator(other))
      fs::permissions(item.path(), fs::perms::owner_write, fs::perm_options::add);
    fs::rename(other, directory);
  }

  // A training on a disk that becomes full, and then has room.
  void fill(const std::string& directory) {
    const std::string small = fresh("small");
    fs::create_directories(small);
    const std::string size = fmt::format("size={}k", 400 + 100 * below(8));
    if (mount("tmpfs", small.c_str(), "tmpfs", 0, size.c_str()) != 0) return;
    note("full disk, " + size);
    const std::string inside = small + "/run";
    run(train_words(inside));
    if (fs::exists(inside + "/ledger/checkpoint")) must_not_accuse({"verify", inside, "--all"});
    EXPECT_EQ(mount("tmpfs", small.c_str(), "tmpfs", MS_REMOUNT, "size=64m"), 0);
    EXPECT_EQ(run(train_words(inside)).exit_code, 0) << story_;
    must_hold(inside);
    fs::copy(inside, directory, fs::copy_options::recursive);
    umount(small.c_str());
  }

  void try_one(uint64_t seed) {
    seed_ = seed;
    draws_ = 0;
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    recipe_ = among(std::array{"tiny", "stages", "averaged"});
    signed_ = below(3) != 0;
    audits_.clear();
    story_ = fmt::format("NAITE_HONEST_SEED={}: {}{}", seed, recipe_, signed_ ? ", signed" : "");
    if (signed_) {
      ASSERT_EQ(run({"key", "new", fresh("keys"), "--name", "example.org/team"}).exit_code, 0);
    }
    const std::string directory = fresh("run");
    if (below(8) == 0) fill(directory);
    for (uint64_t i = below(4); i > 0; --i) {
      train_a_while(directory);
      look(directory);
    }
    const Ended ended = run(train_words(directory));
    ASSERT_EQ(ended.exit_code, 0) << story_ << "\n" << ended.err;
    must_hold(directory);
    switch (below(5)) {
      case 0:
        cosign(directory);
        break;
      case 1:
        branch(directory);
        break;
      case 2:
        if (recipe_ == "tiny") grow(directory);
        break;
      case 3:
        move(directory);
        break;
      default:
        look(directory);
    }
  }

  uint64_t seed_ = 0;
  uint32_t draws_ = 0;
  std::string recipe_, audits_, story_;
  bool signed_ = false;
};

TEST_F(Honest, RunsMadeHardAreNotAccused) {
  if (const char* one = std::getenv("NAITE_HONEST_SEED")) {
    try_one(std::stoull(one));
    fmt::print("{}\n", story_);
    return;
  }
  const char* wanted = std::getenv("NAITE_HONEST");
  const uint64_t count = wanted == nullptr ? kCount : std::stoull(wanted);
  for (uint64_t seed = 0; seed < count && !HasFatalFailure(); ++seed) try_one(seed);
}

}  // namespace
}  // namespace naite
