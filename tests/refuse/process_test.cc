// Refusals that the process causes: it is another one, somebody else is at it, it has no room, it
// was left half done. qpatch must find out before it writes anything (P7), and the process must be
// as it was. Where the cause can be taken away the test takes it away and shows that the same patch
// applies: otherwise a patch that never works would pass as well.

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "harness/live_case.h"
#include "harness/stopped_command.h"

namespace qp::live {
namespace {

class ProcessCase : public LiveCase {
 protected:
  void make_patch() {
    prepare();
    patch_ = build_patch();
  }

  // `check` and `apply` say this id with this exit code; the victim is untouched.
  void expect_refused(const std::string& id, int exit_code, const std::string& thing = "") {
    const Snapshot before = snapshot();
    for (const char* verb : {"check", "apply"}) {
      const CommandResult result = on_victim(verb, patch_, {"--timeout", "1s"});
      EXPECT_EQ(result.exit_code, exit_code) << verb << ":\n" << result.both();
      EXPECT_TRUE(names(result.both(), id)) << verb << ":\n" << result.both();
      EXPECT_NE(result.both().find(thing), std::string::npos) << verb << ":\n" << result.both();
      expect_untouched(before);
    }
  }

  void expect_applicable(const std::string& ask, const std::string& old_answer,
                         const std::string& new_answer) {
    EXPECT_EQ(victim().ask(ask), old_answer);
    must("apply", patch_);
    EXPECT_EQ(victim().ask(ask), new_answer);
    must("revert", only_listed().id);
    EXPECT_EQ(victim().ask(ask), old_answer);
  }

  std::string patch_;
};

// One of them, with libc in it.
std::vector<Instance> linked_statically(const std::vector<Instance>& instances) {
  for (Instance instance : instances) {
    if (!instance.how.pie) {
      instance.what.link_flags.emplace_back("-static");
      return {instance};
    }
  }
  return {};
}

// CAP_SYS_ADMIN in the set of effective capabilities (capabilities(7), proc(5): CapEff).
bool has_sys_admin() {
  const std::string status = read_text("/proc/self/status");
  const size_t at = status.find("CapEff:");
  return at != std::string::npos &&
         (std::stoull(status.substr(at + 7), nullptr, 16) >> 21 & 1) != 0;
}

class AnyProcess : public ProcessCase {};
class SuspendedContext : public ProcessCase {};
class KeptJmpBuf : public ProcessCase {};
class MappedContext : public ProcessCase {};
class OwnBreakpoint : public ProcessCase {};
class SharedText : public ProcessCase {};
class MovedText : public ProcessCase {};
class NoRoom : public ProcessCase {};
class Filtered : public ProcessCase {};

// Refusal: not-in-process
// Claim: a process that does not use the target is refused.
TEST_P(AnyProcess, of_another_program_is_refused) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  for (const char* verb : {"check", "apply"}) {
    const CommandResult result = dir().qpatch({verb, patch_, "--pid", std::to_string(getpid())});
    EXPECT_EQ(result.exit_code, 3) << result.both();
    EXPECT_TRUE(names(result.both(), "not-in-process")) << result.both();
  }
}

// Claim: a process of another build of the same program in which the function differs (it has the
// fix already) is refused.
TEST_P(AnyProcess, of_another_build_is_refused) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  Victim other(workshop().build_oracle());
  const Snapshot before = take_snapshot(other.pid());
  const CommandResult result =
      dir().qpatch({"apply", patch_, "--pid", std::to_string(other.pid())});
  EXPECT_EQ(result.exit_code, 3) << result.both();
  EXPECT_TRUE(names(result.both(), "code-differs") ||
              (how().stripped && names(result.both(), "function-missing")))
      << result.both();
  EXPECT_EQ(left_behind(before, take_snapshot(other.pid())), "");
}

// Refusal: traced
// Claim: a process that is traced is refused, the tracer is named, and the tracer keeps it.
TEST_P(AnyProcess, that_is_traced_is_refused) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  ASSERT_EQ(ptrace(PTRACE_SEIZE, victim().pid(), nullptr, nullptr), 0) << strerror(errno);
  for (const char* verb : {"check", "apply"}) {
    const CommandResult result = on_victim(verb, patch_, {"--timeout", "1s"});
    EXPECT_EQ(result.exit_code, 4) << verb << ":\n" << result.both();
    EXPECT_TRUE(names(result.both(), "traced")) << verb << ":\n" << result.both();
    EXPECT_TRUE(names(result.both(), std::to_string(getpid()))) << verb << ":\n" << result.both();
  }
  EXPECT_EQ(snapshot().tracer, getpid());
  ASSERT_EQ(ptrace(PTRACE_INTERRUPT, victim().pid(), nullptr, nullptr), 0);
  ASSERT_EQ(waitpid(victim().pid(), nullptr, __WALL), victim().pid());
  ASSERT_EQ(ptrace(PTRACE_DETACH, victim().pid(), nullptr, nullptr), 0);
  expect_applicable("1", "2", "3");
}

// Refusal: not-executed
// Claim: in a process that reads the target's code and runs something else made of it, nothing that we
// write would have an effect; it is refused.
TEST_P(AnyProcess, that_emulates_the_target_is_refused) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  Victim emulator(QP_EMULATOR, target().string());
  for (const char* verb : {"check", "apply"}) {
    const CommandResult result =
        dir().qpatch({verb, patch_, "--pid", std::to_string(emulator.pid())});
    EXPECT_EQ(result.exit_code, 3) << result.both();
    EXPECT_TRUE(names(result.both(), "not-executed")) << result.both();
  }
  EXPECT_EQ(emulator.finish(), 0);
}

// Refusal: not-applied
// Claim: revert of a patch that is not applied is refused, and so is one of an id that nobody
// knows.
TEST_P(AnyProcess, without_the_patch_can_not_be_reverted) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  must("apply", patch_);
  const std::string id = only_listed().id;
  must("revert", id);
  const Snapshot before = snapshot();
  for (const std::string& which : {id, std::string("zzzzzzzz")}) {
    const CommandResult result = on_victim("revert", which);
    EXPECT_EQ(result.exit_code, 3) << result.both();
    EXPECT_TRUE(names(result.both(), "not-applied")) << result.both();
  }
  expect_untouched(before);
}

// Claim: a PID that does not exist is a failure, and is named.
TEST_P(AnyProcess, that_does_not_exist_is_a_failure) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  // Larger than any pid_max (Linux: PID_MAX_LIMIT is 2^22).
  const CommandResult result = dir().qpatch({"apply", patch_, "--pid", "4194399"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_TRUE(names(result.both(), "4194399")) << result.both();
}

// Claim: a file that is no patch is a failure and touches no process.
TEST_P(AnyProcess, is_not_touched_by_a_bad_file) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  const std::string good = read_text(patch_);
  const std::vector<std::string> bad_files = {"", "no patch at all",
                                              good.substr(0, good.size() / 2), read_text(target())};
  for (const std::string& bad : bad_files) {
    dir().write_file("bad.qp", bad);
    const CommandResult result = on_victim("apply", dir().path() / "bad.qp");
    EXPECT_EQ(result.exit_code, 1) << result.both();
    EXPECT_TRUE(names(result.both(), "bad-file")) << result.both();
    expect_untouched(before);
  }
}

// A word in the registry of the applied patch, which lies at the start of the writable part of the
// image (the new writable mapping of a name).
class DamagedRegistry : public ProcessCase {
 protected:
  void apply_and_find() {
    make_patch();
    const Snapshot before = snapshot();
    must("apply", patch_);
    id_ = only_listed().id;
    for (const MappedRange& m : snapshot().mappings) {
      const bool old = std::any_of(before.mappings.begin(), before.mappings.end(),
                                   [&](const MappedRange& b) { return b.start == m.start; });
      if (!old && m.rights.starts_with("rw") && registry_ == 0) {
        registry_ = m.start;
      }
    }
    EXPECT_NE(registry_, 0U) << "no new writable mapping";
  }

  std::string swap_bytes(uint64_t offset, std::string bytes) {
    const std::string path = "/proc/" + std::to_string(victim().pid()) + "/mem";
    const int memory = open(path.c_str(), O_RDWR | O_CLOEXEC);
    std::string old(bytes.size(), '\0');
    const auto at = static_cast<off_t>(registry_ + offset);
    EXPECT_EQ(pread(memory, old.data(), old.size(), at), static_cast<ssize_t>(old.size()));
    EXPECT_EQ(pwrite(memory, bytes.data(), bytes.size(), at), static_cast<ssize_t>(bytes.size()));
    close(memory);
    return old;
  }

  void expect_refused_until_restored(uint64_t offset, const std::string& bytes,
                                     const std::string& id) {
    const std::string old = swap_bytes(offset, bytes);
    const Snapshot before = snapshot();
    const std::vector<std::vector<std::string>> commands = {{"revert", id_}, {"apply", patch_}};
    for (const std::vector<std::string>& command : commands) {
      const CommandResult result = on_victim(command[0], command[1]);
      EXPECT_EQ(result.exit_code, 9) << command[0] << ":\n" << result.both();
      EXPECT_TRUE(names(result.both(), id)) << command[0] << ":\n" << result.both();
      expect_untouched(before);
    }
    const CommandResult shown = on_victim("list", "");
    EXPECT_EQ(shown.exit_code, 9) << "qpatch list:\n" << shown.both();
    EXPECT_TRUE(names(shown.both(), "fault")) << "qpatch list:\n" << shown.both();
    EXPECT_EQ(victim().ask("1"), "3");
    swap_bytes(offset, old);
    must("revert", id_);
    EXPECT_EQ(victim().ask("1"), "2");
  }

  std::string id_;
  uint64_t registry_ = 0;
};

// Refusal: registry-damaged
// Claim: a registry that the process wrote over is neither trusted nor ignored.
TEST_P(DamagedRegistry, is_reported) {
  apply_and_find();
  ASSERT_FALSE(HasFailure());
  expect_refused_until_restored(40, "scribble", "registry-damaged");
}

// Refusal: interrupted
// Claim: a registry in the state `committing`, as a killed run leaves it, is reported by check and list,
// which change nothing; revert undoes it.
TEST_P(DamagedRegistry, half_done_is_reported) {
  apply_and_find();
  ASSERT_FALSE(HasFailure());
  swap_bytes(12, std::string("\2\0\0\0", 4));
  const Snapshot before = snapshot();
  const CommandResult checked = on_victim("check", patch_), shown = on_victim("list", "");
  EXPECT_EQ(checked.exit_code, 9) << checked.both();
  EXPECT_TRUE(names(checked.both(), "interrupted")) << checked.both();
  EXPECT_EQ(shown.exit_code, 9) << shown.both();
  EXPECT_TRUE(names(shown.both(), "fault")) << shown.both();
  expect_untouched(before);
  EXPECT_EQ(victim().ask("1"), "3");
  EXPECT_TRUE(names(must("revert", id_).both(), "recovered"));
  EXPECT_EQ(victim().ask("1"), "2");
}

// Claim: a coroutine that waits inside the function is on no thread's stack; it keeps the process
// busy like a thread, is named, and when it has left the patch applies.
TEST_P(SuspendedContext, inside_keeps_the_process_busy) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  for (const char* verb : {"check", "apply"}) {
    const CommandResult result = on_victim(verb, patch_, {"--timeout", "200ms"});
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_TRUE(names(result.both(), "suspended")) << result.both();
    EXPECT_TRUE(names(result.both(), "value")) << result.both();
    expect_untouched(before);
  }
  EXPECT_EQ(victim().ask("resume"), "2");
  must("apply", patch_);
  must("revert", only_listed().id);
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: a coroutine that is suspended inside between the look at the memory and the switch makes
// qpatch take the switch back; it finishes the old code, and then the patch applies.
TEST_P(SuspendedContext, that_comes_too_late_is_seen) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  EXPECT_EQ(victim().ask("resume"), "2");
  const Snapshot before = snapshot();
  StoppedCommand apply("switch.looked", [&] { return on_victim("apply", patch_); });
  ASSERT_TRUE(apply.is_stopped());
  EXPECT_EQ(victim().ask("suspend"), "0");
  const CommandResult result = apply.go_on();
  EXPECT_EQ(result.exit_code, 4) << result.both();
  EXPECT_TRUE(names(result.both(), "suspended")) << result.both();
  EXPECT_TRUE(names(result.both(), "value")) << result.both();
  EXPECT_TRUE(listed().empty());
  EXPECT_EQ(left_behind(before, snapshot(), names(result.both(), "kept")), "");
  EXPECT_EQ(victim().ask("resume"), "2");
  must("apply", patch_);
  must("revert", only_listed().id);
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: a jmp_buf is found although glibc mangles the address in it; musl does not.
TEST_P(KeptJmpBuf, keeps_the_process_busy) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  const CommandResult result = on_victim("apply", patch_, {"--timeout", "100ms"});
  EXPECT_EQ(result.exit_code, 4) << result.both();
  const bool mangled = how().compiler != "musl-gcc";
  EXPECT_TRUE(names(result.both(), mangled ? "jmp_buf" : "suspended")) << result.both();
  expect_untouched(before);
  EXPECT_EQ(victim().ask("forget"), "forgotten");
  must("apply", patch_);
  must("revert", only_listed().id);
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: a context is found where the kernel has joined its memory with a thread's control block.
TEST_P(MappedContext, keeps_the_process_busy) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  const CommandResult result = on_victim("apply", patch_, {"--timeout", "100ms"});
  EXPECT_EQ(result.exit_code, 4) << result.both();
  EXPECT_TRUE(names(result.both(), "suspended")) << result.both();
  expect_untouched(before);
  EXPECT_EQ(victim().ask("resume"), "2");
  must("apply", patch_);
  must("revert", only_listed().id);
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: with --consistency thread the patch is applied meanwhile, and the coroutine finishes the old
// code.
TEST_P(SuspendedContext, may_finish_old_code) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  must("apply", patch_, {"--consistency", "thread"});
  EXPECT_EQ(victim().ask("resume"), "2");
  must("revert", only_listed().id);
  EXPECT_EQ(victim().finish(), 0);
}

// Refusal: text-modified
// Claim: an int3 on the function's first byte is refused and left there; without it the patch
// applies.
TEST_P(OwnBreakpoint, is_refused) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  ASSERT_EQ(victim().ask("set"), "set");
  expect_refused("text-modified", 3, "value");
  ASSERT_EQ(victim().ask("unset"), "unset");
  expect_applicable("call", "2", "3");
}

// Refusal: text-not-private
// Claim: text in a shared mapping is refused.
TEST_P(SharedText, is_refused) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  expect_refused("text-not-private", 3);
  EXPECT_EQ(victim().ask("call"), "2");
}

// Claim: so is code that is not in the file's mappings any more.
TEST_P(MovedText, is_refused) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  expect_refused("text-not-private", 3);
  EXPECT_EQ(victim().ask("call"), "2");
}

// Refusal: no-room
// Claim: no free address within 2 GiB is refused, if an instruction can not do without.
TEST_P(NoRoom, is_refused) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  expect_refused("no-room", 3);
  EXPECT_EQ(victim().ask("call"), "2");
}

// Refusal: seccomp
// Claim: a filter that kills for mmap is found out before it can strike, by a qpatch that may not
// suspend it (no CAP_SYS_ADMIN).
TEST_P(Filtered, is_refused_without_the_right_to_suspend_it) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  const CommandResult result =
      dir().run({"setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin",
                 qpatch_program(), "apply", patch_, "--pid", std::to_string(victim().pid())});
  EXPECT_EQ(result.exit_code, 3) << result.both();
  EXPECT_TRUE(names(result.both(), "seccomp")) << result.both();
  expect_untouched(before);
  EXPECT_EQ(victim().ask("call"), "2");
}

// Refusal: hook-impossible
// Claim: a patch with hooks is refused by a process with a seccomp filter, since a hook's calls would
// not be filtered.
TEST_P(Filtered, has_no_hooks) {
  prepare();
  patch_ = build_patch(dir().path() / "hooks.patch", "hooks.qp");
  ASSERT_FALSE(HasFailure());
  expect_refused("hook-impossible", 3, "seccomp");
  EXPECT_EQ(victim().ask("call"), "2");
}

// Claim: with CAP_SYS_ADMIN the filter is suspended for qpatch's own calls, and stays for the
// process.
TEST_P(Filtered, is_suspended_with_the_right_to) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  if (!has_sys_admin()) {
    GTEST_SKIP() << "the test has no CAP_SYS_ADMIN";
  }
  must("apply", patch_);
  EXPECT_EQ(victim().ask("call"), "3");
  must("revert", only_listed().id);
  EXPECT_EQ(victim().ask("call"), "2");
  const std::string status = read_text("/proc/" + std::to_string(victim().pid()) + "/status");
  EXPECT_NE(status.find("Seccomp:\t2"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Scenario, AnyProcess, testing::ValuesIn(scenario(QP_SCENARIOS, "plain")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, DamagedRegistry,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "plain")), instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, SuspendedContext,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "suspended_context")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, KeptJmpBuf,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "kept_jmp_buf")), instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, MappedContext,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "mapped_context")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Static, SuspendedContext,
                         testing::ValuesIn(linked_statically(scenario(QP_SCENARIOS,
                                                                      "suspended_context"))),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(OwnSwitch, SuspendedContext,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "own_switch")), instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, OwnBreakpoint,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "own_breakpoint")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, SharedText,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "shared_text")), instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, MovedText,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "moved_text")), instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, NoRoom, testing::ValuesIn(scenario(QP_SCENARIOS, "no_room")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, Filtered, testing::ValuesIn(scenario(QP_SCENARIOS, "filtered")),
                         instance_name);

}  // namespace
}  // namespace qp::live
