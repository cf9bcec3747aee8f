// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a run will take, before step 1: size, steps, exact memory, time and energy; and, where it
// does not fit, the settings that would make it fit.
#include <string>

#include "cmd/machine.h"
#include "train/plan.h"

namespace naite::cmd {

struct Cost {
  int64_t parameters = 0, active_parameters = 0, tokens = 0, steps = 0, checkpoints = 0;
  double flops = 0;          // of forward and backward
  double update_flops = 0;   // of the optimizer
  train::MemoryPlan memory;  // of the stage that takes most
  int64_t memory_total() const;
};

Result<Cost> cost_of(const train::Curriculum& curriculum, const train::EngineOptions& options,
                     const kernels::Kernels& kernels);

// The report of --dry-run.
Status print_cost(const train::Curriculum& curriculum, const MachineSettings& settings,
                  Machine& machine);

// Fails with advice where the run needs more memory than there is.
Status check_memory(const train::Curriculum& curriculum, const MachineSettings& settings,
                    const kernels::Kernels& kernels);

}  // namespace naite::cmd
