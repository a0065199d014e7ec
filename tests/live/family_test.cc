// Families of processes: who is forked before, while and after the others are patched, who shares
// memory, who calls exec. No process of the target is left unpatched without being named.

#include "harness/live_case.h"
#include "harness/stopped_command.h"

namespace qp::live {
namespace {

class Family : public LiveCase {
 protected:
  void SetUp() override {
    LiveCase::SetUp();
    prepare();
    patch_ = build_patch();
  }
  CommandResult on_tree(const std::string& verb, const std::string& which,
                        const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {verb, which, "--tree", std::to_string(victim().pid())};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return dir().qpatch(arguments);
  }
  pid_t ask_pid(const std::string& request) { return std::stoi(victim().ask(request)); }

  std::string patch_;
};

// Claim: --tree patches a pre-forked server's workers with it, a child of a patched process is patched
// from birth, and --tree takes the patch out of all of them again, byte for byte.
TEST_P(Family, of_a_server_is_patched_as_a_tree) {
  const Snapshot before = snapshot();
  const pid_t worker = ask_pid("fork");
  const Snapshot of_worker = take_snapshot(worker);
  EXPECT_EQ(victim().ask("1"), "11 11");
  const CommandResult applied = on_tree("apply", patch_);
  EXPECT_EQ(applied.exit_code, 0) << applied.both();
  EXPECT_TRUE(names(applied.out, std::to_string(worker))) << applied.out;
  const pid_t late = ask_pid("fork");
  EXPECT_EQ(victim().ask("1"), "12 12 12");
  const std::string id = only_listed().id;
  const CommandResult reverted = on_tree("revert", id);
  EXPECT_EQ(reverted.exit_code, 0) << reverted.both();
  EXPECT_EQ(victim().ask("1"), "11 11 11");
  EXPECT_EQ(left_behind(of_worker, take_snapshot(worker)), "");
  EXPECT_TRUE(names(dir().qpatch({"list", "--pid", std::to_string(late)}).out, "no patches"));
  EXPECT_EQ(left_behind(before, snapshot()).find("text"), std::string::npos);
  EXPECT_EQ(dir().qpatch({"apply", patch_, "--tree", "4194304"}).exit_code, 1);
}

// Claim: a child that is forked while its parent is being patched is patched too, whichever half of the
// work it inherits, and is left as clean as its parent by the revert.
TEST_P(Family, of_a_child_forked_in_between) {
  for (const char* point :
       {"plan.done", "stage.written", "stage.done", "switch.looked", "commit.done"}) {
    SCOPED_TRACE(point);
    pid_t child = 0;
    {
      StoppedCommand apply(point, [&] { return on_tree("apply", patch_); });
      ASSERT_TRUE(apply.is_stopped());
      child = ask_pid("fork");
      const CommandResult applied = apply.go_on();
      EXPECT_EQ(applied.exit_code, 0) << applied.both();
    }
    EXPECT_EQ(victim().ask("1").find("11"), std::string::npos) << "a child is not patched";
    const CommandResult reverted = on_tree("revert", only_listed().id);
    EXPECT_EQ(reverted.exit_code, 0) << reverted.both();
    EXPECT_EQ(victim().ask("1").find("12"), std::string::npos) << "a child is still patched";
    const CommandResult nothing = dir().qpatch({"recover", "--pid", std::to_string(child)});
    EXPECT_TRUE(names(nothing.out, "nothing to recover")) << nothing.both();
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(snapshot().tracer, 0);
}

// Claim: --exe finds the daemon that was orphaned while it searched.
TEST_P(Family, of_a_daemon_is_found_by_its_program) {
  CommandResult applied;
  {
    StoppedCommand apply("stage.done", [&] {
      return dir().qpatch({"apply", patch_, "--exe", target()});
    });
    ASSERT_TRUE(apply.is_stopped());
    ask_pid("daemon");
    applied = apply.go_on();
  }
  EXPECT_EQ(applied.exit_code, 0) << applied.both();
  EXPECT_EQ(victim().ask("1"), "12 12");
}

// Refusal: memory-shared
// Claim: a process whose memory another one shares is refused, by the names of both, as long as it is
// so; likewise if that begins while it is being patched.
TEST_P(Family, that_shares_memory_is_refused) {
  const Snapshot before = snapshot();
  const auto refused = [&](const CommandResult& result, pid_t peer) {
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_TRUE(names(result.both(), "memory-shared")) << result.both();
    EXPECT_TRUE(names(result.both(), std::to_string(peer))) << result.both();
    EXPECT_EQ(victim().ask("1"), "11");
  };
  const std::string pid = std::to_string(victim().pid());
  pid_t peer = ask_pid("share");
  refused(on_victim("apply", patch_, {"--timeout", "20ms"}), peer);
  refused(dir().qpatch({"apply", patch_, "--pid", std::to_string(peer), "--timeout", "20ms"}),
          victim().pid());
  EXPECT_EQ(victim().ask("part"), "alone");
  expect_untouched(before);
  for (const char* point : {"stage.done", "switch.looked"}) {
    StoppedCommand apply(point, [&] { return on_victim("apply", patch_, {"--timeout", "300ms"}); });
    ASSERT_TRUE(apply.is_stopped());
    peer = ask_pid("share");
    refused(apply.go_on(), peer);
    EXPECT_EQ(victim().ask("part"), "alone");
  }
  must("apply", patch_);
  EXPECT_EQ(victim().ask("1"), "12");
}

// Claim: a process that calls exec while it is being patched runs its new program unharmed, and with
// --tree that is patched as well, since it is the target again.
TEST_P(Family, that_calls_exec_is_patched_again) {
  for (const char* point : {"plan.done", "stage.written", "stage.done", "switch.looked"}) {
    SCOPED_TRACE(point);
    {
      StoppedCommand apply(point, [&] { return on_victim("apply", patch_); });
      ASSERT_TRUE(apply.is_stopped());
      EXPECT_EQ(victim().ask("exec"), "ready");
      const CommandResult applied = apply.go_on();
      EXPECT_EQ(applied.exit_code, 0) << applied.both();
      EXPECT_TRUE(names(applied.out, "gone")) << applied.both();
      EXPECT_EQ(victim().ask("1"), "11");
      EXPECT_TRUE(names(must("recover", "").out, "nothing to recover"));
    }
    ASSERT_FALSE(HasFailure());
  }
  {
    StoppedCommand apply("stage.done", [&] { return on_tree("apply", patch_); });
    ASSERT_TRUE(apply.is_stopped());
    EXPECT_EQ(victim().ask("exec"), "ready");
    const CommandResult applied = apply.go_on();
    EXPECT_EQ(applied.exit_code, 0) << applied.both();
  }
  EXPECT_EQ(victim().ask("1"), "12");
  EXPECT_EQ(victim().ask("exec"), "ready");
  EXPECT_EQ(victim().ask("1"), "11");
}

INSTANTIATE_TEST_SUITE_P(Scenario, Family,
                         testing::Values(scenario(QP_SCENARIOS, "workers").front()), instance_name);

}  // namespace
}  // namespace qp::live
