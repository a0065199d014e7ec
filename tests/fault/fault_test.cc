// All or nothing (P2): whichever step of a transaction fails, the process is as it was, and the same
// command succeeds afterwards. The steps are the fault points of the program that is shipped; the
// list is its own (base/fault.h), so that a new step without a test can't exist, and a step that is
// never reached fails here because the command succeeds.

#include "base/fault.h"

#include <csignal>
#include <cstdlib>

#include "harness/live_case.h"

namespace qp::live {
namespace {

constexpr const char* kAfterApply = "commit.done";

class FaultPoint {
 public:
  explicit FaultPoint(std::string_view name, const char* how = "QPATCH_FAULT") : how_(how) {
    setenv(how_, std::string(name).c_str(), 1);
  }
  FaultPoint(const FaultPoint&) = delete;
  FaultPoint& operator=(const FaultPoint&) = delete;
  ~FaultPoint() { unsetenv(how_); }

 private:
  const char* how_;
};

class Fault : public LiveCase {
 protected:
  void SetUp() override {
    LiveCase::SetUp();
    prepare();
    patch_ = build_patch();
  }

  // Steps that only a patch with hooks goes through.
  bool takes(std::string_view point) const {
    return !point.starts_with("hook.") || what().name.starts_with("hooks");
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
    if (point.starts_with("revert.") || point == kAfterApply || !takes(point)) {
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
    if (point == kAfterApply || !takes(point)) {
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

// Claim: what fails, or dies, after the patch is applied changes nothing of that: apply says that it
// is applied, or it is found to be.
TEST_P(Fault, after_the_switch_leaves_the_patch_applied) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  {
    FaultPoint fault(kAfterApply);
    const CommandResult applied = must("apply", patch_);
    EXPECT_TRUE(names(applied.both(), "patched")) << applied.both();
    EXPECT_NE(applied.both().find("could not be looked for"), std::string::npos) << applied.both();
  }
  expect_new("after apply");
  expect_untouched(before, must("revert", only_listed().id).both());

  killed_at(kAfterApply, "apply", patch_);
  if (takes("hook.entered")) {  // one hook was still to come, and the stack of all is left
    EXPECT_EQ(victim().ask(what().probes.front().ask), "254");
    EXPECT_TRUE(names(must("recover", "").both(), "recovered"));
    EXPECT_EQ(victim().ask(what().probes.front().ask), "254") << "the patch stays";
    return;
  }
  expect_new("after the death of qpatch");
  EXPECT_TRUE(names(must("recover", "").both(), "nothing to recover"));
  EXPECT_TRUE(names(must("apply", patch_).both(), "already"));
  expect_untouched(before, must("revert", only_listed().id).both());
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
INSTANTIATE_TEST_SUITE_P(Case, Fault, testing::ValuesIn(scenario(QP_CASES, "simple_change")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Hooks, Fault, testing::ValuesIn(scenario(QP_CASES, "hooks_of_all_kinds")),
                         instance_name);

}  // namespace
}  // namespace qp::live
