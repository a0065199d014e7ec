// Processes that somebody has shut in, emptied, cut off or tied up. Where qpatch needs something of
// the process that it no longer has, it must say so and leave no trace; everywhere else the patch
// goes in and comes out as if the surroundings were ordinary ones.
//
// One target and one patch serve all of them; each is a process of its own. What can only be had
// with rights that a container may lack (mounts, control groups) is skipped there, with the reason.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "harness/live_case.h"

namespace qp::live {
namespace {
namespace fs = std::filesystem;

struct Surroundings {
  std::string enter;         // what the victim is asked to do to itself
  std::string refusal = "";  // empty: the patch applies
  int exit_code = 0;
  std::string names = "";  // what the refusal must mention
  bool threads_come_and_go = false;
};

const std::vector<Surroundings> kByThemselves = {
    // Filters that would kill, stop or cheat a thread that makes a call that it does not make else.
    {"seccomp_kill"},
    {"seccomp_errno"},
    {"seccomp_trap"},
    {"seccomp_trace"},
    {"seccomp_notify"},
    {"seccomp_strict"},
    {"user_dispatch", "seccomp", 3, "PR_SET_SYSCALL_USER_DISPATCH"},
    // Rights that it gave up, or has not got.
    {"no_new_privileges"},
    {"no_exec_gain"},
    {"not_dumpable"},
    {"another_user"},
    {"user_namespace"},
    // Files that it does not see.
    {"other_mounts"},
    {"other_root"},
    // Limits.
    {"no_address_space", "process-limit", 3, "RLIMIT_AS"},
    {"no_descriptors", "process-limit", 3, "RLIMIT_NOFILE"},
    {"no_file_size"},
    {"no_locked_memory"},
    {"all_locked"},
    // Threads.
    {"dead_leader"},
    {.enter = "thread_storm", .threads_come_and_go = true},
    {"real_time"},
    {"foreign_stacks"},
    {"huge_stack"},
    {"uring_thread"},
    {"vfork_parent", "memory-shared", 4, "vfork"},
    {"vfork_alone", "memory-shared", 4, "vfork"},
};

class Surrounded : public LiveCase {
 protected:
  void make_patch() {
    prepare();
    patch_ = build_patch();
    // The id, from a process in which nothing is odd.
    must("apply", patch_);
    id_ = only_listed().id;
    end_victim();
  }

  CommandResult on(pid_t pid, const std::string& verb, const std::string& what) {
    return dir().qpatch({verb, what, "--pid", std::to_string(pid), "--timeout", "1s"});
  }

  // The patch goes in and out. `pid`: of the process that answers.
  void expect_patched(pid_t pid, bool threads_come_and_go = false) {
    const Snapshot before = look(pid, threads_come_and_go);
    const CommandResult applied = on(pid, "apply", patch_);
    ASSERT_EQ(applied.exit_code, 0) << applied.both();
    EXPECT_EQ(victim().ask("1"), "3");
    const CommandResult again = on(pid, "apply", patch_);
    EXPECT_TRUE(names(again.both(), "already")) << again.both();
    const CommandResult reverted = on(pid, "revert", id_);
    ASSERT_EQ(reverted.exit_code, 0) << reverted.both();
    EXPECT_EQ(victim().ask("1"), "2");
    EXPECT_EQ(left_behind(before, look(pid, threads_come_and_go), names(reverted.both(), "kept")),
              "");
  }

  void expect_refused(const Surroundings& s) {
    const Snapshot before = snapshot();
    const CommandResult result = on(victim().pid(), "apply", patch_);
    EXPECT_EQ(result.exit_code, s.exit_code) << result.both();
    EXPECT_TRUE(names(result.both(), s.refusal)) << result.both();
    EXPECT_NE(result.both().find(s.names), std::string::npos) << result.both();
    expect_untouched(before);
    EXPECT_EQ(victim().ask("1"), "2");
  }

  static Snapshot look(pid_t pid, bool threads_come_and_go) {
    Snapshot s = take_snapshot(pid);
    if (threads_come_and_go) {
      s.threads.clear();
    }
    return s;
  }

  fs::path copy_of_target(const std::string& name) {
    const fs::path directory = dir().path() / name;
    fs::create_directories(directory);
    fs::copy_file(target(), directory / "victim");
    return directory / "victim";
  }

  std::string patch_, id_;
};

// Refusal: process-limit
// Claim: whatever a process did to itself, a patch goes in and out, or is refused in words that name
// the obstacle, with the process as it was.
TEST_P(Surrounded, by_themselves) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  for (const Surroundings& s : kByThemselves) {
    SCOPED_TRACE(s.enter);
    start_victim();
    ASSERT_EQ(victim().ask(s.enter), "in");
    ASSERT_EQ(victim().ask("1"), "2");
    if (s.refusal.empty()) {
      expect_patched(victim().pid(), s.threads_come_and_go);
    } else {
      expect_refused(s);
    }
  }
}

// Claim: what stood in the way of a vfork parent is gone when its child is.
TEST_P(Surrounded, until_the_child_has_left) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  start_victim();
  ASSERT_EQ(victim().ask("vfork_parent"), "in");
  expect_refused({"vfork_parent", "memory-shared", 4});
  ASSERT_EQ(victim().ask("vfork_end"), "in");
  expect_patched(victim().pid(), true);
}

// Claim: an executable that was deleted, or replaced by another program, is still the one that the
// process runs.
TEST_P(Surrounded, by_another_file_of_its_name) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  for (const bool replaced : {false, true}) {
    const fs::path program = copy_of_target(replaced ? "replaced" : "deleted");
    start_victim(program);
    ASSERT_EQ(victim().ask("1"), "2");
    fs::remove(program);
    if (replaced) {
      fs::copy_file("/bin/true", program);
    }
    expect_patched(victim().pid());
  }
}

// Claim: a process that was stopped is patched while it is stopped, and stays so.
TEST_P(Surrounded, by_nothing_but_a_stop) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  start_victim();
  ASSERT_EQ(kill(victim().pid(), SIGSTOP), 0);
  int status = 0;
  ASSERT_EQ(waitpid(victim().pid(), &status, WUNTRACED), victim().pid());
  ASSERT_TRUE(WIFSTOPPED(status));
  const CommandResult applied = on(victim().pid(), "apply", patch_);
  EXPECT_EQ(applied.exit_code, 0) << applied.both();
  // A thread that was let go runs through the kernel, back into its stop.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (snapshot().state.front() != 'T' && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::yield();
  }
  EXPECT_EQ(snapshot().state.front(), 'T');
  EXPECT_EQ(waitpid(victim().pid(), &status, WUNTRACED | WCONTINUED | WNOHANG), 0);
  ASSERT_EQ(kill(victim().pid(), SIGCONT), 0);
  EXPECT_EQ(victim().ask("1"), "3");
}

// Claim: a process that has another number in its own PID namespace is found by ours.
TEST_P(Surrounded, by_a_pid_namespace) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  start_victim();
  if (const std::string answer = victim().ask("pid_namespace"); answer != "in") {
    GTEST_SKIP() << "a PID namespace: " << answer;
  }
  const std::string me = std::to_string(victim().pid());
  const std::string child = read_text("/proc/" + me + "/task/" + me + "/children");
  expect_patched(std::stoi(child));
}

// Claim: a program on an overlay file system, in a mount namespace whose root is read-only, is
// patched.
TEST_P(Surrounded, by_an_overlay) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  const std::string base = dir().path() / "over";
  const std::string script = dir().path() / "mount.sh";
  fs::create_directories(base);
  dir().write_file("mount.sh", R"(# target directory command
set -e
mount -t tmpfs none "$2"
cd "$2"
mkdir lower upper work merged
cp "$1" lower/victim
mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work merged
mount -o remount,bind,ro /
exec "$3"
)");
  const std::vector<std::string> command = {"unshare", "-m", "sh", script, target(), base};
  std::vector<std::string> trial = command;
  trial.emplace_back("true");
  if (const CommandResult tried = dir().run(trial); tried.exit_code != 0) {
    GTEST_SKIP() << "an overlay can't be mounted here: " << tried.both();
  }
  std::string start = "#!/bin/sh\nexec";
  for (const std::string& word : command) {
    start += " '" + word + "'";
  }
  dir().write_file("start.sh", start + " " + base + "/merged/victim\n");
  fs::permissions(dir().path() / "start.sh", fs::perms::owner_all);
  start_victim(dir().path() / "start.sh");
  expect_patched(victim().pid());
}

// A control group that the process is put into. It is thawed and taken out of it at the end,
// however the test ends: one that is frozen can't even be killed.
class Group {
 public:
  Group(fs::path parent, const char* file, const char* thaw)
      : parent_(std::move(parent)), file_(file), thaw_(thaw) {
    path_ = parent_ / ("qpatch-test-" + std::to_string(getpid()));
    std::error_code error;
    made_ = fs::create_directory(path_, error);
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  ~Group() {
    if (!made_) {
      return;
    }
    thaw();
    std::istringstream members(read_text(path_ / "cgroup.procs"));
    for (std::string pid; members >> pid;) {
      write(parent_ / "cgroup.procs", pid);
    }
    std::error_code ignored;
    fs::remove(path_, ignored);  // rmdir: its files don't count
  }
  bool enter(pid_t pid) const {
    return made_ && write(path_ / "cgroup.procs", std::to_string(pid));
  }
  bool freeze(const char* word) const { return write(path_ / file_, word); }
  bool thaw() const { return write(path_ / file_, thaw_); }
  // Until the file has the line; at most some seconds.
  bool says(const char* file, const std::string& line) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
      if (("\n" + read_text(path_ / file)).find("\n" + line + "\n") != std::string::npos) {
        return true;
      }
    }
    return false;
  }

 private:
  static bool write(const fs::path& file, const std::string& text) {
    return static_cast<bool>(std::ofstream(file) << text << std::flush);
  }

  fs::path parent_, path_;
  const char *file_, *thaw_;
  bool made_ = false;
};

// Refusal: cgroup-frozen
// Claim: a process in a frozen control group, of either kind, is refused at once and stays frozen;
// when it is thawed the patch applies.
TEST_P(Surrounded, by_a_frozen_group) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  struct Kind {
    const char *parents[2], *file, *freeze, *thaw, *state, *frozen;
  };
  const Kind kinds[] = {
      {{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"},
       "cgroup.freeze",
       "1",
       "0",
       "cgroup.events",
       "frozen 1"},
      {{"/sys/fs/cgroup/freezer", ""},
       "freezer.state",
       "FROZEN",
       "THAWED",
       "freezer.state",
       "FROZEN"},
  };
  int tried = 0;
  for (const Kind& kind : kinds) {
    for (const std::string parent : kind.parents) {
      if (!fs::exists(fs::path(parent) / "cgroup.procs")) {
        continue;
      }
      start_victim();
      const pid_t pid = victim().pid();
      {
        Group group(parent, kind.file, kind.thaw);
        if (!group.enter(pid) || !group.freeze(kind.freeze)) {
          continue;
        }
        SCOPED_TRACE(kind.file);
        ++tried;
        EXPECT_TRUE(group.says(kind.state, kind.frozen));
        const Snapshot before = snapshot();
        for (const char* verb : {"check", "apply"}) {
          const CommandResult result = on(pid, verb, patch_);
          EXPECT_EQ(result.exit_code, 4) << result.both();
          EXPECT_TRUE(names(result.both(), "cgroup-frozen")) << result.both();
          EXPECT_TRUE(group.says(kind.state, kind.frozen));
          expect_untouched(before);
        }
      }
      EXPECT_EQ(victim().ask("1"), "2");
      expect_patched(pid);
    }
  }
  if (tried == 0) {
    GTEST_SKIP() << "no control group can be made here";
  }
}

INSTANTIATE_TEST_SUITE_P(Scenario, Surrounded,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "surroundings")), instance_name);

class Sanitized : public LiveCase {};

// Claim: new code of a program that was built with AddressSanitizer uses the sanitizer that is
// there.
TEST_P(Sanitized, by_its_compiler) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  expect_answers(victim(), &Probe::before, "before apply");
  must("apply", patch);
  expect_answers(victim(), &Probe::after, "after apply");
  const CommandResult reverted = must("revert", only_listed().id);
  expect_answers(victim(), &Probe::before, "after revert");
  expect_untouched(before, reverted.both());
}

INSTANTIATE_TEST_SUITE_P(Scenario, Sanitized,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "sanitized")), instance_name);

}  // namespace
}  // namespace qp::live
