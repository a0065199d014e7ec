// What becomes of a borrowed thread when its borrower is killed. The borrower is a process of its own
// here, that borrows and gives back until it is killed at some moment: before, within or between
// its calls. Whenever that is, the thread has to go on as if nothing had been.

#include "proc/way_home.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <random>

#include <gtest/gtest.h>

#include "base/error.h"
#include "blocking_calls.h"
#include "proc/borrow.h"
#include "state_loop.h"
#include "victim.h"

namespace qp::proc {
namespace {

using test::Shared;
using test::sleeps;
using test::until;
using test::Victim;
using Counter = std::atomic<uint64_t>;

// A process that borrows a thread of `pid` again and again, killed after `calls` calls have been
// begun and some time more.
void borrower_dies(pid_t pid, uint64_t calls, unsigned microseconds) {
  Shared<Counter> begun;
  pid_t borrower = ::fork();
  if (borrower == 0) {
    try {
      Process process = Process::open(pid);
      for (;;) {
        auto thread = Borrowed::take(process);
        for (int i = 0; thread && i < 3; ++i) {
          ++*begun;
          thread->call(SYS_getppid);
        }
      }
    } catch (const std::exception&) {
      ::_exit(1);
    }
  }
  until([&] { return *begun >= calls; }, "the borrower works");
  ::usleep(microseconds);
  ::kill(borrower, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(borrower, &status, 0), borrower);
  EXPECT_TRUE(WIFSIGNALED(status)) << "it gave up";
}

// Claim: a thread that computes keeps every register, flag and byte of its red zone, and its signal
// mask, whenever the borrower dies.
TEST(WayHome, OfAComputingThread) {
  struct Seen {
    Counter rounds = 0, wrong = 0;
  };
  Shared<Seen> seen;
  Victim victim([&](const auto& ready) {
    test::CpuState state = test::some_cpu_state();
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    ready();
    for (;;) {
      sigset_t now;
      sigemptyset(&now);
      ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
      bool mask_kept = sigismember(&now, SIGUSR2) == 1 && sigismember(&now, SIGTERM) == 0;
      if (!(test::spin_with(state, 50'000) == state) || !mask_kept) {
        ++seen->wrong;
      }
      ++seen->rounds;
    }
  });
  std::mt19937 random(7);
  for (int i = 0; i < 60; ++i) {
    borrower_dies(victim.pid(), 1 + random() % 5, random() % 300);
    uint64_t then = seen->rounds;
    until([&] { return seen->rounds > then + 2; }, "the victim goes on");
  }
  EXPECT_EQ(seen->wrong, 0u);
  victim.expect_untouched();
}

// Claim: a thread that sleeps in a system call of any kind goes on sleeping and ends its call rightly,
// although the borrower died. Calls that never restart by themselves may say EINTR, if the borrower
// dies before it has the thread's registers; no other result is allowed.
TEST(WayHome, OfASleepingThread) {
  std::vector<test::BlockingCall> calls = test::blocking_calls();
  struct Seen {
    std::atomic<bool> returned = false;
    std::atomic<long> result = 0;
  };
  Shared<std::array<Seen, 128>> slots;
  ASSERT_LE(calls.size(), slots->size());
  std::mt19937 random(11);
  for (size_t i = 0; i < calls.size(); ++i) {
    if (!calls[i].finish) {
      continue;  // it ends by its own timeout, which a restart makes longer
    }
    Seen& seen = (*slots)[i];
    Victim victim([&](const auto& ready) {
      ready();
      seen.result = calls[i].body();
      seen.returned = true;
      test::sleep_for_ever();
    });
    pid_t pid = victim.pid();
    until([&] { return sleeps(pid, pid, calls[i].number); }, calls[i].name + " sleeps");
    for (int round = 0; round < 3; ++round) {
      borrower_dies(pid, 1 + random() % 3, random() % 200);
      until([&] { return sleeps(pid, pid); }, calls[i].name + " sleeps again");
    }
    calls[i].finish(pid, pid);
    until([&] { return seen.returned.load(); }, calls[i].name + " ends");
    EXPECT_TRUE(seen.result == calls[i].expected || seen.result == -EINTR)
        << calls[i].name << " returned " << seen.result << ", not " << calls[i].expected;
    victim.expect_untouched();
  }
}

// Claim: a thread whose stack is not known to be its own gets no way home, and no byte of that stack
// is written; it can be borrowed all the same.
TEST(WayHome, NotOnAForeignStack) {
  Shared<Counter> rounds;
  Victim victim([&](const auto& ready) {
    // A small stack in the middle of other memory, as coroutines have.
    constexpr size_t kSize = 64 << 10, kTop = 20 << 10;
    auto* memory = static_cast<unsigned char*>(
        ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::fill(memory, memory + kTop - 256, 0xa5);
    ready();
    auto* top = memory + kTop;
    for (;;) {
      asm volatile(
          "mov %%rsp,%%rbx\n\tmov %0,%%rsp\n\tmov $2000000,%%rcx\n"
          "1:\tdec %%rcx\n\tjnz 1b\n\tmov %%rbx,%%rsp"
          :
          : "r"(top)
          : "rbx", "rcx", "cc", "memory");
      bool kept = std::all_of(memory, memory + kTop - 256, [](auto byte) { return byte == 0xa5; });
      *rounds = kept ? *rounds + 1 : uint64_t{1} << 40;
    }
  });
  Process process = Process::open(victim.pid());
  for (int i = 0; i < 100; ++i) {
    auto thread = Borrowed::take(process);
    ASSERT_TRUE(thread);
    EXPECT_EQ(thread->call(SYS_getpid), victim.pid());
  }
  uint64_t then = *rounds;
  until([&] { return *rounds > then + 2; }, "the victim goes on");
  EXPECT_LT(*rounds, uint64_t{1} << 40) << "its memory was written to";
}

}  // namespace
}  // namespace qp::proc
