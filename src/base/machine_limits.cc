// SPDX-License-Identifier: Apache-2.0
#include "base/machine_limits.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/files.h"

namespace naite {

namespace fs = std::filesystem;

namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) out.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::optional<double> number(std::string_view word) {
  while (!word.empty() && (word.back() == '\n' || word.back() == ' ')) word.remove_suffix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

std::string text_of(const fs::path& path) {
  const Result<std::string> text = read_file(path);
  return text.ok() ? *text : std::string();
}

double limit_of(std::optional<double> value) { return value && *value >= 0 ? *value : kNone; }

// The kernel writes spaces in paths of mountinfo as \040.
std::string unescaped(std::string_view word) {
  std::string out;
  for (size_t i = 0; i < word.size(); ++i) {
    int value = 0;
    const bool octal =
        word[i] == '\\' && i + 4 <= word.size() &&
        std::from_chars(word.data() + i + 1, word.data() + i + 4, value, 8).ec == std::errc();
    out += octal ? static_cast<char>(value) : word[i];
    if (octal) i += 3;
  }
  return out;
}

// Where a hierarchy of groups is mounted, and which of its groups stands at the mount point.
struct Mount {
  fs::path point, group;
};

// Of a controller of version 1, or of version 2 (`controller` empty).
// Format: "ID PARENT DEVICE GROUP POINT OPTIONS [FIELDS] - TYPE SOURCE CONTROLLERS".
std::optional<Mount> find_mount(const fs::path& root, std::string_view controller) {
  const std::string text = text_of(root / "proc/self/mountinfo");
  for (const std::string_view line : split(text, '\n')) {
    const std::vector<std::string_view> words = split(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 6 || words.end() - dash < 4) continue;
    const std::vector<std::string_view> names = split(dash[3], ',');
    const bool here = controller.empty()
                          ? dash[1] == "cgroup2"
                          : dash[1] == "cgroup" &&
                                std::find(names.begin(), names.end(), controller) != names.end();
    if (here) return Mount{unescaped(words[4]), unescaped(words[3])};
  }
  return std::nullopt;
}

// The process's own group in that hierarchy. Format: "ID:CONTROLLERS:GROUP", version 2 with "0::".
std::optional<fs::path> find_group(const fs::path& root, std::string_view controller) {
  const std::string text = text_of(root / "proc/self/cgroup");
  for (const std::string_view line : split(text, '\n')) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::vector<std::string_view> names =
        split(line.substr(first + 1, second - first - 1), ',');
    const bool here = controller.empty()
                          ? names.empty()
                          : std::find(names.begin(), names.end(), controller) != names.end();
    if (here) return fs::path(line.substr(second + 1));
  }
  return std::nullopt;
}

// Directories of the own group and of those around it, the own one first. In a container the path
// of the group may be one that only the host sees: then the mount point is the container's group.
std::vector<fs::path> group_directories(const fs::path& root, std::string_view controller) {
  const std::optional<Mount> mount = find_mount(root, controller);
  const std::optional<fs::path> group = find_group(root, controller);
  if (!mount || !group) return {};
  const fs::path point = root / mount->point.relative_path();
  fs::path below = group->lexically_normal().lexically_relative(mount->group);
  const auto outside = [&] { return below.empty() || below == "." || *below.begin() == ".."; };
  std::vector<fs::path> out;
  for (; !outside(); below = below.parent_path()) out.push_back(point / below);
  out.push_back(point);
  return out;
}

double quota(const fs::path& root) {
  double least = kNone;
  for (const fs::path& directory : group_directories(root, "")) {
    const std::string text = text_of(directory / "cpu.max");  // "QUOTA PERIOD" or "max PERIOD"
    const std::vector<std::string_view> words = split(text, ' ');
    if (words.size() != 2) continue;
    const std::optional<double> time = number(words[0]), period = number(words[1]);
    if (time && period && *time > 0 && *period > 0) least = std::min(least, *time / *period);
  }
  for (const fs::path& directory : group_directories(root, "cpu")) {
    const std::optional<double> time = number(text_of(directory / "cpu.cfs_quota_us"));
    const std::optional<double> period = number(text_of(directory / "cpu.cfs_period_us"));
    if (time && period && *time > 0 && *period > 0) least = std::min(least, *time / *period);
  }
  return least;
}

double group_memory(const fs::path& root) {
  double least = kNone;
  for (const fs::path& directory : group_directories(root, ""))
    least = std::min(least, limit_of(number(text_of(directory / "memory.max"))));
  const std::vector<fs::path> old = group_directories(root, "memory");
  for (const fs::path& directory : old) {
    // Old kernels bind a group by those around it only where this file says so.
    if (directory != old.front() && number(text_of(directory / "memory.use_hierarchy")) == 0.0)
      break;
    least = std::min(least, limit_of(number(text_of(directory / "memory.limit_in_bytes"))));
  }
  if (old.empty()) return least;
  const std::string statistics = text_of(old.front() / "memory.stat");
  for (const std::string_view line : split(statistics, '\n')) {
    constexpr std::string_view kKey = "hierarchical_memory_limit ";
    if (line.starts_with(kKey)) least = std::min(least, limit_of(number(line.substr(kKey.size()))));
  }
  return least;
}

// The processors of the process's affinity mask, which its cpuset bounds.
int affine_processors() {
  for (int bits = 1024; bits <= 1 << 20; bits *= 2) {  // the kernel refuses too short a mask
    cpu_set_t* const set = CPU_ALLOC(bits);
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(bits);
    CPU_ZERO_S(bytes, set);
    const int count = ::sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

double resource_limit(int resource) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0) return kNone;
  return limit.rlim_cur == RLIM_INFINITY ? kNone : static_cast<double>(limit.rlim_cur);
}

}  // namespace

GroupLimits group_limits(const fs::path& root) { return {quota(root), group_memory(root)}; }

int usable_processors(const fs::path& root) {
  const double whole = std::floor(quota(root));
  const int processors = affine_processors();
  return whole < processors ? std::max(1, static_cast<int>(whole)) : processors;
}

int64_t usable_memory_bytes(const fs::path& root) {
  double bytes = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                 static_cast<double>(::sysconf(_SC_PAGE_SIZE));
  for (const double limit :
       {group_memory(root), resource_limit(RLIMIT_AS), resource_limit(RLIMIT_DATA)})
    bytes = std::min(bytes, limit);
  return static_cast<int64_t>(bytes);
}

}  // namespace naite
