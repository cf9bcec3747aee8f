// SPDX-License-Identifier: Apache-2.0
// Forgeries at random (verify/forgeries_testing.h), each verified anew from the disk with a replay
// of every interval: what is not found must be the honest run, or another one that is as honest;
// kAllowed says which differences make no forgery. The run is as small as a run can be that has
// every kind of file.
//   NAITE_MUTATIONS=100000   how many are tried
//   NAITE_FORGERY=1234       only that one, and what was found
//   NAITE_FORGERIES=DIR:200  writes so many forged runs into a folder, with verify's answers
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <mutex>
#include <thread>

#include "verify/sealed_testing.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;

constexpr int kWorkers = 2;
constexpr uint64_t kHttpEvery = 20;  // of so many, one is verified over HTTP
#ifdef NAITE_DEBUG
constexpr uint64_t kCount = 500;
#else
constexpr uint64_t kCount = 5000;
#endif

// Differences that make no forgery, by how their facts begin.
struct Allowed {
  const char* fact;
  const char* reason;
};
constexpr Allowed kAllowed[] = {
    {"log word commitment nonce", "another nonce makes another run of the same recipe"},
    {"log word commitment time", "times are the trainer's word"},
    {"log word end time", "times are the trainer's word"},
    {"log word commitment version", "which program trained is the trainer's word"},
    {"log word commitment source_commit", "which program trained is the trainer's word"},
    {"log boundaries", "how steps are put together depends on when a run was killed"},
    {"log heads' other signatures", "what others signed counts by a policy alone"},
    {"runs word", "times are the trainer's word"},
    {"runs other", "a publisher may have other runs"},
    {"runs own end", "it is told after the log's end, or not, if that was killed"},
    {"older tile", "an earlier head's, as the tree has it"},
    {"for people", "nothing commits to it, nothing is read from it, nobody publishes it"},
    {"spelling of recipe.toml", "the same keys and values; the log commits to its bytes"},
    {"spelling of data/manifest.json", "the same keys and values; the log commits to its bytes"},
    {"manifest word", "where the text lay, and how it was packed, is the trainer's word"},
    {"recipe word", "decides no bit and stands in no state"},
};

// Numbers under way, for whoever reads the end of a crash.
std::atomic<uint64_t> under_way[kWorkers];

extern "C" void say_what_crashed(int signal) {
  for (const std::atomic<uint64_t>& number : under_way) {
    char text[] = "forgery under way: 00000000\n";
    uint64_t rest = number;
    for (size_t at = sizeof text - 3; text[at] == '0'; --at, rest /= 10)
      text[at] = static_cast<char>('0' + rest % 10);
    (void)!::write(STDERR_FILENO, text, sizeof text - 1);
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// What all workers found.
struct Tally {
  std::mutex mutex;
  std::map<std::string, int> allowed, found;
  std::vector<std::string> missed;
  int same = 0, held = 0;

  void add(const std::string& description, const Judged& answer) {
    const std::lock_guard lock(mutex);
    if (!answer.holds) {
      ++found[answer.found.substr(0, answer.found.find(':'))];
      return;
    }
    ++held;
    same += answer.differs.empty() ? 1 : 0;
    for (const std::string& reason : answer.allowed) ++allowed[reason];
    if (answer.missed)
      missed.push_back(fmt::format("{}{}: {}", description, answer.http ? " (over HTTP)" : "",
                                   fmt::join(answer.differs, ", ")));
  }
  void print() const {
    fmt::print("held {}, of which {} are the honest run byte for byte\n", held, same);
    for (const auto& [reason, count] : allowed)
      fmt::print("  no forgery: {} ({})\n", reason, count);
    for (const auto& [check, count] : found) fmt::print("  found by {}: {}\n", check, count);
    for (const std::string& one : missed) fmt::print("missed {}\n", one_line(one));
  }
};

class RandomForgeries : public Sealed {
 protected:
  static void SetUpTestSuite() {
    Sealed::SetUpTestSuite();
    facts_ = facts_of(*honest_);
  }

  static std::vector<std::string> differences(const std::map<std::string, std::string>& a,
                                              const std::map<std::string, std::string>& b) {
    std::vector<std::string> out;
    for (const auto& [name, fact] : a)
      if (const auto other = b.find(name); other == b.end() || other->second != fact)
        out.push_back(name);
    for (const auto& [name, fact] : b)
      if (!a.contains(name)) out.push_back(name);
    return out;
  }

  // Whether all of the differences are allowed; the reasons, if so.
  static bool are_allowed(const std::vector<std::string>& differs,
                          std::vector<std::string>& reasons) {
    reasons.clear();
    for (const std::string& fact : differs) {
      const auto* const found =
          std::find_if(std::begin(kAllowed), std::end(kAllowed),
                       [&](const Allowed& allowed) { return fact.starts_with(allowed.fact); });
      if (found == std::end(kAllowed)) return false;
      reasons.emplace_back(found->fact);
    }
    return true;
  }

  // What was verified and held is the honest run, or the same at an earlier time.
  static void judge(const ForgedRun& run, Judged& answer) {
    const std::map<std::string, std::string> facts = facts_of(run);
    answer.differs = differences(facts_, facts);
    if (are_allowed(answer.differs, answer.allowed)) return;
    for (size_t count = honest_->log.entries.size(); count-- > 1;)
      for (const size_t stored : {count, count + 1}) {
        const ForgedRun earlier = honest_->cut(count, stored);
        if (!are_allowed(differences(facts_of(earlier), facts), answer.allowed)) continue;
        answer.allowed.emplace_back(stored == count ? "an earlier time of the run"
                                                    : "a state that is stored and not logged yet");
        return;
      }
    answer.allowed.clear();
    answer.missed = true;
  }

  static Judged answer_of(Bench& bench, const Forgery& forgery, bool http) {
    bench.put(forgery.run);
    Judged answer = bench.verify(http);
    if (!answer.holds) return answer;
    judge(http ? ForgedRun::read(bench.copy(), directory_ / "keys") : forgery.run, answer);
    // What is called declared without the raw text is found with it.
    if (answer.missed && !bench.verify(http, true).holds) {
      answer.missed = false;
      answer.allowed = {"declared, and found with the raw text"};
    }
    return answer;
  }

  static void work(int worker, uint64_t count, Tally& tally) {
    set_float_mode();
    Bench bench(directory_ / fmt::format("bench-{}", worker), *honest_);
    for (uint64_t i = static_cast<uint64_t>(worker); i < count; i += kWorkers) {
      under_way[worker] = i;
      const Forgery forgery = forgery_of(*honest_, i);
      tally.add(forgery.description, answer_of(bench, forgery, i % kHttpEvery == 7));
    }
    for (const bool http : {false, true}) {
      const Judged answer = answer_of(bench, {*honest_, ""}, http);
      EXPECT_TRUE(answer.holds && answer.differs.empty())
          << answer.found << fmt::format("{}", fmt::join(answer.differs, ", "));
    }
  }

  static inline std::map<std::string, std::string> facts_;  // of the honest run
};

TEST_F(RandomForgeries, RandomMutationsAreFound) {
  if (const char* one = std::getenv("NAITE_FORGERY")) {
    Bench bench(directory_ / "bench", *honest_);
    const Forgery forgery = forgery_of(*honest_, std::stoull(one));
    fmt::print("{}\n", forgery.description);
    for (const bool http : {false, true}) {
      const Judged answer = answer_of(bench, forgery, http);
      fmt::print("{}: {} {}{}\n", http ? "over HTTP" : "at hand",
                 answer.holds ? "holds" : "found by", answer.found,
                 fmt::join(answer.differs, ", "));
      EXPECT_FALSE(answer.missed);
    }
    return;
  }
  const char* wanted = std::getenv("NAITE_MUTATIONS");
  const uint64_t count = wanted == nullptr ? kCount : std::stoull(wanted);
  for (const int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE}) std::signal(signal, say_what_crashed);
  Tally tally;
  std::vector<std::thread> workers;
  for (int worker = 0; worker < kWorkers; ++worker)
    workers.emplace_back([&, worker] { work(worker, count, tally); });
  for (std::thread& worker : workers) worker.join();
  for (const int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE}) std::signal(signal, SIG_DFL);
  tally.print();
  EXPECT_EQ(tally.missed.size(), 0u);
#ifndef NAITE_DEBUG
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, 1 << 20) << "KiB";
#endif
}

// For other programs to read: what they load of a run that verify accepts is the honest run.
TEST_F(RandomForgeries, AreWrittenForOthers) {
  const char* wanted = std::getenv("NAITE_FORGERIES");
  if (wanted == nullptr) return;
  const std::string text = wanted;
  const size_t colon = text.rfind(':');
  const fs::path folder = text.substr(0, colon);
  const uint64_t count = std::stoull(text.substr(colon + 1));
  Bench bench(directory_ / "bench", *honest_);
  nlohmann::json answers = nlohmann::json::array();
  fs::create_directories(folder);
  fs::copy(bench.run(), folder / "honest", fs::copy_options::recursive);
  for (uint64_t i = 0, written = 0; written < count; ++i) {
    const Forgery forgery = forgery_of(*honest_, i);
    if (forgery.run.files == honest_->files) continue;  // no other program reads logs
    const Judged answer = answer_of(bench, forgery, false);
    const std::string name = fmt::format("{}", i);
    fs::copy(bench.run(), folder / name, fs::copy_options::recursive);
    answers.push_back({{"name", name},
                       {"description", forgery.description},
                       {"holds", answer.holds},
                       {"found", answer.found}});
    ++written;
  }
  std::ofstream(folder / "answers.json")
      << answers.dump(1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// A run that is under way is the same run with less of it: nobody is accused.
TEST_F(Sealed, EveryPrefixOfALogIsHonest) {
  Bench bench(directory_ / "bench-prefix", *honest_);
  for (size_t count = 1; count < honest_->log.entries.size(); ++count) {
    bench.put(honest_->cut(count));
    for (const bool http : {false, true}) {
      const Judged answer = bench.verify(http);
      EXPECT_FALSE(answer.contradicted)
          << count << " entries" << (http ? ", over HTTP: " : ": ") << answer.found;
    }
  }
}

// What is sealed without a change is the same run.
TEST_F(Sealed, SealingChangesNothing) {
  ForgedRun again = *honest_;
  again.seal();
  EXPECT_EQ(again.files, honest_->files);
  EXPECT_EQ(again.ledger, honest_->ledger);
  for (const auto& [path, text] : honest_->files) {
    if (!path.ends_with(".safetensors")) continue;
    EXPECT_EQ(TensorParts::parse(text).text(), text) << path;
  }
}

}  // namespace
}  // namespace naite::verify
