// SPDX-License-Identifier: Apache-2.0
#include "base/machine_limits.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"

namespace naite {
namespace {

namespace fs = std::filesystem;

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NAITE_ADDRESS_SANITIZER 1
#endif
#endif
#ifdef NAITE_ADDRESS_SANITIZER
constexpr bool kHasShadowMemory = true;
#else
constexpr bool kHasShadowMemory = false;
#endif
constexpr double kNone = std::numeric_limits<double>::infinity();
constexpr const char* kTwo = "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
constexpr const char* kOne =
    "24 1 0:20 / /proc rw - proc proc rw\n"
    "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 30 0:28 / /sys/fs/cgroup/memory rw shared:9 master:2 - cgroup cgroup rw,memory\n";

// A file system with the files that a test writes into it.
class MachineLimits : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / fmt::format("naite-limits-{}", ::getpid());
    fs::remove_all(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void put(const std::string& path, const std::string& text) {
    ASSERT_TRUE(make_directories((root_ / path).parent_path()).ok());
    ASSERT_TRUE(write_file(root_ / path, text).ok());
  }
  void process(const std::string& mounts, const std::string& groups) {
    put("proc/self/mountinfo", mounts);
    put("proc/self/cgroup", groups);
  }
  double processors() const { return group_limits(root_).processors; }
  double memory() const { return group_limits(root_).memory_bytes; }

  fs::path root_;
};

TEST_F(MachineLimits, NothingThereSetsNoLimit) {
  EXPECT_EQ(processors(), kNone);
  EXPECT_EQ(memory(), kNone);
  process(kTwo, "0::/user.slice\n");
  EXPECT_EQ(processors(), kNone);
  EXPECT_EQ(memory(), kNone);
}

TEST_F(MachineLimits, EveryGroupAroundTheOwnOneBindsInVersionTwo) {
  process(kTwo, "0::/a.slice/b.service\n");
  put("sys/fs/cgroup/a.slice/b.service/cpu.max", "max 100000\n");
  put("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n");
  EXPECT_EQ(processors(), kNone);
  EXPECT_EQ(memory(), kNone);
  put("sys/fs/cgroup/a.slice/cpu.max", "150000 100000\n");
  put("sys/fs/cgroup/a.slice/memory.max", "700000000\n");
  EXPECT_EQ(processors(), 1.5);
  EXPECT_EQ(memory(), 7e8);
  put("sys/fs/cgroup/a.slice/b.service/cpu.max", "20000 50000\n");
  put("sys/fs/cgroup/a.slice/b.service/memory.max", "900000000\n");
  EXPECT_EQ(processors(), 0.4);
  EXPECT_EQ(memory(), 7e8);
}

TEST_F(MachineLimits, ANeighbouringGroupDoesNotBind) {
  process(kTwo, "0::/a\n");
  put("sys/fs/cgroup/b/memory.max", "1000\n");
  put("sys/fs/cgroup/a/c/memory.max", "1000\n");
  EXPECT_EQ(memory(), kNone);
}

TEST_F(MachineLimits, VersionOneHasAHierarchyForEachController) {
  process(kOne, "5:memory:/jobs/one\n3:cpu,cpuacct:/jobs/two\n");
  put("sys/fs/cgroup/cpu,cpuacct/jobs/two/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu,cpuacct/jobs/two/cpu.cfs_period_us", "100000\n");
  put("sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(processors(), kNone);
  EXPECT_GT(memory(), 9e18);
  put("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "250000\n");
  put("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000\n");
  put("sys/fs/cgroup/memory/jobs/one/memory.stat",
      "cache 4\nhierarchical_memory_limit 50000\nhierarchical_memsw_limit 3\n");
  EXPECT_EQ(processors(), 2.5);
  EXPECT_EQ(memory(), 5e4);
}

TEST_F(MachineLimits, VersionOneWithoutHierarchyIsBoundByTheOwnGroupAlone) {
  process(kOne, "5:memory:/jobs/one\n");
  put("sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes", "8000\n");
  put("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "4000\n");
  EXPECT_EQ(memory(), 4000);
  put("sys/fs/cgroup/memory/jobs/memory.use_hierarchy", "0\n");
  EXPECT_EQ(memory(), 8000);
}

TEST_F(MachineLimits, BothVersionsAtOnceBindTogether) {
  process(std::string(kOne) + "40 30 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
          "5:memory:/m\n3:cpu,cpuacct:/c\n0::/u\n");
  put("sys/fs/cgroup/memory/m/memory.limit_in_bytes", "8000\n");
  put("sys/fs/cgroup/unified/u/memory.max", "9000\n");
  put("sys/fs/cgroup/unified/u/cpu.max", "300000 100000\n");
  EXPECT_EQ(memory(), 8000);
  EXPECT_EQ(processors(), 3);
}

// A container may see its own group at the mount point, under a path that only the host knows.
TEST_F(MachineLimits, AContainerFindsItsGroupAtTheMountPoint) {
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "6000\n");
  put("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "5000\n");
  const std::string mount = "32 30 0:28 /docker/77 /sys/fs/cgroup/memory rw - cgroup c rw,memory\n";
  process(mount, "5:memory:/docker/77\n");
  EXPECT_EQ(memory(), 6000);
  process(mount, "5:memory:/docker/77/inner\n");
  EXPECT_EQ(memory(), 5000);
  process(mount, "5:memory:/elsewhere/inner\n");
  EXPECT_EQ(memory(), 6000);
  process(mount, "5:memory:/../sibling\n");
  EXPECT_EQ(memory(), 6000);
}

TEST_F(MachineLimits, AMountPointMayHaveASpace) {
  process("30 1 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n", "0::/\n");
  put("my groups/memory.max", "77\n");
  EXPECT_EQ(memory(), 77);
}

TEST_F(MachineLimits, GarbageSetsNoLimit) {
  for (const std::string garbage : {"", "\n", "max", "-5", "12 x", "0x10 100000", "nan nan", "1e",
                                    "100000 0", "0 100000", "-1 100000", "1 2 3", "\xff\xfe"}) {
    process(kTwo, "0::/a\n");
    put("sys/fs/cgroup/a/cpu.max", garbage);
    EXPECT_EQ(processors(), kNone) << garbage;
    put("sys/fs/cgroup/a/memory.max", garbage);
    EXPECT_FALSE(memory() < 0) << garbage;
    process(garbage, "0::/a\n");
    EXPECT_EQ(memory(), kNone) << garbage;
    process(kTwo, garbage);
    EXPECT_EQ(memory(), kNone) << garbage;
  }
}

TEST_F(MachineLimits, ThreadsFollowWholeProcessorsOfTheQuota) {
  process(kTwo, "0::/a\n");
  const int all = usable_processors(root_);
  EXPECT_GE(all, 1);
  put("sys/fs/cgroup/a/cpu.max", "10000 100000\n");
  EXPECT_EQ(usable_processors(root_), 1);
  put("sys/fs/cgroup/a/cpu.max", "190000 100000\n");
  EXPECT_EQ(usable_processors(root_), 1);
  put("sys/fs/cgroup/a/cpu.max", "99900000 100000\n");
  EXPECT_EQ(usable_processors(root_), all);
}

TEST_F(MachineLimits, TheMachineAndTheResourceLimitsBindMemoryToo) {
  process(kTwo, "0::/a\n");
  EXPECT_GT(usable_memory_bytes(root_), 0);
  put("sys/fs/cgroup/a/memory.max", "54321\n");
  EXPECT_EQ(usable_memory_bytes(root_), 54321);
  put("sys/fs/cgroup/a/memory.max", "max\n");
  if (kHasShadowMemory) return;  // which no limit of the process has room for
  const pid_t child = fork();    // a limit of its own, that the test keeps none of
  if (child == 0) {
    const rlimit limit{rlim_t{1} << 30, rlim_t{1} << 30};
    _exit(setrlimit(RLIMIT_DATA, &limit) == 0 && usable_memory_bytes(root_) == (1 << 30) ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace naite
