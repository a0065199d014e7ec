// All or nothing (P2): whichever step of a transaction fails, the process is as it was, and the same
// command succeeds afterwards. The steps are the fault points of the program that is shipped; the
// list is its own (base/fault.h), so that a new step without a test can't exist, and a step that is
// never reached fails here because the command succeeds.

#include "base/fault.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <functional>

#include "harness/fault_point.h"
#include "harness/live_case.h"
#include "harness/stopped_command.h"

namespace qp::live {
namespace {

constexpr std::string_view kAfterApply[] = {"switch.acted", "commit.done"};

bool is_after_apply(std::string_view point) {
  return std::count(std::begin(kAfterApply), std::end(kAfterApply), point) != 0;
}

class Fault : public LiveCase {
 protected:
  void SetUp() override {
    LiveCase::SetUp();
    prepare();
    patch_ = build_patch();
  }

  // Steps that only a patch with hooks goes through; one of them only with a hook that does not end
  // (tests/live/hooks_test.cc).
  bool takes(std::string_view point) const {
    return !point.starts_with("hook.") ||
           (point != "hook.late" && what().name.starts_with("hooks"));
  }
  void expect_old(const std::string& when) { expect_answers(victim(), &Probe::before, when); }
  void expect_new(const std::string& when) { expect_answers(victim(), &Probe::after, when); }

  CommandResult with_fault(std::string_view point, const std::string& verb,
                           const std::string& which) {
    FaultPoint fault(point);
    CommandResult result = on_victim(verb, which);
    EXPECT_EQ(result.exit_code, 1) << point << ": " << verb << ":\n" << result.both();
    EXPECT_TRUE(names(result.both(), std::string(point))) << result.both();
    return result;
  }

  void killed_at(std::string_view point, const std::string& verb, const std::string& which) {
    FaultPoint fault(point, "QPATCH_FAULT_KILL");
    CommandResult result = on_victim(verb, which);
    EXPECT_EQ(result.exit_code, 128 + SIGKILL) << point << ": " << verb << ":\n" << result.both();
  }

  std::string patch_;
};

// Claim: when a step of apply fails, nothing is left, and the next apply works; when a step of
// revert fails, the patch is still whole, and the next revert works.
TEST_P(Fault, of_any_step_leaves_all_or_nothing) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  for (std::string_view point : all_fault_points()) {
    SCOPED_TRACE(point);
    if (point.starts_with("revert.") || is_after_apply(point) || !takes(point)) {
      continue;
    }
    const CommandResult failed = with_fault(point, "apply", patch_);
    expect_untouched(before, failed.both());
    EXPECT_TRUE(listed().empty());
    expect_old("after the failed apply");
  }
  must("apply", patch_);
  ASSERT_FALSE(HasFailure());
  const Snapshot patched = snapshot();
  const std::string id = only_listed().id;
  for (std::string_view point : all_fault_points()) {
    SCOPED_TRACE(point);
    const bool hooks = point.starts_with("hook.") && point != "hook.stopped" && takes(point);
    if (!point.starts_with("revert.") && point != "switch.frozen" && !hooks) {
      continue;
    }
    with_fault(point, "revert", id);
    EXPECT_EQ(left_behind(patched, snapshot()), "");
    EXPECT_EQ(only_listed().id, id);
    expect_new("after the failed revert");
  }
  const CommandResult reverted = must("revert", id);
  expect_old("after revert");
  expect_untouched(before, reverted.both());
}

// Claim: when qpatch is killed at any step of apply, the process lives on and answers, `recover` brings
// it back to where it was, and the next apply works. Likewise with revert.
TEST_P(Fault, death_at_any_step_is_recovered_from) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  for (std::string_view point : all_fault_points()) {
    SCOPED_TRACE(point);
    if (is_after_apply(point) || !takes(point)) {
      continue;
    }
    const bool reverting = point.starts_with("revert.");
    if (reverting) {
      must("apply", patch_);
    }
    killed_at(point, reverting ? "revert" : "apply", reverting ? only_listed().id : patch_);
    const std::string answer = victim().ask(what().probes.front().ask);
    // Between two detours of a patch some functions are new and some old; new code that no post-apply
    // hook has run for answers in a third way.
    EXPECT_TRUE(what().functions.size() > 1 || answer == what().probes.front().before ||
                answer == what().probes.front().after || (takes("hook.entered") && answer == "54"))
        << answer;
    const CommandResult recovered = must("recover", "");
    expect_old("after recover");
    EXPECT_TRUE(listed().empty());
    expect_untouched(before, recovered.both());
    ASSERT_FALSE(HasFailure()) << recovered.both();
  }
  EXPECT_TRUE(names(must("recover", "").both(), "nothing to recover"));
  must("apply", patch_);
  expect_new("after apply");
  must("revert", only_listed().id);
}

// Of a patch without hooks: a pre-revert hook would have run then, and leaves a stack.
class EarlyDeath : public Fault {};

// Claim: when qpatch is killed in a revert before it has written anything, the patch is whole, there is
// nothing to recover, and the next revert works.
TEST_P(EarlyDeath, of_a_revert_leaves_the_patch) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  must("apply", patch_);
  const Snapshot patched = snapshot();
  const std::string id = only_listed().id;
  for (std::string_view point : {"switch.looked", "switch.frozen"}) {
    SCOPED_TRACE(point);
    killed_at(point, "revert", id);
    expect_new("after the death of qpatch");
    EXPECT_EQ(left_behind(patched, snapshot()), "");
    EXPECT_TRUE(names(must("recover", "").both(), "nothing to recover"));
    EXPECT_EQ(only_listed().id, id);
  }
  expect_untouched(before, must("revert", id).both());
}

class NextCommand : public Fault {};

// Claim: what a dead run left is told by list and check, with the remedy, and is undone by the next
// apply or revert by itself.
TEST_P(NextCommand, recovers_from_death) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  for (std::string_view point : {"stage.mapped", "stage.done", "hook.entered", "commit.detour"}) {
    SCOPED_TRACE(point);
    if (!takes(point)) {
      continue;
    }
    killed_at(point, "apply", patch_);
    const CommandResult told = on_victim("list", "");
    EXPECT_EQ(told.exit_code, 9) << told.both();
    EXPECT_TRUE(names(told.out, "INTERRUPTED")) << told.both();
    EXPECT_NE(told.out.find("qpatch recover --pid"), std::string::npos) << told.both();
    const CommandResult checked = on_victim("check", patch_);
    EXPECT_EQ(checked.exit_code, 9) << checked.both();
    EXPECT_NE(checked.err.find("qpatch recover"), std::string::npos) << checked.both();
    const CommandResult applied = must("apply", patch_);
    EXPECT_NE(applied.err.find("was undone first"), std::string::npos) << applied.both();
    expect_new("after apply");
    expect_untouched(before, must("revert", only_listed().id).both());
    ASSERT_FALSE(HasFailure());
  }
  must("apply", patch_);
  const std::string id = only_listed().id;
  killed_at("revert.begun", "revert", id);
  EXPECT_TRUE(names(must("revert", id).out, "recovered"));
  expect_old("after revert");
  expect_untouched(before);
}

class OwnJumps : public Fault {};

// Claim: bytes of the program's own that look like jumps into an image without a registry are none of
// ours: the image goes.
TEST_P(OwnJumps, do_not_keep_an_image) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  killed_at("stage.mapped", "apply", patch_);
  EXPECT_TRUE(names(must("recover", "").both(), "recovered"));
  expect_untouched(before);
}

class KeptImage : public Fault {};

// Claim: an image that a revert kept, since something may hold an address of it, stays when a run that
// uses it again dies, is used by the next apply, and is kept by the revert after that.
TEST_P(KeptImage, is_kept_when_a_run_that_uses_it_again_dies) {
  ASSERT_FALSE(HasFailure());
  must("apply", patch_);
  EXPECT_TRUE(names(must("revert", only_listed().id).both(), "kept"));
  const Snapshot kept = snapshot();
  for (std::string_view point : {"stage.written", "stage.done", "commit.detour"}) {
    SCOPED_TRACE(point);
    killed_at(point, "apply", patch_);
    EXPECT_TRUE(names(must("recover", "").both(), "kept"));
    expect_old("after recover");
    expect_untouched(kept);
    killed_at(point, "apply", patch_);
    must("apply", patch_);
    expect_new("after apply");
    EXPECT_TRUE(names(must("revert", only_listed().id).both(), "kept"));
    expect_untouched(kept);
  }
}

// Claim: what fails, or dies, after the patch is applied changes nothing of that: apply says that it
// is applied, or it is found to be.
TEST_P(Fault, after_the_switch_leaves_the_patch_applied) {
  ASSERT_FALSE(HasFailure());
  for (std::string_view point : kAfterApply) {
    SCOPED_TRACE(point);
    const Snapshot before = snapshot();
    {
      FaultPoint fault(point);
      const CommandResult applied = must("apply", patch_);
      EXPECT_TRUE(names(applied.both(), "patched")) << applied.both();
      EXPECT_TRUE(names(applied.both(), "injected fault")) << applied.both();
    }
    expect_new("after apply");
    expect_untouched(before, must("revert", only_listed().id).both());

    killed_at(point, "apply", patch_);
    if (takes("hook.entered")) {  // one hook was still to come, and the stack of all is left
      EXPECT_EQ(victim().ask(what().probes.front().ask), "254");
      const CommandResult next =
          point == kAfterApply[0] ? must("recover", "") : must("apply", patch_);
      EXPECT_TRUE(names(next.both(), point == kAfterApply[0] ? "recovered" : "undone"))
          << next.both();
      for (const MappedRange& m : snapshot().mappings) {
        EXPECT_EQ(m.name.find("memfd:qpatch-"), std::string::npos) << m.name;
      }
      EXPECT_EQ(victim().ask(what().probes.front().ask), "254") << "the patch stays";
      end_victim();  // its hooks of revert would miss what that hook does
      start_victim();
      continue;
    }
    expect_new("after the death of qpatch");
    EXPECT_TRUE(names(must("recover", "").both(), "nothing to recover"));
    EXPECT_TRUE(names(must("apply", patch_).both(), "already"));
    expect_untouched(before, must("revert", only_listed().id).both());
  }
}

// Claim: so with revert.
TEST_P(Fault, after_the_switch_leaves_the_patch_reverted) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  must("apply", patch_);
  const std::string id = only_listed().id;
  {
    FaultPoint fault("switch.acted");
    const CommandResult reverted = must("revert", id);
    EXPECT_TRUE(names(reverted.both(), "reverted")) << reverted.both();
    EXPECT_TRUE(names(reverted.both(), "injected fault")) << reverted.both();
    expect_old("after revert");
    expect_untouched(before, reverted.both());
  }
  must("apply", patch_);
  killed_at("switch.acted", "revert", id);
  expect_old("after the death of qpatch");
  EXPECT_TRUE(listed().empty());
  const CommandResult recovered = must("recover", "");
  expect_old("after recover");
  expect_untouched(before, recovered.both());
}

class Outside : public Fault {
 protected:
  // Something happens to the victim while qpatch stands at `point` of apply.
  CommandResult while_at(std::string_view point, const std::function<void()>& happens) {
    StoppedCommand apply(std::string(point), [&] { return on_victim("apply", patch_); });
    EXPECT_TRUE(apply.is_stopped()) << point;
    happens();
    return apply.go_on();
  }
  // Whether the kernel has brought it there; a signal takes a moment to do its work.
  bool comes_to(char state) {
    const std::string path = "/proc/" + std::to_string(victim().pid()) + "/stat";
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
      const std::string stat = read_text(path);
      const size_t end = stat.rfind(") ");
      if (end != std::string::npos && stat[end + 2] == state) {
        return true;
      }
    }
    return false;
  }
};

// Claim: a process that is stopped by a signal at any step is patched, stays stopped, and works when it
// goes on.
TEST_P(Outside, stop_at_any_step_is_kept) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  for (std::string_view point : all_fault_points()) {
    SCOPED_TRACE(point);
    if (point.starts_with("revert.") || !takes(point)) {
      continue;
    }
    const CommandResult applied = while_at(point, [&] { kill(victim().pid(), SIGSTOP); });
    EXPECT_EQ(applied.exit_code, 0) << applied.both();
    EXPECT_TRUE(comes_to('T'));
    EXPECT_EQ(snapshot().tracer, 0);
    kill(victim().pid(), SIGCONT);
    expect_new("after SIGCONT");
    expect_untouched(before, must("revert", only_listed().id).both());
    ASSERT_FALSE(HasFailure());
  }
}

// Claim: a process that is killed at any step ends, and apply says that it is gone, without a failure.
TEST_P(Outside, death_of_the_process_at_any_step_is_no_failure) {
  ASSERT_FALSE(HasFailure());
  for (std::string_view point : all_fault_points()) {
    SCOPED_TRACE(point);
    if (point.starts_with("revert.") || !takes(point)) {
      continue;
    }
    const CommandResult applied = while_at(point, [&] {
      kill(victim().pid(), SIGKILL);
      EXPECT_TRUE(comes_to('Z'));
    });
    EXPECT_EQ(applied.exit_code, 0) << applied.both();
    EXPECT_TRUE(names(applied.out, is_after_apply(point) ? "patched" : "gone")) << applied.both();
    EXPECT_EQ(victim().finish(), 128 + SIGKILL);
    start_victim();
    ASSERT_FALSE(HasFailure());
  }
}

class Threads : public Fault {
 protected:
  size_t count_threads() {
    const auto tasks = std::filesystem::directory_iterator(this->tasks());
    return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
  }
  std::string tasks() { return "/proc/" + std::to_string(victim().pid()) + "/task"; }
  void await_threads(size_t count) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (count_threads() != count && std::chrono::steady_clock::now() < deadline) {
    }
    EXPECT_EQ(count_threads(), count);
  }
  bool stands_still() {
    for (const auto& task : std::filesystem::directory_iterator(tasks())) {
      const std::string stat = read_text(task.path() / "stat");
      const size_t end = stat.rfind(") ");
      if (end == std::string::npos || stat[end + 2] != 't') {
        return false;
      }
    }
    return true;
  }

  // While qpatch stands at `point` the signal makes a thread, or ends one: there and then, or, where
  // everything stands still, as soon as it runs again.
  void do_while(const std::string& verb, const std::string& which, std::string_view point,
                int signal) {
    const size_t count = signal == SIGUSR1 ? count_threads() + 1 : count_threads() - 1;
    StoppedCommand command(std::string(point), [&] { return on_victim(verb, which); });
    ASSERT_TRUE(command.is_stopped()) << point;
    kill(victim().pid(), signal);
    while (count_threads() != count && !stands_still()) {
    }
    const CommandResult result = command.go_on();
    EXPECT_EQ(result.exit_code, 0) << result.both();
    await_threads(count);
    for (const auto& task : std::filesystem::directory_iterator(tasks())) {
      const std::string status = read_text(task.path() / "status");
      EXPECT_TRUE(status.empty() || status.find("TracerPid:\t0\n") != std::string::npos) << status;
    }
  }
};

// Claim: a thread that is born, or ends, at any step of apply or revert is in the new code, or in the old,
// like all others, and nothing is left.
TEST_P(Threads, come_and_go_at_any_step) {
  ASSERT_FALSE(HasFailure());
  await_threads(3);
  const Snapshot before = snapshot();
  for (std::string_view point : all_fault_points()) {
    SCOPED_TRACE(point);
    if (!takes(point)) {
      continue;
    }
    const bool reverting = point.starts_with("revert.");
    for (const int signal : {SIGUSR1, SIGUSR2}) {
      if (reverting) {
        must("apply", patch_);
      } else {
        do_while("apply", patch_, point, signal);
      }
      EXPECT_EQ(victim().ask("value"), "7");
      const std::string id = only_listed().id;
      if (reverting) {
        do_while("revert", id, point, signal);
      } else {
        must("revert", id);
      }
      EXPECT_EQ(victim().ask("value"), "6");
      EXPECT_EQ(victim().ask("wrong"), "0");
      const Snapshot after = snapshot();
      EXPECT_TRUE(after.text == before.text) << "its code is not what it was";
      EXPECT_TRUE(after.files == before.files) << "its open files are not what they were";
      ASSERT_FALSE(HasFailure());
    }
  }
  EXPECT_EQ(victim().finish(), 0);
}

// A detour of two parts; and another libc, with its own way home.
std::vector<Instance> with_musl() {
  std::vector<Instance> out;
  for (const Instance& instance : scenario(QP_CASES, "function_pointer_compared")) {
    if (instance.how.compiler == "musl-gcc" && !instance.how.is_static) {
      out.push_back(instance);
    }
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Islands, Fault, testing::ValuesIn(scenario(QP_CASES, "short_functions")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Musl, Fault, testing::ValuesIn(with_musl()), instance_name);
INSTANTIATE_TEST_SUITE_P(Islands, EarlyDeath,
                         testing::ValuesIn(scenario(QP_CASES, "short_functions")), instance_name);
INSTANTIATE_TEST_SUITE_P(Musl, EarlyDeath, testing::ValuesIn(with_musl()), instance_name);
INSTANTIATE_TEST_SUITE_P(Case, EarlyDeath, testing::ValuesIn(scenario(QP_CASES, "simple_change")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Case, Outside,
                         testing::Values(scenario(QP_CASES, "simple_change").front()),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Hooks, NextCommand,
                         testing::Values(scenario(QP_CASES, "hooks_of_all_kinds").front()),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, Threads,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "threads_come_and_go")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, OwnJumps, testing::ValuesIn(scenario(QP_SCENARIOS, "own_jumps")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Case, KeptImage,
                         testing::Values(scenario(QP_CASES, "new_function_table").front()),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Case, NextCommand,
                         testing::Values(scenario(QP_CASES, "simple_change").front()),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Case, Fault, testing::ValuesIn(scenario(QP_CASES, "simple_change")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Hooks, Fault, testing::ValuesIn(scenario(QP_CASES, "hooks_of_all_kinds")),
                         instance_name);

}  // namespace
}  // namespace qp::live
