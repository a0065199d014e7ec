// What the process does by itself while qpatch stands at a step: it forks, runs another program, ends.
// Where everything stands still it does so as soon as it runs again.

#include <csignal>
#include <filesystem>

#include "base/fault.h"
#include "harness/fault_point.h"
#include "harness/live_case.h"
#include "harness/stopped_command.h"

namespace qp::live {
namespace {

class OnItsOwn : public LiveCase {
 protected:
  void SetUp() override {
    LiveCase::SetUp();
    prepare();
    patch_ = build_patch();
  }
  // Of a patch without hooks.
  static std::vector<std::string_view> steps() {
    std::vector<std::string_view> out = all_fault_points();
    std::erase_if(out, [](std::string_view point) { return point.starts_with("hook."); });
    return out;
  }
  // The signal comes while qpatch stands at `point`.
  CommandResult signalled(const std::string& verb, const std::string& which, std::string_view point,
                          int signal) {
    StoppedCommand command(std::string(point), [&] { return on_victim(verb, which); });
    EXPECT_TRUE(command.is_stopped()) << point;
    const std::string proc = "/proc/" + std::to_string(victim().pid());
    const std::string program = read_text(proc + "/auxv");  // where its stack is, and more
    kill(victim().pid(), signal);
    seen_ = await_effect(signal, proc, program);
    return command.go_on();
  }
  // The same, at a step of apply or of revert.
  CommandResult signalled(std::string_view point, int signal) {
    if (!point.starts_with("revert.")) {
      return signalled("apply", patch_, point, signal);
    }
    must("apply", patch_);
    return signalled("revert", only_listed().id, point, signal);
  }
  // Until it has forked, is another program, or is gone; false: it can't yet, because a thread that would have
  // to end stands still, or all do.
  static bool await_effect(int signal, const std::string& proc, const std::string& program) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
      size_t threads = 0, still = 0;
      bool forked = false;
      std::error_code none;
      for (const auto& task : std::filesystem::directory_iterator(proc + "/task", none)) {
        const std::string stat = read_text(task.path() / "stat");
        const size_t end = stat.rfind(") ");
        still += end != std::string::npos && stat[end + 2] == 't' ? 1 : 0;
        forked |= !read_text(task.path() / "children").empty();
        ++threads;
      }
      if (signal == SIGUSR1 ? forked : threads < 3 || read_text(proc + "/auxv") != program) {
        return true;
      }
      if (signal == SIGUSR1 ? still == threads : still > 0) {
        return false;
      }
    }
    return false;
  }

  // Of a process that was seen to call exec, or to end, while qpatch stood before the switch.
  void expect_gone_if_seen(std::string_view point, const CommandResult& result) const {
    const bool runs = point == "plan.done" || point == "switch.looked";
    EXPECT_TRUE(seen_ || !runs) << "all its threads run here";
    if (seen_ && (runs || point.starts_with("stage."))) {
      EXPECT_TRUE(names(result.out, "gone")) << result.both();
    }
  }
  // But for signals: those that a thread waits for are not blocked meanwhile, as /proc shows it.
  void expect_as(const Snapshot& before) {
    Snapshot now = snapshot();
    now.threads = before.threads;
    EXPECT_EQ(left_behind(before, now), "");
    EXPECT_EQ(now.tracer, 0);
  }

  std::string patch_;
  bool seen_ = false;  // await_effect()'s answer
};

// Claim: a child that is forked at any step of apply or revert works; `recover` and `revert` make it what the
// program was, and the parent is patched, or reverted, as if it had none.
TEST_P(OnItsOwn, fork_at_any_step) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  for (std::string_view point : steps()) {
    SCOPED_TRACE(point);
    const bool reverting = point.starts_with("revert.");
    for (const bool cleaned : {false, true}) {
      const CommandResult applied =
          reverting ? must("apply", patch_) : signalled("apply", patch_, point, SIGUSR1);
      EXPECT_EQ(applied.exit_code, 0) << applied.both();
      EXPECT_EQ(victim().ask("value"), "7");
      const std::string id = only_listed().id;
      if (reverting) {
        const CommandResult reverted = signalled("revert", id, point, SIGUSR1);
        EXPECT_EQ(reverted.exit_code, 0) << reverted.both();
        EXPECT_EQ(victim().ask("value"), "6");
      }
      std::string child = victim().ask("child");
      while (child == "0") {
        child = victim().ask("child");
      }
      if (cleaned) {
        const CommandResult recovered = dir().qpatch({"recover", "--pid", child});
        EXPECT_EQ(recovered.exit_code, 0) << recovered.both();
        const CommandResult gone = dir().qpatch({"revert", "all", "--pid", child});
        EXPECT_TRUE(gone.exit_code == 0 || names(gone.both(), "nothing to revert")) << gone.both();
        const Snapshot after = take_snapshot(std::stoi(child));
        EXPECT_TRUE(after.text == before.text) << "its code is not what it was";
        for (const MappedRange& m : after.mappings) {
          EXPECT_EQ(m.name.find("qpatch-"), std::string::npos) << m.name;
        }
        EXPECT_EQ(victim().ask("reap"), "6");
      } else {
        const std::string answer = victim().ask("reap");
        EXPECT_TRUE(answer == "6" || answer == "7") << answer;
      }
      if (!reverting) {
        must("revert", id);
      }
      expect_as(before);
      ASSERT_FALSE(HasFailure());
    }
  }
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: a process that runs its program anew at any step is not the one that was patched; it works, holds
// nothing of qpatch, and can be patched.
TEST_P(OnItsOwn, exec_at_any_step) {
  ASSERT_FALSE(HasFailure());
  for (std::string_view point : steps()) {
    SCOPED_TRACE(point);
    const CommandResult result = signalled(point, SIGUSR2);
    EXPECT_EQ(result.exit_code, 0) << result.both();
    expect_gone_if_seen(point, result);
    EXPECT_EQ(victim().hear(), "ready");
    EXPECT_EQ(victim().ask("value"), "6");
    const Snapshot anew = snapshot();
    for (const MappedRange& m : anew.mappings) {
      EXPECT_EQ(m.name.find("qpatch-"), std::string::npos) << m.name;
    }
    EXPECT_TRUE(listed().empty());
    must("apply", patch_);
    EXPECT_EQ(victim().ask("value"), "7");
    must("revert", only_listed().id);
    expect_as(anew);
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: a process that ends by itself at any step ends as it would have.
TEST_P(OnItsOwn, exit_at_any_step) {
  ASSERT_FALSE(HasFailure());
  for (std::string_view point : steps()) {
    SCOPED_TRACE(point);
    const CommandResult result = signalled(point, SIGTERM);
    EXPECT_EQ(result.exit_code, 0) << result.both();
    expect_gone_if_seen(point, result);
    EXPECT_EQ(victim().finish(), 9);
    start_victim();
    ASSERT_FALSE(HasFailure());
  }
}

INSTANTIATE_TEST_SUITE_P(Scenario, OnItsOwn,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "exec_exit_fork")),
                         instance_name);

}  // namespace
}  // namespace qp::live
