// SPDX-License-Identifier: Apache-2.0
#pragma once
// What belongs to the machine and not to the result: machine.toml, overruled by flags. None of it
// changes a bit.
//
//   threads = 8             # default: the processors that the process may use
//   virtual_ranks = 1       # compute as so many machines would
//   recompute = false       # trade time for memory
//   memory_gib = 16         # what a run may take; default: what the system lets it
//   watts = 65              # for the estimate of energy; default: 10 a thread
//   [[witness]]             # cosigns the log's heads, ledger/witness.h; any number of them
//   url = "https://witness.example"
//   vkey = "witness.example+1234abcd+BAb..."
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/base.h"
#include "kernels/kernels.h"
#include "ledger/witness.h"

namespace naite::cmd {

// The program itself, its libraries and small buffers, measured on an idle run.
inline constexpr int64_t kProgramBytes = int64_t{16} << 20;

struct MachineSettings {
  int threads = 0;  // 0: all usable processors
  int virtual_ranks = 1;
  bool recompute = false;
  double memory_gib = 0;  // 0: what the system lets it
  double watts = 0;       // 0: not stated
  std::vector<ledger::Witness> witnesses;

  // `path` empty: machine.toml of the working directory, if there is one.
  static Result<MachineSettings> load(const std::filesystem::path& path);

  int64_t memory_bytes() const;  // of the settings and usable_memory_bytes(), the less
};

// A thread pool and the fastest backend that NAITE_ISA allows.
struct Machine {
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<kernels::Kernels> kernels;
};
Result<Machine> make_machine(int num_threads);

}  // namespace naite::cmd
