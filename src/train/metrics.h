// SPDX-License-Identifier: Apache-2.0
#pragma once
// The loss curves of a run, for people to look at: log.jsonl and samples.jsonl, one JSON object a
// line, and TensorBoard events. Nothing commits to them. A step stands in them once: whoever goes
// on from a state cuts off what came after it.
#include <deque>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "formats/record.h"
#include "formats/tfevents.h"

namespace naite::train {

struct StepReport {
  int64_t step = 0, total_steps = 0;  // steps done
  int64_t tokens = 0;
  double loss = 0, learning_rate = 0, grad_norm = 0;
  double tokens_per_second = 0;
  double mfu = 0;  // model FLOPs over the measured peak; 0: no peak was measured
  double seconds_left = 0;
};

struct ValidationReport {
  int64_t step = 0, tokens = 0;
  std::vector<std::pair<std::string, formats::Measured>> sources;  // held-out text, by its name
  std::vector<std::pair<std::string, std::string>> samples;        // prompt; it and what follows
  std::string checkpoint;                                          // the directory's name
};

class Metrics {
 public:
  static Result<Metrics> open(std::filesystem::path run);

  // Cuts off what is beyond `step`, and a torn last line.
  Status rewind(int64_t step);
  // The losses of the last steps, at most `count`, oldest first.
  Result<std::deque<double>> recent_losses(size_t count) const;

  Status step(const StepReport& report);
  Status validation(const ValidationReport& report);

 private:
  Metrics(std::filesystem::path run, formats::EventWriter events)
      : run_(std::move(run)), events_(std::move(events)) {}
  Status append(const char* file, const nlohmann::json& line) const;

  std::filesystem::path run_;
  formats::EventWriter events_;
};

}  // namespace naite::train
