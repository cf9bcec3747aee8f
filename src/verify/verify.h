// SPDX-License-Identifier: Apache-2.0
#pragma once
// Checks somebody's run: first everything that can be compared (the log, signatures, every file,
// what was planned against what was delivered), then, if asked, by training intervals of it again
// with this program and comparing the whole training state. There is no tolerance: bits are equal
// or the claim is wrong. Nothing of the run is executed, and every byte of it is distrusted.
#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "kernels/kernels.h"
#include "verify/policy.h"
#include "verify/report.h"

namespace naite::verify {

class RunSource;

struct Selection {
  enum class Kind { kNone, kRange, kSample, kAll, kReports } kind = Kind::kNone;
  std::string from, to;               // kRange: names or steps of stored states
  int64_t sample = 0;                 // kSample: how many intervals
  int64_t shard = 1, num_shards = 1;  // kAll: every interval i with i mod num_shards = shard - 1
  std::vector<std::filesystem::path> reports = {};  // kReports: what verifiers signed
};

struct Progress {
  std::string_view phase;
  int64_t done = 0, total = 0;
};

struct VerifyRequest {
  std::filesystem::path run;
  // Brings to `run`, its directory, what a check is about to read; null: everything is there.
  RunSource* source = nullptr;
  Selection replay;
  std::optional<Policy> policy;
  // Where the raw text lies that the recipe's paths name; empty: it is not at hand.
  std::filesystem::path text;
  // Bytes that may be allocated; 0: what the machine leaves to this process.
  int64_t memory_bytes = 0;
  // End at the first check that fails; otherwise all is reported that does not rest on it.
  bool fail_fast = false;
  std::function<void(const Progress&)> progress;
  const std::atomic<bool>* stop = nullptr;
};

// An error only if the verification itself cannot be done; what is wrong with the run is in the
// report.
Result<Report> verify(const VerifyRequest& request, kernels::Kernels& kernels, ThreadPool& pool);

}  // namespace naite::verify
