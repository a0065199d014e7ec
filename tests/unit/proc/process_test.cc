#include "proc/process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "proc/borrow.h"
#include "proc/freeze.h"
#include "victim.h"

namespace qp::proc {
namespace {

using test::state_of;
using test::until;
using test::Victim;

std::string error_code(pid_t pid) {
  try {
    Process::open(pid);
    return "";
  } catch (const Error& e) {
    return e.code();
  }
}

// Claim: a number that is no process is Error{no-process}, also that of a thread and of a zombie.
TEST(Process, NoSuchProcess) {
  EXPECT_EQ(error_code(0x3fffffff), "no-process");
  EXPECT_EQ(error_code(-1), "no-process");
  pid_t zombie = ::fork();
  if (zombie == 0) {
    ::_exit(0);
  }
  until([&] { return state_of(zombie, zombie) == 'Z'; }, "it is dead");
  EXPECT_EQ(error_code(zombie), "no-process");
  ::waitpid(zombie, nullptr, 0);
  test::Shared<std::atomic<pid_t>> thread;
  Victim victim([&](const auto& ready) {
    std::thread([&] {
      *thread = test::this_tid();
      test::just_sleep(ready);
    }).join();
  });
  EXPECT_EQ(error_code(*thread), "no-process");
}

// Claim: `alive` ends with the process, before anybody has waited for it.
TEST(Process, AliveEndsWithTheProcess) {
  Victim victim(test::just_sleep);
  Process process = Process::open(victim.pid());
  EXPECT_TRUE(process.alive());
  ::kill(victim.pid(), SIGKILL);
  until([&] { return !process.alive(); }, "it is dead");
  EXPECT_TRUE(process.mappings().empty());
  EXPECT_TRUE(process.modules().empty());
}

// Claim: the program's name is its file's, and thread names are shown with what is unprintable
// escaped.
TEST(Process, Names) {
  Victim victim([](const auto& ready) {
    ::prctl(PR_SET_NAME, "a\033) R 1\nb");
    test::just_sleep(ready);
  });
  Process process = Process::open(victim.pid());
  EXPECT_EQ(process.program(), std::filesystem::read_symlink("/proc/self/exe").filename().string());
  EXPECT_EQ(process.thread_name(victim.pid()), "a\\033) R 1\\012b");
  EXPECT_EQ(process.threads(), std::vector<pid_t>{victim.pid()});
  EXPECT_EQ(process.tracer(), std::nullopt);
  EXPECT_TRUE(process.same_mount_namespace());
}

// Claim: a process with a dead group leader is seen through the threads that live.
TEST(Process, DeadGroupLeader) {
  Victim victim([](const auto& ready) {
    std::thread([&] { test::just_sleep(ready); }).detach();
    ::syscall(SYS_exit, 0);
  });
  until([&] { return state_of(victim.pid(), victim.pid()) == 'Z'; }, "the leader is dead");
  Process process = Process::open(victim.pid());
  EXPECT_TRUE(process.alive());
  EXPECT_EQ(process.program(), std::filesystem::read_symlink("/proc/self/exe").filename().string());
  EXPECT_FALSE(process.mappings().empty());
  std::vector<Module> modules = process.modules();
  ASSERT_FALSE(modules.empty());
  EXPECT_NE(modules[0].file, nullptr);
  std::array<std::byte, 4> magic;
  EXPECT_TRUE(process.memory().try_read(modules[0].range.start, magic));
  EXPECT_TRUE(process.same_mount_namespace());
  EXPECT_THAT(all_processes(), testing::Contains(victim.pid()));
}

// Another process of this number (clone3(2), set_tid). −1: not allowed.
pid_t fork_as(pid_t number) {
  struct {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size;
  } arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<uint64_t>(&number);
  arguments.set_tid_size = 1;
  return static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
}

// Claim: a process that died is not taken for the one that has its number now; that one is left as it
// was.
TEST(Process, NumberOfAnother) {
  auto victim = std::make_unique<Victim>(test::just_sleep);
  const pid_t number = victim->pid();
  const Process process = Process::open(number);
  victim.reset();
  const pid_t other = fork_as(number);
  if (other == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    test::sleep_for_ever();
  }
  if (other < 0) {
    GTEST_SKIP() << "a process with a given number can't be made here: " << std::strerror(errno);
  }
  ASSERT_EQ(other, number);
  EXPECT_FALSE(process.alive());
  EXPECT_TRUE(Frozen::freeze(process).gone());
  EXPECT_FALSE(Borrowed::take(process));
  // The stranger has our stack at the same place.
  EXPECT_THROW(process.memory().write(LiveAddr(reinterpret_cast<uint64_t>(&number)), as_bytes("x")),
               Error);
  uint64_t word = 0;  // nor is anything of the stranger's read
  const ByteSpan bytes = std::as_writable_bytes(std::span(&word, 1));
  const LiveAddr at(reinterpret_cast<uint64_t>(&number));
  EXPECT_EQ(process.memory().read_some(at, bytes), 0u);
  EXPECT_FALSE(process.memory().read_pieces({{at, bytes}}));
  EXPECT_TRUE(Process::open(other).alive());
  until([&] { return test::sleeps(other, other); }, "it sleeps on");
  EXPECT_EQ(test::tracer_of(other, other), 0);
  ::kill(other, SIGKILL);
  ::waitpid(other, nullptr, 0);
}

// Claim: all_processes lists us and no kernel thread.
TEST(Process, AllProcesses) {
  std::vector<pid_t> all = all_processes();
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  EXPECT_THAT(all, testing::Contains(::getpid()));
  EXPECT_THAT(all, testing::Not(testing::Contains(2)));  // kthreadd, where it is seen at all
}

}  // namespace
}  // namespace qp::proc
