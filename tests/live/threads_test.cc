// Patching what never stops: threads and signal handlers that call the function all the time.
//
// The detour is five bytes, and a processor that runs through them while they are written could see
// any mixture; a thread that is stopped between two of the old bytes would go on in the middle of
// the jump. Calls in flight must be all old or all new, and neither a signal nor a thread may get
// lost.

#include "harness/live_case.h"

namespace qp::live {
namespace {

// 64 threads that never rest take the machine from each other and from us; how long that may last
// is a matter of bench/, not of this test.
constexpr const char* kOverloaded = "60s";

class ManyThreads : public LiveCase {};
class Signals : public LiveCase {};

// Claim: 64 threads call a function without pause while it is applied and reverted 6 times; each
// call is wholly old or wholly new, and calls that begin after apply are new, after revert old.
TEST_P(ManyThreads, see_old_or_new_and_nothing_else) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  std::string said;  // by any revert: "image kept" is allowed, silence about it is not
  for (int round = 0; round < 6; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    ASSERT_EQ(victim().ask("status"), "old 64 new 0 torn 0");
    must("apply", patch, {"--timeout", kOverloaded});
    ASSERT_FALSE(HasFailure());
    ASSERT_EQ(victim().ask("status"), "old 0 new 64 torn 0");
    said += must("revert", only_listed().id, {"--timeout", kOverloaded}).both();
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(victim().ask("status"), "old 64 new 0 torn 0");
  expect_untouched(before, said);
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: a handler that a timer calls 2000 times a second runs the new code after apply and the old
// code after revert, and the timer goes on.
TEST_P(Signals, reach_new_code) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  // The timer rests for the snapshots: a signal on its way would be a difference.
  const Snapshot before = snapshot();
  ASSERT_EQ(victim().ask("on"), "on");
  CommandResult reverted;
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(victim().ask("wait"), "11");
    must("apply", patch);
    ASSERT_FALSE(HasFailure());
    EXPECT_EQ(victim().ask("wait"), "12");
    reverted = must("revert", only_listed().id);
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(victim().ask("wait"), "11");
  ASSERT_EQ(victim().ask("off"), "off");
  expect_untouched(before, reverted.both());
  EXPECT_EQ(victim().finish(), 0);
}

INSTANTIATE_TEST_SUITE_P(Scenario, ManyThreads,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "many_threads")), instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, Signals, testing::ValuesIn(scenario(QP_SCENARIOS, "signals")),
                         instance_name);

}  // namespace
}  // namespace qp::live
