// A patch takes the place of another one, and a step of that fails, or qpatch dies at it. The victim
// is that of tests/live/superseded_test.cc: first() counts its calls in a variable that both patches have,
// and tells by the last digits which of them it is from.

#include <csignal>

#include "base/fault.h"
#include "harness/fault_point.h"
#include "harness/live_case.h"

namespace qp::live {
namespace {

class Takeover : public LiveCase {
 protected:
  void SetUp() override {
    LiveCase::SetUp();
    prepare();
    first_ = build_patch();
    second_ = build_patch(dir().path() / "second.patch", "second.qp", {"--supersedes", first_});
    before_ = snapshot();
  }
  // The first one is there, and has counted to one.
  void start() {
    must("apply", first_);
    calls_ = 0;
    expect_patch("012");
    first_id_ = only_listed().id;
    with_first_ = snapshot();
  }
  // first() is of one of the patches, as the last digits say, and goes on counting.
  std::string ask() {
    const std::string answer = victim().ask("1");
    const std::string calls = std::to_string(++calls_ * 11);
    EXPECT_TRUE(answer == calls + "012" || answer == calls + "015") << answer;
    return answer.substr(answer.size() < 3 ? 0 : answer.size() - 3);
  }
  void expect_patch(const std::string& digits) {
    EXPECT_EQ(ask(), digits);
    EXPECT_EQ(victim().ask("2").size(), 2U);
  }
  void killed_at(const std::string& point, const std::string& verb, const std::string& what) {
    FaultPoint fault(point, "QPATCH_FAULT_KILL");
    const CommandResult result = on_victim(verb, what);
    EXPECT_EQ(result.exit_code, 128 + SIGKILL) << point << ":\n" << result.both();
  }
  void end() {
    const CommandResult reverted = must("revert", only_listed().id);
    EXPECT_EQ(victim().ask("1"), "11");
    EXPECT_EQ(victim().ask("2"), "22");
    expect_untouched(before_, reverted.both());
  }

  std::string first_, second_, first_id_;
  Snapshot before_, with_first_;
  int calls_ = 0;
};

// One write to each registry and to each function: the second of each as well.
std::vector<std::string> steps() {
  std::vector<std::string> out = {"commit.begun:2", "commit.detour:2", "commit.finish:2"};
  for (const std::string_view point : all_fault_points()) {
    if (!point.starts_with("revert.") && !point.starts_with("hook.") && point != "commit.done") {
      out.emplace_back(point);
    }
  }
  return out;
}

// Claim: whichever step fails, the first patch is as it was, its variables too, and the same command
// succeeds afterwards.
TEST_P(Takeover, that_fails_leaves_the_first_patch) {
  ASSERT_FALSE(HasFailure());
  start();
  for (const std::string& step : steps()) {
    if (step == "switch.acted") {
      continue;  // the switch is made
    }
    SCOPED_TRACE(step);
    {
      FaultPoint fault(step);
      const CommandResult failed = on_victim("apply", second_);
      EXPECT_EQ(failed.exit_code, 1) << failed.both();
    }
    expect_untouched(with_first_);
    EXPECT_EQ(only_listed().id, first_id_);
    expect_patch("012");
    ASSERT_FALSE(HasFailure());
  }
  must("apply", second_);
  expect_patch("015");
  end();
}

// Claim: when qpatch dies at any step, the process lives on with code of the two patches, and `recover`
// makes it the first one's, or, where all was done but the last records, the second one's.
TEST_P(Takeover, that_dies_is_recovered_from) {
  ASSERT_FALSE(HasFailure());
  for (const std::string& step : steps()) {
    SCOPED_TRACE(step);
    start();
    killed_at(step, "apply", second_);
    ask();
    must("recover", "");
    const bool forth = step == "commit.finish:2" || step == "switch.acted";
    EXPECT_EQ(only_listed().id == first_id_, !forth);
    expect_patch(forth ? "015" : "012");
    if (!forth) {
      expect_untouched(with_first_);
    }
    end();
    ASSERT_FALSE(HasFailure());
  }
}

// Claim: a recovery that dies as well is recovered from in the same way.
TEST_P(Takeover, whose_recovery_dies_is_recovered_from) {
  ASSERT_FALSE(HasFailure());
  for (const char* step : {"revert.begun", "revert.begun:2", "revert.detour", "revert.detour:2",
                           "revert.finish", "revert.finish:2"}) {
    SCOPED_TRACE(step);
    start();
    killed_at("commit.finish", "apply", second_);
    killed_at(step, "recover", "");
    ask();
    must("recover", "");
    EXPECT_EQ(only_listed().id, first_id_);
    expect_patch("012");
    expect_untouched(with_first_);
    end();
    ASSERT_FALSE(HasFailure());
  }
}

// Claim: the next apply of the second patch finishes by itself what a dead one began.
TEST_P(Takeover, that_dies_is_finished_by_the_next_apply) {
  ASSERT_FALSE(HasFailure());
  for (const char* step : {"commit.begun:2", "commit.detour", "commit.finish:2"}) {
    SCOPED_TRACE(step);
    start();
    killed_at(step, "apply", second_);
    must("apply", second_);
    expect_patch("015");
    end();
    ASSERT_FALSE(HasFailure());
  }
}

INSTANTIATE_TEST_SUITE_P(Scenario, Takeover,
                         testing::Values(scenario(QP_LIVE_SCENARIOS, "superseded").front()),
                         instance_name);

class TakeoverCallback : public Takeover {};

// Claim: pointers to functions of the first patch go there and back with the detours of the program.
TEST_P(TakeoverCallback, is_recovered_with_the_rest) {
  ASSERT_FALSE(HasFailure());
  for (const char* step : {"commit.begun:2", "commit.detour", "commit.detour:2", "commit.finish"}) {
    SCOPED_TRACE(step);
    must("apply", first_);
    EXPECT_EQ(victim().ask("w"), "1105");
    killed_at(step, "apply", second_);
    const std::string answer = victim().ask("c");
    EXPECT_TRUE(answer == "105" || answer == "205") << answer;
    must("recover", "");
    EXPECT_EQ(victim().ask("c"), "105");
    EXPECT_EQ(victim().ask("w"), "1105");
    must("apply", second_);
    EXPECT_EQ(victim().ask("c"), "205");
    killed_at("revert.detour", "revert", only_listed().id);
    must("recover", "");
    EXPECT_EQ(victim().ask("c"), "105");
    EXPECT_EQ(victim().ask("w"), "6");
    // Nothing is applied, but the first one's image is there.
    killed_at(step == std::string("commit.begun:2") ? "commit.begun" : step, "apply", second_);
    must("recover", "");
    EXPECT_EQ(victim().ask("c"), "105");
    EXPECT_EQ(victim().ask("w"), "6");
    ASSERT_FALSE(HasFailure());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Scenario, TakeoverCallback,
    testing::Values(scenario(QP_LIVE_SCENARIOS, "superseded_callback").front()), instance_name);

// stay() and second() are what the first patch replaces, second() what the second one does.
class TakeoverBlocked : public LiveCase {};

// Claim: when qpatch dies having given stay() its own code back, and a thread goes in, the first patch comes
// back only when the thread is out.
TEST_P(TakeoverBlocked, by_a_thread_in_code_that_was_laid_bare) {
  prepare();
  const std::string first = build_patch();
  const std::string second =
      build_patch(dir().path() / "only_second.patch", "second.qp", {"--supersedes", first});
  ASSERT_FALSE(HasFailure());
  victim().ask("enter");  // its threads leave a stack behind
  victim().ask("leave");
  const Snapshot before = snapshot();
  must("apply", first);
  {
    FaultPoint fault("commit.detour:2", "QPATCH_FAULT_KILL");
    EXPECT_EQ(on_victim("apply", second).exit_code, 128 + SIGKILL);
  }
  victim().ask("enter");
  const CommandResult busy = on_victim("recover", "", {"--timeout", "0ms"});
  EXPECT_EQ(busy.exit_code, 4) << busy.both();
  EXPECT_TRUE(names(busy.both(), "stay")) << busy.both();
  EXPECT_EQ(victim().ask("leave"), "11");
  must("recover", "");
  victim().ask("enter");
  EXPECT_EQ(victim().ask("leave"), "12");
  EXPECT_EQ(victim().ask("2"), "23");
  expect_untouched(before, must("revert", only_listed().id).both());
}

INSTANTIATE_TEST_SUITE_P(Scenario, TakeoverBlocked,
                         testing::ValuesIn(scenario(QP_LIVE_SCENARIOS, "superseded_blocked")),
                         instance_name);

}  // namespace
}  // namespace qp::live
