#include "proc/cgroup.h"

#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qp::proc {
namespace {

constexpr const char* kMounts =
    "24 30 0:22 / /proc rw,nosuid - proc proc rw\n"
    "33 32 0:28 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
    "36 32 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "37 32 0:32 /docker/1a /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n";

std::vector<std::string> paths(std::string_view cgroups, std::string_view mounts) {
  std::vector<std::string> out;
  for (const FreezerState& state : freezer_states(cgroups, mounts)) {
    out.push_back(state.path + "=" + state.frozen);
  }
  return out;
}

// Claim: the state of a freezer is looked for where its hierarchy is mounted, of both kinds.
TEST(Cgroup, WhereTheFreezerIs) {
  EXPECT_THAT(paths("9:cpu,cpuacct:/a\n7:freezer:/docker/1a/b\n0::/user.slice/x\n", kMounts),
              testing::ElementsAre("/sys/fs/cgroup/freezer/b/freezer.state=FROZEN",
                                   "/sys/fs/cgroup/unified/user.slice/x/cgroup.events=frozen 1"));
  EXPECT_THAT(paths("7:freezer:/docker/1a\n", kMounts),
              testing::ElementsAre("/sys/fs/cgroup/freezer/freezer.state=FROZEN"));
}

// Claim: where several parts of a hierarchy are mounted, the one that has the group counts.
TEST(Cgroup, WhereOfSeveralMounts) {
  constexpr const char* kParts =
      "36 35 0:28 /docker/1a /a rw - cgroup2 cgroup2 rw\n"
      "37 35 0:28 /docker/1ab /b rw - cgroup2 cgroup2 rw\n"
      "38 35 0:28 / /all rw - cgroup2 cgroup2 rw\n";
  EXPECT_THAT(paths("0::/docker/1a/x\n", kParts),
              testing::ElementsAre("/a/x/cgroup.events=frozen 1"));
  EXPECT_THAT(paths("0::/docker/1ab/x\n", kParts),
              testing::ElementsAre("/b/x/cgroup.events=frozen 1"));
  EXPECT_THAT(paths("0::/docker\n", kParts),
              testing::ElementsAre("/all/docker/cgroup.events=frozen 1"));
}

// Claim: a group that lies outside what is mounted, no mount, and lines that make no sense give no
// place, and no crash.
TEST(Cgroup, NowhereToLook) {
  EXPECT_THAT(paths("7:freezer:/other\n", kMounts), testing::IsEmpty());
  EXPECT_THAT(paths("7:freezer:/docker/1ab/c\n", kMounts), testing::IsEmpty());
  EXPECT_THAT(paths("0::/../other\n", kMounts), testing::IsEmpty());
  EXPECT_THAT(paths("0::/\n", ""), testing::IsEmpty());
  EXPECT_THAT(paths("\n:\n::\n0:", "\n - \n - cgroup\n1 2 3"), testing::IsEmpty());
  EXPECT_THAT(paths("0::/", "1 2 3 / /m rw - cgroup2 x"),
              testing::ElementsAre("/m/cgroup.events=frozen 1"));
}

// Claim: a process that is not frozen is not said to be.
TEST(Cgroup, NotFrozen) {
  EXPECT_EQ(find_freezing_cgroup(::getpid()), std::nullopt);
  EXPECT_NO_THROW(demand_not_frozen(::getpid()));
}

}  // namespace
}  // namespace qp::proc
