// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where a step's time goes: a backend that watches every operation, a table by operation, and a
// trace that chrome://tracing and ui.perfetto.dev open.
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "kernels/observed.h"

namespace naite::cmd {

class Profile {
 public:
  explicit Profile(kernels::Kernels& inner);

  kernels::Kernels& kernels() { return observed_; }
  // Operation, calls, seconds, share of all, GFLOP/s and share of `peak_flops` (0: not known).
  std::string table(double peak_flops) const;
  Status write_trace(const std::filesystem::path& path) const;

 private:
  struct Total {
    int64_t calls = 0;
    double seconds = 0, flops = 0;
  };
  std::vector<kernels::OperationCall> calls_;  // the first kTraceCalls
  std::map<std::string_view, Total> totals_;
  kernels::ObservedKernels observed_;
};

}  // namespace naite::cmd
