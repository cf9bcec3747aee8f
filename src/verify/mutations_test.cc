// SPDX-License-Identifier: Apache-2.0
// Random changes of random files of a published run: flipped bits, cut files, added bytes. Each is
// verified anew from the disk and must be found; none ends the program. The run is as small as a
// run can be that has every kind of file, so that very many changes can be tried.
// NAITE_MUTATIONS sets how many.
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "verify/fixture_testing.h"

namespace naite::verify {
namespace {

namespace fs = std::filesystem;

constexpr int kWorkers = 2;
constexpr uint64_t kSeed = 20261124;

std::vector<fs::path> published_files(const fs::path& run) {
  // What is for people to look at, and not published: naite publish leaves it out.
  const std::set<std::string> outside = {"log.jsonl", "samples.jsonl", ".lock"};
  std::vector<fs::path> out;
  for (const auto& item : fs::recursive_directory_iterator(run)) {
    const std::string name = item.path().filename().string();
    if (item.is_regular_file() && item.file_size() > 0 && !outside.contains(name) &&
        !name.starts_with("events."))
      out.push_back(item.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// Change number `number`, described, of one of the files; `good` and `file` say how to undo it.
struct Change {
  fs::path file;
  std::string good, bad, description;

  Change(const std::vector<fs::path>& files, uint64_t number) {
    auto random = [&](uint64_t bound, uint32_t stream) {
      return random_below(bound, kSeed, Purpose::kSampling, number, stream);
    };
    file = files[random(files.size(), 1)];
    good = bad = *read_file(file);
    const size_t at = random(bad.size(), 2);
    const uint64_t kind = random(4, 3);
    if (kind <= 1) bad[at] = static_cast<char>(bad[at] ^ (1 << random(8, 4)));
    if (kind == 2) bad.resize(at);
    if (kind == 3) bad.insert(at, 1, static_cast<char>(random(256, 4)));
    description = fmt::format("mutation {}: {} kind {} at {}", number, file.string(), kind, at);
  }
  static void write(const fs::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  }
};

class Mutations : public Verify {
 protected:
  static void SetUpTestSuite() {
    begin();
    train_run("small",
              {"model.hidden_size=8", "model.num_hidden_layers=1", "model.num_attention_heads=1",
               "model.num_key_value_heads=1", "model.intermediate_size=8",
               "model.tie_word_embeddings=true", "data.sequence_length=16", "train.tokens=64",
               "train.batch_tokens=32", "train.micro_batch_tokens=32", "checkpoint.every=100%",
               "sample.prompts=[]"},
              "50%");
  }

  static bool holds(const fs::path& run, kernels::Kernels& kernels, ThreadPool& pool) {
    VerifyRequest request;
    request.run = run;
    request.fail_fast = true;
    const Result<Report> report = verify(request, kernels, pool);
    return report.ok() && report->holds();
  }

  // Every kWorkers-th change from number `worker` on, on a copy of its own.
  static void work(int worker, uint64_t count, std::vector<std::string>& missed,
                   std::mutex& mutex) {
    set_float_mode();
    ThreadPool pool(1);
    const std::unique_ptr<kernels::Kernels> kernels = *kernels::make_cpu(pool, "");
    const fs::path copy = directory_ / fmt::format("copy-{}", worker);
    fs::copy(directory_ / "small", copy, fs::copy_options::recursive);
    const std::vector<fs::path> files = published_files(copy);
    for (uint64_t i = static_cast<uint64_t>(worker); i < count; i += kWorkers) {
      const Change change(files, i);
      Change::write(change.file, change.bad);
      if (holds(copy, *kernels, pool)) {
        const std::lock_guard lock(mutex);
        missed.push_back(change.description);
      }
      Change::write(change.file, change.good);
    }
    if (!holds(copy, *kernels, pool)) {
      const std::lock_guard lock(mutex);
      missed.push_back("the run that was not changed");
    }
  }
};

TEST_F(Mutations, RandomMutationsAreFound) {
  const char* wanted = std::getenv("NAITE_MUTATIONS");
  const uint64_t count = wanted == nullptr ? 200 : std::stoull(wanted);
  std::vector<std::string> missed;
  std::mutex mutex;
  std::vector<std::thread> workers;
  for (int worker = 0; worker < kWorkers; ++worker)
    workers.emplace_back([&, worker] { work(worker, count, missed, mutex); });
  for (std::thread& worker : workers) worker.join();
  EXPECT_EQ(missed, std::vector<std::string>{});
}

}  // namespace
}  // namespace naite::verify
