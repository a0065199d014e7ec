// Several runs of qpatch on one process at a time: operators have scripts, and scripts overlap.

#include <algorithm>

#include "harness/live_case.h"

namespace qp::live {
namespace {

class Concurrent : public LiveCase {
 protected:
  // `count` runs of the same command at once; their output, with a line "rc=N" for each.
  std::string at_once(int count, const std::string& verb, const std::string& which) {
    const std::string command =
        qpatch_program() + " " + verb + " " + which + " --pid " + std::to_string(victim().pid());
    const std::string script = "for i in $(seq " + std::to_string(count) + "); do { out=$(" +
                               command + " 2>&1); echo \"$out rc=$?\"; } & done; wait";
    return dir().run({"sh", "-c", script}).both();
  }
  static int times(const std::string& text, const std::string& what) {
    int count = 0;
    for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) {
      ++count;
    }
    return count;
  }
};

// Claim: of many applies at once one patches and the others find it applied; of many reverts one
// reverts. None sees the half-done work of another, and the process is as before in the end.
TEST_P(Concurrent, runs_take_turns) {
  prepare();
  const std::string patch = build_patch();
  const Snapshot before = snapshot();
  for (int round = 0; round < 3; ++round) {
    const std::string applied = at_once(5, "apply", patch);
    EXPECT_EQ(times(applied, "rc=0"), 5) << applied;
    EXPECT_EQ(times(applied, "applied already"), 4) << applied;
    expect_answers(victim(), &Probe::after, "after apply");
    const std::string reverted = at_once(5, "revert", only_listed().id);
    EXPECT_EQ(times(reverted, "rc=0"), 1) << reverted;
    EXPECT_EQ(times(reverted, "not applied"), 4) << reverted;
    expect_untouched(before, reverted);
    ASSERT_FALSE(HasFailure());
  }
}

// Claim: recover does not undo what a run that is at work has staged: it waits for its turn.
TEST_P(Concurrent, recover_waits) {
  prepare();
  const std::string patch = build_patch();
  const std::string pid = std::to_string(victim().pid());
  for (int round = 0; round < 5; ++round) {
    const std::string script = "{ " + qpatch_program() + " apply " + patch + " --pid " + pid +
                               "; echo rc=$?; } & for i in $(seq 6); do " + qpatch_program() +
                               " recover --pid " + pid + "; done; wait";
    const std::string said = dir().run({"sh", "-c", script}).both();
    EXPECT_EQ(times(said, "rc=0"), 1) << said;
    EXPECT_EQ(times(said, "recovered"), 0) << said;
    expect_answers(victim(), &Probe::after, "after apply");
    must("revert", only_listed().id);
    ASSERT_FALSE(HasFailure());
  }
}

INSTANTIATE_TEST_SUITE_P(Case, Concurrent, testing::ValuesIn(scenario(QP_CASES, "simple_change")),
                         instance_name);

}  // namespace
}  // namespace qp::live
