// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: a very small honest run in memory, and a folder where forged ones are verified.
#include "ledger/server_testing.h"
#include "verify/fixture_testing.h"
#include "verify/forgeries_testing.h"
#include "verify/mirror.h"

namespace naite::verify {

struct Judged {
  bool holds = false, contradicted = false, http = false;
  std::string found;                 // the first check that fails, or the error
  std::vector<std::string> differs;  // facts that are others than the honest run's
  std::vector<std::string> allowed;  // the reasons that make them no forgery
  bool missed = false;
};

class Sealed : public Verify {
 protected:
  static void SetUpTestSuite() {
    begin();
    train_small("small");
    honest_ =
        std::make_unique<ForgedRun>(ForgedRun::read(directory_ / "small", directory_ / "keys"));
    honest_->seal_logs();
  }
  static void TearDownTestSuite() {
    honest_.reset();
    Verify::TearDownTestSuite();
  }

  // Two steps of eight numbers a token, with three states.
  static void train_small(const std::string& name, std::vector<std::string> set = {},
                          const std::filesystem::path& from = {}) {
    set.insert(set.begin(),
               {"model.hidden_size=8", "model.num_hidden_layers=1", "model.num_attention_heads=1",
                "model.num_key_value_heads=1", "model.intermediate_size=8",
                "model.tie_word_embeddings=true", "data.sequence_length=16", "data.validation=0.02",
                "train.tokens=64", "train.batch_tokens=32", "train.micro_batch_tokens=32",
                "checkpoint.every=100%", "sample.prompts=[]"});
    train_run(name, set, "50%", -1, "tests/recipes/tiny.toml", from);
  }

  static inline std::unique_ptr<ForgedRun> honest_;
};

// A folder that holds one forged run after the other, and a verifier.
class Bench {
 public:
  Bench(std::filesystem::path directory, const ForgedRun& honest)
      : directory_(std::move(directory)), there_(honest), server_(directory_), pool_(1) {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(run());
    ForgedRun empty = honest;
    empty.files.clear();
    empty.folders.clear();
    empty.ledger.clear();
    honest.write(run(), empty);
    kernels_ = *kernels::make_cpu(pool_, "");
  }

  std::filesystem::path run() const { return directory_ / "run"; }
  std::filesystem::path copy() const { return directory_ / "copy"; }
  void put(const ForgedRun& next) {
    next.write(run(), there_);
    there_ = next;
  }

  // `text`: with the raw text at hand.
  Judged verify(bool http, bool text = false) {
    Judged out;
    out.http = http;
    VerifyRequest request;
    request.run = run();
    request.fail_fast = true;
    request.replay.kind = Selection::Kind::kAll;
    if (text) request.text = ".";
    if (!http) return take(naite::verify::verify(request, *kernels_, pool_), out);
    std::filesystem::remove_all(copy());
    ledger::HttpOptions options;
    Result<Mirror> mirror = Mirror::open(server_.url("/run"), copy(), options, nullptr);
    NAITE_CHECK(mirror.ok());
    request.run = mirror->path();
    request.source = &*mirror;
    return take(naite::verify::verify(request, *kernels_, pool_), out);
  }

 private:
  static Judged take(const Result<Report>& report, Judged& out) {
    out.holds = report.ok() && report->holds();
    out.contradicted = report.ok() && report->answer() == Answer::kContradicted;
    if (!report.ok()) out.found = "error: " + report.error().message;
    if (report.ok())
      for (const Check& check : report->checks)
        if (check.outcome != Outcome::kHolds && check.outcome != Outcome::kOpen &&
            out.found.empty())
          out.found = check.name + ": " + check.detail;
    return out;
  }

  std::filesystem::path directory_;
  ForgedRun there_;
  ledger::TestServer server_;
  ThreadPool pool_;
  std::unique_ptr<kernels::Kernels> kernels_;
};

}  // namespace naite::verify
