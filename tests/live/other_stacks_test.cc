// Threads with more than one stack: a signal handler's, coroutines'. What counts is not where the stack
// pointer is but where code will go on: the switch must wait for a function that is on a stack which
// the thread has left, and an image must stay while the stack of another coroutine leads into it.

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "harness/live_case.h"

namespace qp::live {
namespace {

// Whether the kernel knows PAGEMAP_SCAN (v6.7), here of no valid argument.
bool skips_absent_pages() {
  std::array<uint64_t, 12> nothing{};
  const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  const bool known =
      ioctl(pagemap, _IOWR('f', 16, decltype(nothing)), nothing.data()) == 0 || errno != ENOTTY;
  close(pagemap);
  return known;
}

class OtherStacks : public LiveCase {
 protected:
  void SetUp() override {
    LiveCase::SetUp();
    prepare();
    patch_ = build_patch();
  }

  // `mode` keeps top() on a stack: apply waits, and gives up.
  void expect_busy(const std::string& mode, const std::string& consistency,
                   const std::string& reason) {
    const Snapshot before = snapshot();
    ASSERT_EQ(victim().ask(mode), "inside");
    const CommandResult refused =
        on_victim("apply", patch_, {"--timeout", "100ms", "--consistency", consistency});
    EXPECT_EQ(refused.exit_code, 4) << refused.both();
    EXPECT_TRUE(names(refused.both(), "holder")) << refused.both();
    EXPECT_TRUE(names(refused.both(), "top")) << refused.both();
    EXPECT_TRUE(names(refused.both(), reason)) << refused.both();
    EXPECT_EQ(victim().ask("leave"), "6");
    expect_untouched(before);
  }
  // And when it has left.
  void expect_applicable(const std::string& mode) {
    const Snapshot before = snapshot();
    must("apply", patch_);
    EXPECT_EQ(victim().ask(mode), "inside");
    EXPECT_EQ(victim().ask("leave"), "7");
    expect_untouched(before, must("revert", only_listed().id).both());
    EXPECT_EQ(victim().finish(), 0);
  }

  std::string patch_;
};

// Claim: a function that was interrupted by a signal, whose handler waits on an alternate stack, keeps
// the process busy.
TEST_P(OtherStacks, under_a_handler_on_an_alternate_stack) {
  ASSERT_FALSE(HasFailure());
  expect_busy("handler", "process", "return");
  expect_busy("handler", "thread", "return");
  expect_applicable("handler");
}

// Claim: so does one that was interrupted on the stack of a coroutine, which is known from the signal
// frame only.
TEST_P(OtherStacks, of_a_coroutine_under_a_handler) {
  ASSERT_FALSE(HasFailure());
  expect_busy("handler of coroutine", "thread", "return");
  expect_applicable("handler of coroutine");
}

// Claim: a function on a thread's own stack is found while the thread runs a coroutine; with
// --consistency thread it may finish.
TEST_P(OtherStacks, that_was_left_for_a_coroutine) {
  ASSERT_FALSE(HasFailure());
  expect_busy("coroutine", "process", "suspended");
  ASSERT_EQ(victim().ask("coroutine"), "inside");
  must("apply", patch_, {"--consistency", "thread"});
  EXPECT_EQ(victim().ask("leave"), "6");
  must("revert", only_listed().id);
  expect_applicable("coroutine");
}

// Claim: a patch in whose code a coroutine is suspended is not reverted by default. With --consistency
// thread, what its stack leads to stays mapped after the revert, also where that stack lies below
// the stack pointer of a thread, which is another coroutine's; then it goes. That the process has
// reserved gigabytes is no obstacle.
TEST_P(OtherStacks, of_a_sibling_coroutine_keep_the_image) {
  ASSERT_FALSE(HasFailure());
  must("apply", patch_);
  ASSERT_EQ(victim().ask("siblings"), "inside");
  const std::string id = only_listed().id;
  const CommandResult busy = on_victim("revert", id, {"--timeout", "0ms"});
  EXPECT_EQ(busy.exit_code, 4) << busy.both();
  EXPECT_TRUE(names(busy.both(), "suspended")) << busy.both();
  const CommandResult reverted = must("revert", id, {"--consistency", "thread"});
  EXPECT_TRUE(names(reverted.both(), "kept")) << reverted.both();
  EXPECT_EQ(victim().ask("leave"), "7") << "new code must finish its call";
  if (!skips_absent_pages()) {
    GTEST_SKIP() << "this kernel has no PAGEMAP_SCAN";
  }
  const CommandResult recovered = must("recover", "");
  EXPECT_FALSE(names(recovered.both(), "kept")) << recovered.both();
  EXPECT_EQ(read_text("/proc/" + std::to_string(victim().pid()) + "/maps").find("/images/"),
            std::string::npos);
  expect_applicable("siblings");
}

INSTANTIATE_TEST_SUITE_P(Scenario, OtherStacks,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "other_stacks")), instance_name);

}  // namespace
}  // namespace qp::live
