// Hooks that do not do what they should. What can happen in a function of somebody else's is known:
// it says no, it crashes, it never ends, it ends the program. None of that may cost the process more
// than the patch. The victim's hooks do what the test orders; each writes a letter.

#include <csignal>

#include "harness/live_case.h"
#include "harness/stopped_command.h"

namespace qp::live {
namespace {

enum What { Refuses = 1, Faults, Loops, Exits, Aborts, Overflows, Waits, LeavesWhenTold };
struct Failing {
  What what;
  const char* id;
  int exit_code;
  const char* names;
};
constexpr Failing kAll[] = {
    {Refuses, "hook-refused", 3, "returned 5: the test said no"},
    {Faults, "hook-crashed", 1, "SIGSEGV"},
    {Loops, "hook-timeout", 4, "obey"},
    {Exits, "hook-crashed", 1, "exit_group"},
    {Aborts, "hook-crashed", 1, "SIGABRT"},
    {Overflows, "hook-crashed", 1, "deeper"},
    {Waits, "hook-timeout", 4, "with the other threads"},
};

class HooksThatFail : public LiveCase {
 protected:
  void order(int place, int what) {
    EXPECT_EQ(victim().ask("order " + std::to_string(place * 10 + what)), "ok");
  }
  void expect(const CommandResult& result, const Failing& failing, int exit_code) {
    EXPECT_EQ(result.exit_code, exit_code) << result.both();
    EXPECT_TRUE(names(result.both(), failing.id)) << result.both();
    EXPECT_NE(result.both().find(failing.names), std::string::npos) << result.both();
  }
  // A hook that ends by itself is not to be ended by a slow machine.
  static std::vector<std::string> time_for(const Failing& failing) {
    return {"--hook-timeout", failing.id == std::string_view("hook-timeout") ? "500ms" : "60s"};
  }
};

// Refusal: hook-refused
// Refusal: hook-crashed
// Refusal: hook-timeout
// Claim: a hook before the switch that says no, crashes or never ends, with the others running or
// stopped, stops the transaction: nothing is left, the process works, its errno and its handler for
// the signal are still there, and the hook is named.
TEST_P(HooksThatFail, before_the_switch_stop_it) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  for (const Failing& failing : kAll) {
    for (int place : {1, 2}) {
      SCOPED_TRACE(testing::Message() << failing.id << " " << failing.what << " at " << place);
      order(place, failing.what);
      const CommandResult result = on_victim("apply", patch, time_for(failing));
      expect(result, failing, failing.exit_code);
      EXPECT_TRUE(names(result.both(), place == 1 ? "look" : "migrate")) << result.both();
      EXPECT_EQ(victim().ask("trace"), place == 1 ? "b 42" : "bc 42");
      EXPECT_EQ(victim().ask("50"), "10");
      EXPECT_TRUE(listed().empty());
      expect_untouched(before, result.both());
      ASSERT_FALSE(HasFailure());
    }
  }
  EXPECT_EQ(victim().ask("raise"), "1");

  order(0, 0);
  must("apply", patch);
  EXPECT_EQ(victim().ask("trace"), "bcde 42");
  EXPECT_EQ(victim().ask("50"), "51") << "the hook has set the limit";
  const std::string id = only_listed().id;
  const Snapshot patched = snapshot();
  for (const Failing& failing : kAll) {
    for (int place : {5, 6}) {
      SCOPED_TRACE(testing::Message() << failing.id << " " << failing.what << " at " << place);
      order(place, failing.what);
      expect(on_victim("revert", id, time_for(failing)), failing, failing.exit_code);
      EXPECT_EQ(victim().ask("trace"), place == 5 ? "f 42" : "fg 42");
      EXPECT_EQ(victim().ask("50"), "51");
      EXPECT_EQ(only_listed().id, id);
      expect_untouched(patched);
      ASSERT_FALSE(HasFailure());
    }
  }
  order(0, 0);
  const CommandResult reverted = must("revert", id);
  EXPECT_EQ(victim().ask("trace"), "fghi 42");
  EXPECT_EQ(victim().ask("50"), "10");
  expect_untouched(before, reverted.both());
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: a hook behind the switch that fails changes nothing of it: the patch is applied, or
// reverted, and the exit code 5 and the report say which hook did not do its part.
TEST_P(HooksThatFail, behind_the_switch_are_reported) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  CommandResult reverted;
  for (const Failing& failing : {kAll[0], kAll[1], kAll[2]}) {
    for (int late : {0, 1}) {
      SCOPED_TRACE(testing::Message() << failing.id << " " << late);
      order(3 + late, failing.what);
      const CommandResult applied = on_victim("apply", patch, time_for(failing));
      expect(applied, failing, 5);
      EXPECT_TRUE(names(applied.both(), "patched")) << applied.both();
      EXPECT_EQ(victim().ask("trace"), "bcde 42");
      EXPECT_EQ(victim().ask("50"), "51");
      order(7 + late, failing.what);
      reverted = on_victim("revert", only_listed().id, time_for(failing));
      expect(reverted, failing, 5);
      EXPECT_TRUE(names(reverted.both(), "reverted")) << reverted.both();
      EXPECT_EQ(victim().ask("trace"), "fghi 42");
      EXPECT_EQ(victim().ask("50"), "10");
      EXPECT_TRUE(listed().empty());
      ASSERT_FALSE(HasFailure());
    }
  }
  expect_untouched(before, reverted.both());
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: a hook that is about to end the program is not let either when that happens just behind its
// deadline, before it is stopped.
TEST_P(HooksThatFail, at_the_deadline_do_not_end_the_program) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  order(1, LeavesWhenTold);
  StoppedCommand apply("hook.late", [&] {
    return on_victim("apply", patch, {"--hook-timeout", "500ms"});
  });
  ASSERT_TRUE(apply.is_stopped());
  kill(victim().pid(), SIGUSR1);
  const std::string tasks = "/proc/" + std::to_string(victim().pid()) + "/task";
  for (bool asks = false; !asks;) {  // stopped at the entry of the call
    for (const auto& task : std::filesystem::directory_iterator(tasks)) {
      asks |= read_text(task.path() / "syscall").starts_with("231 ");  // exit_group
    }
  }
  const CommandResult result = apply.go_on();
  expect(result, {LeavesWhenTold, "hook-crashed", 1, "exit_group"}, 1);
  EXPECT_EQ(victim().ask("50"), "10");
  expect_untouched(before, result.both());
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: a patch of hooks alone, which replaces no function, is applied, listed, left alone by recover
// and reverted.
TEST_P(HooksThatFail, or_that_are_all_of_a_patch) {
  prepare();
  const std::string patch = build_patch(dir().path() / "alone.patch", "alone.qp");
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  EXPECT_EQ(victim().ask("50"), "10");
  must("apply", patch);
  EXPECT_EQ(victim().ask("50"), "50");
  EXPECT_TRUE(names(must("recover", "").both(), "nothing to recover"));
  EXPECT_TRUE(names(must("apply", patch).both(), "already"));
  const CommandResult reverted = must("revert", only_listed().id);
  EXPECT_EQ(victim().ask("50"), "10");
  expect_untouched(before, reverted.both());
  EXPECT_EQ(victim().finish(), 0);
}

class HookSticks : public LiveCase {
 protected:
  void let_it_go() {
    EXPECT_NE(read_text(maps()).find(".hooks"), std::string::npos) << "its stack is gone";
    kill(victim().pid(), SIGUSR1);
    must("recover", "");
    EXPECT_EQ(read_text(maps()).find(".hooks"), std::string::npos);
    EXPECT_EQ(victim().ask("later"), "0") << "another hook ran on its stack";
    EXPECT_EQ(victim().ask("value"), "6");
    EXPECT_TRUE(listed().empty());
  }
  std::string maps() { return "/proc/" + std::to_string(victim().pid()) + "/maps"; }
  const std::vector<std::string> soon_ = {"--hook-timeout", "500ms"};
};

// Claim: where a hook can't be stopped, the code is the old one, image and stack stay, no further hook
// is run, and `recover` takes all away when the hook has ended.
TEST_P(HookSticks, in_a_revert) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  if (victim().ask("can") != "yes") {
    GTEST_SKIP() << "no userfaultfd here";
  }
  must("apply", patch);
  EXPECT_EQ(victim().ask("value"), "7");
  const CommandResult reverted = on_victim("revert", only_listed().id, soon_);
  EXPECT_EQ(reverted.exit_code, 5) << reverted.both();
  EXPECT_TRUE(names(reverted.both(), "hook-timeout")) << reverted.both();
  EXPECT_NE(reverted.both().find("still runs"), std::string::npos) << reverted.both();
  EXPECT_TRUE(names(reverted.both(), "come_later")) << reverted.both();
  let_it_go();
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: the same where a switch is taken back because of a context that was suspended too late.
TEST_P(HookSticks, in_a_switch_that_is_taken_back) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  if (victim().ask("can") != "yes") {
    GTEST_SKIP() << "no userfaultfd here";
  }
  StoppedCommand apply("switch.looked", [&] { return on_victim("apply", patch, soon_); });
  ASSERT_TRUE(apply.is_stopped());
  EXPECT_EQ(victim().ask("suspend"), "0");
  const CommandResult result = apply.go_on();
  EXPECT_EQ(result.exit_code, 4) << result.both();
  EXPECT_TRUE(names(result.both(), "suspended")) << result.both();
  EXPECT_NE(result.both().find("still runs"), std::string::npos) << result.both();
  let_it_go();
  EXPECT_EQ(victim().ask("resume"), "2");
  must("apply", patch);
  EXPECT_EQ(victim().ask("value"), "7");
  EXPECT_EQ(victim().finish(), 0);
}

INSTANTIATE_TEST_SUITE_P(Scenario, HookSticks,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "hook_sticks")), instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, HooksThatFail,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "hooks_that_fail")),
                         instance_name);

}  // namespace
}  // namespace qp::live
