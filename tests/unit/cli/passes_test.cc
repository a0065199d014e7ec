#include "cli/passes.h"

#include <gtest/gtest.h>

#include <map>
#include <stdexcept>

#include "base/fd.h"
#include "cli/outcomes.h"

namespace qp::cli {
namespace {

using apply::Outcome;
using apply::Verdict;
using proc::Running;

// Processes without a kernel: who is there, who is patched, and what happens when one is worked on.
class World {
 public:
  std::map<pid_t, Running> there;
  std::set<pid_t> patched;
  std::function<void(pid_t)> during = [](pid_t) {};
  int passes = 0;

  void add(pid_t pid, uint64_t program = 7) {
    there[pid] = {.pid = pid, .start = 1, .stack = program};
  }
  Results run(Looks looks = Looks::UntilSettled) {
    return work_until_settled(
        [&](const std::set<Running>&) {
          ++passes;
          std::vector<Running> out;
          for (const auto& [pid, process] : there) {
            out.push_back(process);
          }
          return out;
        },
        [&](pid_t pid) {
          const bool already = !patched.insert(pid).second;
          during(pid);
          return Outcome{.pid = pid,
                         .verdict = already ? Verdict::AlreadyApplied : Verdict::Patched};
        },
        looks);
  }
};

// Claim: who is forked unpatched while others are worked on is found by a later pass, also its children.
TEST(Passes, ReachThoseThatAppear) {
  World world;
  world.add(10);
  world.during = [&](pid_t pid) {
    if (pid < 13) {
      world.add(pid + 1);
    }
  };
  const Results results = world.run();
  EXPECT_EQ(results.processes.size(), 4U);
  EXPECT_TRUE(results.unsettled.empty());
  EXPECT_EQ(world.patched, (std::set<pid_t>{10, 11, 12, 13}));
}

// Claim: children that inherited the patch do not keep the command going, however many appear.
TEST(Passes, EndWhenOnlyPatchedOnesAppear) {
  World world;
  world.add(10);
  pid_t next = 11;
  world.during = [&](pid_t) {
    world.patched.insert(next);
    world.add(next++);
  };
  const Results results = world.run();
  EXPECT_EQ(world.passes, 2);
  EXPECT_TRUE(results.unsettled.empty());
}

// Claim: if unpatched ones never stop appearing, the command ends and names the last.
TEST(Passes, EndWhenNewOnesNeverStop) {
  World world;
  world.add(10);
  pid_t next = 11;
  world.during = [&](pid_t) { world.add(next++); };
  const Results results = world.run();
  EXPECT_EQ(results.unsettled, (std::vector<pid_t>{next - 2}));
}

// Claim: a command that changes nothing looks once, however many appear meanwhile (qpatch check --all).
TEST(Passes, OneLookWhereNothingIsChanged) {
  World world;
  world.add(10);
  pid_t next = 11;
  world.during = [&](pid_t) { world.add(next++); };
  const Results results = world.run(Looks::Once);
  EXPECT_EQ(world.passes, 1);
  EXPECT_EQ(results.processes.size(), 1U);
  EXPECT_TRUE(results.unsettled.empty());
}

// Claim: a path that no file and no running program has is an error, and not a search that finds
// nothing; one of a file that nobody runs is such a search.
TEST(Passes, MistypedProgram) {
  const auto never = [](pid_t) -> Outcome { throw std::logic_error("nobody to work on"); };
  ProcessSelection selection;
  selection.executable = "/no/such/program";
  try {
    for_each_process(selection, never);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "no-program");
    EXPECT_NE(e.exit_code(), ExitCode::Done);
    EXPECT_EQ(e.on(), "/no/such/program");
  }
  const TempDir directory("qpatch-passes");
  selection.executable = (directory.path() / "program").string();
  write_file(selection.executable, {});
  EXPECT_TRUE(for_each_process(selection, never).processes.empty());
}

// Claim: a process that calls exec after it was patched is worked on again.
TEST(Passes, LookAgainAfterExec) {
  World world;
  world.add(10);
  world.add(11);
  world.during = [&](pid_t pid) {
    if (pid == 11 && world.there[10].stack == 7) {
      world.add(10, 8);
      world.patched.erase(10);
    }
  };
  world.run();
  EXPECT_EQ(world.patched, (std::set<pid_t>{10, 11}));
}

// Claim: one process that can't be worked on is named and does not stop the others; its children are
// found and named too.
TEST(Passes, NameWhoCouldNotBePatched) {
  World world;
  world.add(10);
  world.add(11);
  world.during = [&](pid_t pid) {
    if (pid == 10) {
      world.add(12);
    }
    if (pid != 11) {
      throw Error("unresponsive", "can't stop", "it", "no", ExitCode::Busy);
    }
  };
  const Results results = world.run();
  ASSERT_EQ(results.processes.size(), 3U);
  EXPECT_TRUE(results.processes[0].failure && results.processes[2].failure);
  EXPECT_EQ(results.processes[1].outcome.verdict, Verdict::Patched);
}

}  // namespace
}  // namespace qp::cli
