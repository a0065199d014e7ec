// Who is inside a replaced function, and who only looks so (P6).
//
// A thread that is inside would return into bytes that were changed; so apply must wait, and give
// up at its deadline with the thread's name, the function and the way it got there. The inside is
// the whole stack, not the top frame. On the other side, a stack is full of words that were return
// addresses once: a check that takes them for frames could never patch a busy server.

#include <future>

#include "harness/live_case.h"

namespace qp::live {
namespace {

class EventLoop : public LiveCase {};

class Busy : public LiveCase {
 protected:
  // tid of the victim's thread of this name.
  std::string thread_named(const std::string& name) {
    const std::string tasks = "/proc/" + std::to_string(victim().pid()) + "/task";
    for (const auto& task : std::filesystem::directory_iterator(tasks)) {
      if (read_text(task.path() / "comm") == name + "\n") {
        return task.path().filename();
      }
    }
    return "no thread is called " + name;
  }

  // The thread is inside: busy, with everything that is needed to find it. Then it leaves.
  void refuse_then_apply(const std::string& waits_in) {
    prepare();
    const std::string patch = build_patch();
    ASSERT_FALSE(HasFailure());
    ASSERT_EQ(victim().ask("enter"), "inside");
    const Snapshot before = snapshot();
    const std::string function = what().functions.front();

    const auto began = std::chrono::steady_clock::now();
    const CommandResult refused = on_victim("apply", patch, {"--timeout", "1s"});
    const auto took = std::chrono::steady_clock::now() - began;
    EXPECT_EQ(refused.exit_code, 4) << refused.both();
    EXPECT_GE(took, std::chrono::milliseconds(900));
    EXPECT_LT(took, std::chrono::seconds(10));
    EXPECT_TRUE(names(refused.both(), "busy")) << refused.both();
    EXPECT_TRUE(names(refused.both(), thread_named("holder"))) << refused.both();
    EXPECT_TRUE(names(refused.both(), "holder")) << refused.both();
    EXPECT_TRUE(names(refused.both(), function)) << refused.both();
    EXPECT_TRUE(names(refused.both(), waits_in)) << refused.both();
    EXPECT_NE(refused.err.find("waits in futex at 0x"), std::string::npos) << refused.both();
    EXPECT_NE(on_victim("stacks", patch).out.find("waits in futex at 0x"), std::string::npos);
    expect_untouched(before);
    EXPECT_TRUE(listed().empty());

    EXPECT_EQ(victim().ask("leave"), "6") << "the old code must finish its call";
    must("apply", patch, {"--timeout", "10s"});
    EXPECT_EQ(victim().ask("enter"), "inside");
    EXPECT_EQ(victim().ask("leave"), "7");
    const Listed applied = only_listed();
    const CommandResult reverted = must("revert", applied.id);
    expect_untouched(before, reverted.both());
    EXPECT_EQ(victim().finish(), 0);
  }
};

class Blocked : public Busy {};
class CallerFrame : public Busy {};
class LoopsToEntry : public Busy {};
class StaleWord : public Busy {};

// Refusal: busy
// Claim: a thread blocked inside the function for ever is named with function and frames, exit code
// 4; the process is as before; after the thread has left, apply works.
TEST_P(Blocked, is_named_and_apply_works_when_it_left) {
  refuse_then_apply("work");
}

// Claim: the same for a function whose only trace is a return address far up the stack.
TEST_P(CallerFrame, is_found_far_up_the_stack) {
  refuse_then_apply("descend");
}

// Claim: with --consistency none a thread that is inside finishes the old code, and later calls run the
// new one.
TEST_P(Blocked, may_finish_old_code_if_allowed) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  ASSERT_EQ(victim().ask("enter"), "inside");
  must("check", patch, {"--consistency", "none"});
  must("apply", patch, {"--consistency", "none", "--timeout", "0ms"});
  EXPECT_EQ(victim().ask("leave"), "6");
  EXPECT_EQ(victim().ask("enter"), "inside");
  EXPECT_EQ(victim().ask("leave"), "7");
  const CommandResult reverted = must("revert", only_listed().id);
  expect_untouched(before, reverted.both());
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: but not in code that would jump into the detour: that is memory safety, and never waived.
TEST_P(LoopsToEntry, is_never_left_inside) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  ASSERT_EQ(victim().ask("enter"), "inside");
  const Snapshot before = snapshot();
  for (const char* consistency : {"process", "thread", "none"}) {
    const CommandResult refused =
        on_victim("apply", patch, {"--consistency", consistency, "--timeout", "100ms"});
    EXPECT_EQ(refused.exit_code, 4) << consistency << ": " << refused.both();
    EXPECT_TRUE(names(refused.both(), "hold")) << refused.both();
    expect_untouched(before);
  }
  EXPECT_EQ(victim().ask("leave"), "6");
  must("apply", patch, {"--consistency", "none"});
  EXPECT_EQ(victim().ask("enter"), "inside");
  EXPECT_EQ(victim().ask("leave"), "7");
  must("revert", only_listed().id);
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: apply waits for a thread that leaves before the deadline.
TEST_P(Blocked, is_waited_for) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  ASSERT_EQ(victim().ask("enter"), "inside");
  auto apply = std::async(std::launch::async, [&] { return on_victim("apply", patch); });
  // Leave once qpatch was seen at work on the thread (or is done): then it has met the busy stack.
  const std::string status = "/proc/" + std::to_string(victim().pid()) + "/status";
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  while (read_text(status).find("TracerPid:\t0\n") != std::string::npos &&
         std::chrono::steady_clock::now() < deadline) {
  }
  EXPECT_EQ(victim().ask("leave"), "6");
  const CommandResult result = apply.get();
  EXPECT_EQ(result.exit_code, 0) << result.both();
  EXPECT_EQ(victim().ask("enter"), "inside");
  EXPECT_EQ(victim().ask("leave"), "7");
}

// Claim: a thread inside a patched function's new code keeps revert waiting too: the image is not
// unmapped under it.
TEST_P(Blocked, keeps_revert_waiting) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  must("apply", patch);
  ASSERT_FALSE(HasFailure());
  const std::string id = only_listed().id;
  ASSERT_EQ(victim().ask("enter"), "inside");
  const CommandResult refused = on_victim("revert", id, {"--timeout", "1s"});
  EXPECT_EQ(refused.exit_code, 4) << refused.both();
  EXPECT_TRUE(names(refused.both(), thread_named("holder"))) << refused.both();
  EXPECT_EQ(victim().ask("leave"), "7") << "the new code must finish its call";
  EXPECT_EQ(victim().ask("enter"), "inside");
  EXPECT_EQ(victim().ask("leave"), "7") << "a refused revert must leave the patch applied";
  const CommandResult reverted = must("revert", id);
  EXPECT_EQ(victim().ask("enter"), "inside");
  EXPECT_EQ(victim().ask("leave"), "6");
  expect_untouched(before, reverted.both());
}

// Claim: a word on the stack that points into the function but is in no frame is not a frame.
TEST_P(StaleWord, is_no_frame) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  ASSERT_EQ(victim().ask("lurk"), "stale") << "the victim shows nothing without such a word";
  must("apply", patch, {"--timeout", "1s"});
  EXPECT_EQ(victim().ask("come back"), "back");
  expect_answers(victim(), &Probe::after, "after apply");
  const Listed applied = only_listed();
  const CommandResult reverted = must("revert", applied.id);
  expect_answers(victim(), &Probe::reverted, "after revert");
  expect_untouched(before, reverted.both());
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: that a changed function never returns is said when the patch is built, with what to do; and by
// check when a thread is in it.
TEST_P(EventLoop, is_told_at_build_and_check) {
  prepare();
  const std::filesystem::path patch = dir().path() / "loop.qp";
  const CommandResult built =
      dir().qpatch(workshop().build_arguments(target(), patch), workshop().source_tree());
  ASSERT_EQ(built.exit_code, 0) << built.both();
  EXPECT_NE(built.out.find("note: serve never returns"), std::string::npos) << built.both();
  EXPECT_EQ(built.out.find("note: step never returns"), std::string::npos) << built.both();
  EXPECT_EQ(built.out.find("note: give_up never returns"), std::string::npos) << built.both();
  const Snapshot before = snapshot();
  const CommandResult checked = on_victim("check", patch);
  EXPECT_EQ(checked.exit_code, 4) << checked.both();
  EXPECT_NE(checked.err.find("serve never returns"), std::string::npos) << checked.both();
  EXPECT_NE(checked.err.find("waits in read of pipe:["), std::string::npos) << checked.both();
  expect_untouched(before);
}

INSTANTIATE_TEST_SUITE_P(Scenario, EventLoop,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "event_loop")), instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, Blocked, testing::ValuesIn(scenario(QP_SCENARIOS, "blocked")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, LoopsToEntry,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "loops_to_entry")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, CallerFrame,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "caller_frame")), instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, StaleWord,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "stale_word")), instance_name);

}  // namespace
}  // namespace qp::live
