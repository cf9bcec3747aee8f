// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a machine that is shared with others leaves to this process: the processor time and the
// memory of its control groups (version 2, version 1, and both at once), of its resource limits and
// of the machine itself. A group is bound by every group around it, so all of them count.
//
// `root` stands for "/" everywhere: tests give small trees of their own. What is absent or is no
// number sets no limit.
#include <cstdint>
#include <filesystem>
#include <limits>

namespace naite {

// Of the control groups alone; infinity where they set no limit.
struct GroupLimits {
  double processors = std::numeric_limits<double>::infinity();  // processor seconds per second
  double memory_bytes = std::numeric_limits<double>::infinity();
};
GroupLimits group_limits(const std::filesystem::path& root = "/");

// Threads that get a processor each: the processors that the process may run on, cut to the whole
// ones of its groups' quota; at least 1.
int usable_processors(const std::filesystem::path& root = "/");

// Bytes that the process may allocate: the least of the machine's memory, the groups' limits and
// RLIMIT_AS and RLIMIT_DATA.
int64_t usable_memory_bytes(const std::filesystem::path& root = "/");

}  // namespace naite
