#include "proc/borrow.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "blocking_calls.h"
#include "state_loop.h"
#include "victim.h"

namespace qp::proc {
namespace {

using test::Shared;
using test::sleeps;
using test::state_of;
using test::until;
using test::Victim;
using Counter = std::atomic<uint64_t>;

int64_t map_page(Borrowed& thread) {
  return thread.call(SYS_mmap, 0, kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                     ~uint64_t{0}, 0);
}

// A page comes and goes.
void use(Borrowed& thread) {
  int64_t at = map_page(thread);
  ASSERT_GT(at, 0);
  EXPECT_EQ(thread.call(SYS_munmap, static_cast<uint64_t>(at), kPageSize), 0);
}

void borrow_once(const Process& process) {
  auto thread = Borrowed::take(process);
  ASSERT_TRUE(thread);
  use(*thread);
  thread->give_back();
}

std::string error_code(const Process& process) {
  try {
    return Borrowed::take(process) ? "taken" : "none";
  } catch (const Error& e) {
    return e.code();
  }
}

// Claim: a system call runs in the process: its result, its errno, its effect on the process alone.
TEST(Borrow, CallsRunInTheProcess) {
  Victim victim(test::just_sleep);
  Process process = Process::open(victim.pid());
  auto thread = Borrowed::take(process);
  ASSERT_TRUE(thread);
  EXPECT_EQ(thread->tid(), victim.pid());
  EXPECT_EQ(thread->call(SYS_getpid), victim.pid());
  EXPECT_EQ(thread->call(SYS_getppid), ::getpid());
  EXPECT_EQ(thread->call(SYS_close, 12345), -EBADF);
  int64_t page = map_page(*thread);
  ASSERT_GT(page, 0);
  LiveAddr at(static_cast<uint64_t>(page));
  process.memory().write(at, as_bytes("/dev/null\0"));
  int64_t fd = thread->call(SYS_openat, static_cast<uint64_t>(AT_FDCWD), at.value, O_RDONLY, 0);
  EXPECT_GE(fd, 0);
  EXPECT_EQ(thread->call(SYS_close, static_cast<uint64_t>(fd)), 0);
  EXPECT_EQ(thread->call(SYS_munmap, at.value, kPageSize), 0);
  thread->give_back();
  victim.expect_untouched();
}

// Claim: a thread is not borrowed if its process has called another program since it was opened, also not
// when it does so between the look at its memory and the first call: the other program goes on.
TEST(Borrow, ExecMeanwhile) {
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    Shared<std::atomic<bool>> go;
    Victim victim([&](const auto& ready) {
      ready();
      while (!*go) {
      }
      ::execl("/bin/sleep", "sleep", "60", nullptr);
    });
    const Process process = Process::open(victim.pid());
    *go = true;
    while (process.same_program()) {
      const auto thread = Borrowed::take(process);
      EXPECT_TRUE(!thread || process.same_program()) << i;  // it can't call exec while it is ours
      refused += thread ? 0 : 1;
    }
    EXPECT_FALSE(Borrowed::take(process));
    until([&] { return sleeps(victim.pid(), victim.pid()); }, "the other program sleeps");
    victim.expect_untouched();
    ASSERT_FALSE(testing::Test::HasFailure()) << i;
  }
  EXPECT_GT(refused, 0) << "no exec came between: the test showed nothing";
}

// Claim: a thread that is borrowed while it computes keeps every register, its red zone and flags.
TEST(Borrow, SpinningThreadKeepsItsState) {
  struct Seen {
    Counter rounds = 0, wrong = 0;
  };
  Shared<Seen> seen;
  Victim victim([&](const auto& ready) {
    test::CpuState state = test::some_cpu_state();
    ready();
    for (;;) {
      if (!(test::spin_with(state, 300'000) == state)) {
        ++seen->wrong;
      }
      ++seen->rounds;
    }
  });
  Process process = Process::open(victim.pid());
  for (int i = 0; i < 300; ++i) {
    borrow_once(process);
  }
  uint64_t then = seen->rounds;
  until([&] { return seen->rounds > then + 1; }, "the victim goes on");
  EXPECT_EQ(seen->wrong, 0u);
  victim.expect_untouched();
}

// Claim: the check of the test above notices a register that was not restored.
TEST(Borrow, StateLoopNoticesChanges) {
  test::CpuState state = test::some_cpu_state(), other = state;
  EXPECT_TRUE(test::spin_with(state, 10) == state);
  other.vector[15][15] ^= 1;
  EXPECT_FALSE(test::spin_with(other, 10) == state);
  other = state;
  other.mxcsr = 0x1f80;
  EXPECT_FALSE(test::spin_with(other, 10) == state);
}

// Claim: a thread that sleeps in a system call of any kind, borrowed 20 times, ends it as if
// nothing had been.
TEST(Borrow, SleepingThreadEndsItsCall) {
  std::vector<test::BlockingCall> calls = test::blocking_calls();
  struct Seen {
    std::atomic<bool> returned = false;
    std::atomic<long> result = 0;
  };
  Shared<std::array<Seen, 128>> slots;
  ASSERT_LE(calls.size(), slots->size());
  std::vector<std::unique_ptr<Victim>> victims;
  for (size_t i = 0; i < calls.size(); ++i) {
    victims.push_back(std::make_unique<Victim>([&, i](const auto& ready) {
      ready();
      (*slots)[i].result = calls[i].body();
      (*slots)[i].returned = true;
      test::sleep_for_ever();
    }));
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    Seen& seen = (*slots)[i];
    pid_t pid = victims[i]->pid();
    until([&] { return seen.returned || sleeps(pid, pid, calls[i].number); },
          calls[i].name + " sleeps");
    Process process = Process::open(pid);
    for (int round = 0; round < test::rounds(20); ++round) {
      borrow_once(process);
      until([&] { return sleeps(pid, pid); }, calls[i].name + " sleeps again");
    }
    if (calls[i].finish) {
      EXPECT_FALSE(seen.returned) << calls[i].name << " returned " << seen.result;
      calls[i].finish(pid, pid);
    }
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    Seen& seen = (*slots)[i];
    until([&] { return seen.returned.load(); }, calls[i].name + " ends");
    EXPECT_EQ(seen.result, calls[i].expected) << calls[i].name;
    victims[i]->expect_untouched();
  }
}

// Claim: signals that are sent while a thread is borrowed are delivered afterwards, each once, and
// the thread's signal mask is what it was.
TEST(Borrow, SignalsWait) {
  struct Seen {
    Counter count = 0;
    std::atomic<bool> mask_wrong = false;
  };
  static Shared<Seen> seen;
  new (&*seen) Seen{};  // tests are repeated
  Victim victim([&](const auto& ready) {
    struct sigaction action {};
    action.sa_handler = [](int) { ++seen->count; };
    ::sigaction(SIGRTMIN, &action, nullptr);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    ready();
    for (;;) {
      sigset_t now;
      sigemptyset(&now);
      ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
      if (sigismember(&now, SIGUSR2) != 1 || sigismember(&now, SIGTERM) != 0) {
        seen->mask_wrong = true;
      }
    }
  });
  Process process = Process::open(victim.pid());
  for (uint64_t i = 1; i <= 50; ++i) {
    ::kill(victim.pid(), SIGRTMIN);
    auto thread = Borrowed::take(process);
    ASSERT_TRUE(thread);
    int64_t at = map_page(*thread);
    ::kill(victim.pid(), SIGRTMIN);
    uint64_t then = seen->count;
    thread->call(SYS_munmap, static_cast<uint64_t>(at), kPageSize);
    EXPECT_EQ(seen->count, then);
    thread->give_back();
    until([&] { return seen->count == 2 * i; }, "both arrive");
  }
  EXPECT_FALSE(seen->mask_wrong);
  victim.expect_untouched();
}

// Claim: signals that carry values, sent to one thread while it is borrowed again and again, arrive each
// once and in order.
TEST(Borrow, QueuedSignalsKeepTheirOrder) {
  constexpr int kRounds = 50, kSignals = 60 * kRounds;
  struct Seen {
    std::atomic<int> count = 0, out_of_order = 0;
  };
  static Shared<Seen> seen;
  new (&*seen) Seen{};  // tests are repeated
  Victim victim([&](const auto& ready) {
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    action.sa_sigaction = [](int, siginfo_t* info, void*) {
      if (info->si_value.sival_int != seen->count) {
        ++seen->out_of_order;
      }
      ++seen->count;
    };
    ::sigaction(SIGRTMIN, &action, nullptr);
    test::just_sleep(ready);
  });
  std::atomic<int> sent = 0, allowed = 0;
  std::thread sender([&] {
    for (int i = 0; i < kSignals; ++i) {
      while (i >= allowed) {
        ::sched_yield();
      }
      siginfo_t info{};
      info.si_signo = SIGRTMIN;
      info.si_code = SI_QUEUE;
      info.si_pid = ::getpid();
      info.si_value.sival_int = i;
      while (::syscall(SYS_rt_tgsigqueueinfo, victim.pid(), victim.pid(), SIGRTMIN, &info) != 0) {
        ::sched_yield();
      }
      ++sent;
    }
  });
  Process process = Process::open(victim.pid());
  for (int i = 0; i < kRounds;) {
    auto thread = Borrowed::take(process);
    if (!thread) {
      continue;
    }
    ++i;
    int then = sent;
    allowed = i * kSignals / kRounds;
    use(*thread);
    until([&] { return sent > then; }, "some are sent");
  }
  sender.join();
  until([&] { return seen->count == kSignals; }, "all signals arrived");
  EXPECT_EQ(seen->out_of_order, 0);
  victim.expect_untouched();
}

// Claim: SIGSTOP while borrowed stops the process afterwards; a stopped process can be borrowed
// from and stays stopped.
TEST(Borrow, StoppedProcess) {
  Shared<Counter> count;
  Victim victim([&](const auto& ready) {
    ready();
    for (;;) {
      ++*count;
    }
  });
  Process process = Process::open(victim.pid());
  auto is_stopped = [&] { return state_of(victim.pid(), victim.pid()) == 'T'; };
  auto thread = Borrowed::take(process);
  ASSERT_TRUE(thread);
  ::kill(victim.pid(), SIGSTOP);
  use(*thread);
  thread->give_back();
  until(is_stopped, "it stops");
  uint64_t then = *count;
  for (int i = 0; i < 20; ++i) {
    borrow_once(process);
    until(is_stopped, "it is stopped again");
  }
  EXPECT_EQ(*count, then);
  ::kill(victim.pid(), SIGCONT);
  until([&] { return *count > then; }, "it goes on");
  victim.expect_untouched();
}

// Claim: a process with a dead group leader lends another thread.
TEST(Borrow, DeadGroupLeader) {
  Victim victim([](const auto& ready) {
    std::thread([&] { test::just_sleep(ready); }).detach();
    ::syscall(SYS_exit, 0);
  });
  until([&] { return state_of(victim.pid(), victim.pid()) == 'Z'; }, "the leader is dead");
  Process process = Process::open(victim.pid());
  auto thread = Borrowed::take(process);
  ASSERT_TRUE(thread);
  EXPECT_NE(thread->tid(), victim.pid());
  use(*thread);
  thread->give_back();
  victim.expect_untouched();
}

// Claim: a process that another program traces is an Error.
TEST(Borrow, TracedByAnother) {
  Victim victim(test::just_sleep);
  Victim tracer([&](const auto& ready) {
    ::ptrace(PTRACE_SEIZE, victim.pid(), nullptr, nullptr);
    test::just_sleep(ready);
  });
  EXPECT_EQ(error_code(Process::open(victim.pid())), "traced");
}

// Claim: if the process dies while a thread is borrowed, the next call is an Error and giving back
// does nothing.
TEST(Borrow, DiesMeanwhile) {
  Victim victim(test::just_spin);
  Process process = Process::open(victim.pid());
  auto thread = Borrowed::take(process);
  ASSERT_TRUE(thread);
  use(*thread);
  ::kill(victim.pid(), SIGKILL);
  EXPECT_THROW(thread->call(SYS_getpid), Error);
  thread->give_back();
  EXPECT_EQ(error_code(process), "none");
}

// Claim: a thread that is not used is given back as well; so is one that goes out of scope.
TEST(Borrow, DestructorGivesBack) {
  Victim victim(test::just_sleep);
  Process process = Process::open(victim.pid());
  { auto thread = Borrowed::take(process); }
  victim.expect_untouched();
  {
    auto thread = Borrowed::take(process);
    use(*thread);
  }
  victim.expect_untouched();
  EXPECT_TRUE(process.alive());
}

// Kills the process for any of our calls.
void forbid_mmap() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{.len = sizeof filter / sizeof *filter, .filter = filter};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

// Claim: a seccomp filter that would kill the process is set aside while a thread is borrowed, and
// is in force again afterwards.
TEST(Borrow, SeccompFilterIsSetAside) {
  Shared<std::atomic<bool>> try_it;
  Victim victim([&](const auto& ready) {
    forbid_mmap();
    ready();
    while (!*try_it) {
    }
    ::mmap(nullptr, kPageSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    test::spin();
  });
  Process process = Process::open(victim.pid());
  borrow_once(process);
  EXPECT_TRUE(process.alive());
  victim.expect_untouched();
  *try_it = true;
  until([&] { return !process.alive(); }, "the filter kills it");
}

// Claim: without the right to set a filter aside, the process is an Error{seccomp} and no call is
// tried.
TEST(Borrow, SeccompFilterWithoutTheRightIsRefused) {
  Victim victim([](const auto& ready) {
    forbid_mmap();
    test::just_spin(ready);
  });
  pid_t child = ::fork();
  if (child == 0) {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[2];
    ::syscall(SYS_capget, &header, data);
    data[0].effective &= ~(1u << CAP_SYS_ADMIN);
    ::syscall(SYS_capset, &header, data);
    ::_exit(error_code(Process::open(victim.pid())) == "seccomp" ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  victim.expect_untouched();
}

// Claim: a thread whose system calls are dispatched to the program itself is refused.
TEST(Borrow, SyscallUserDispatchIsRefused) {
  static Shared<std::atomic<char>> selector;
  *selector = 0;
  Victim victim([&](const auto& ready) {
    ready();
    ::prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &*selector);
    *selector = SYSCALL_DISPATCH_FILTER_BLOCK;
    test::spin();
  });
  until([&] { return *selector != 0; }, "it dispatches");
  EXPECT_EQ(error_code(Process::open(victim.pid())), "seccomp");
  victim.expect_untouched();
}

// Claim: a thread is not borrowed inside a restartable sequence.
TEST(Borrow, NotInsideARestartableSequence) {
  if (__rseq_size == 0) {
    GTEST_SKIP() << "this C library registers no rseq area";
  }
  static Shared<Counter> aborts;
  *aborts = 0;
  Victim victim([&](const auto& ready) {
    auto* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
    ready();
    asm volatile(
        ".pushsection .data, \"aw\"\n"
        ".balign 32\n"
        "9: .long 0, 0\n"
        ".quad 1f, 2f - 1f, 4f\n"  // start, length, where to go when interrupted
        ".popsection\n"
        "jmp 3f\n"
        ".byte 0x0f, 0xb9, 0x3d\n"  // ud1, hiding the signature that has to precede the handler
        ".long 0x53053053\n"
        "4: incq (%[aborts])\n"
        "3: lea 9b(%%rip), %%rax\n"
        "mov %%rax, 8(%[area])\n"
        "1: pause\n"
        "jmp 1b\n"
        "2:\n" ::[area] "r"(area),
        [aborts] "r"(&*aborts)
        : "rax", "memory", "cc");
  });
  Process process = Process::open(victim.pid());
  int refused = 0;
  for (int i = 0; i < 50; ++i) {
    uint64_t then = *aborts;
    auto thread = Borrowed::take(process);
    if (thread) {
      use(*thread);
      thread->give_back();
    } else {
      ++refused;
      until([&] { return *aborts > then; }, "the sequence was aborted by the kernel");
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_TRUE(process.alive());
  victim.expect_untouched();
}

// Claim: borrowing goes on working while threads are born and die and signals fly.
TEST(Borrow, UnderAStorm) {
  static Shared<Counter> handled;
  *handled = 0;
  Victim victim([&](const auto& ready) {
    struct sigaction action {};
    action.sa_handler = [](int) { ++*handled; };
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGUSR1, &action, nullptr);
    std::thread([] {
      for (;;) {
        std::thread([] { ::kill(::getpid(), SIGUSR1); }).join();
      }
    }).detach();
    test::just_sleep(ready);
  });
  Process process = Process::open(victim.pid());
  int taken = 0;
  for (int i = 0; i < 200; ++i) {
    auto thread = Borrowed::take(process);
    if (thread) {
      use(*thread);
      ++taken;
    }
  }
  EXPECT_GT(taken, 100);
  uint64_t then = *handled;
  until([&] { return *handled > then; }, "it goes on");
  EXPECT_TRUE(process.alive());
}

// Refusal: no-thread
// Claim: where the only thread waits in vfork, none is borrowed, and it is left alone.
TEST(Borrow, NobodyWhereAllWaitInVfork) {
  Victim victim([](const auto& ready) {
    ready();
    if (::vfork() == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) {
        ::pause();
      }
    }
  });
  until([&] { return state_of(victim.pid(), victim.pid()) == 'D'; }, "the parent waits");
  EXPECT_EQ(error_code(Process::open(victim.pid())), "none");
  victim.expect_untouched();
}

}  // namespace
}  // namespace qp::proc
