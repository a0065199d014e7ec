#include "proc/freeze.h"

#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "blocking_calls.h"
#include "proc/procfs.h"
#include "proc/tracee.h"
#include "victim.h"

namespace qp::proc {
namespace {

using test::Shared;
using test::sleeps;
using test::state_of;
using test::until;
using test::Victim;
using Counter = std::atomic<uint64_t>;

// A thread can be in the middle of exec or exit for longer than a freeze waits.
std::optional<Frozen> try_freeze(const Process& process) {
  try {
    return Frozen::freeze(process);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "unresponsive") << e.what();
    return std::nullopt;
  }
}

// Where threads wait for each other in the kernel (mapping stacks), on a busy host, it may take
// more than one attempt.
Frozen freeze_soon(const Process& process) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (auto frozen = try_freeze(process)) {
      return std::move(*frozen);
    }
  }
  return Frozen::freeze(process);
}

// Claim: a frozen process does nothing, and goes on after the thaw.
TEST(Freeze, SpinningThreadStandsStill) {
  Shared<Counter> count;
  Victim victim([&](const auto& ready) {
    ready();
    for (;;) {
      ++*count;
    }
  });
  Process process = Process::open(victim.pid());
  Frozen frozen = Frozen::freeze(process);
  ASSERT_FALSE(frozen.gone());
  ASSERT_EQ(frozen.threads().size(), 1u);
  uint64_t then = *count;
  for (int i = 0; i < 1000; ++i) {
    ::sched_yield();
  }
  EXPECT_EQ(*count, then);
  EXPECT_EQ(state_of(victim.pid(), victim.pid()), 't');
  frozen.thaw();
  EXPECT_GT(frozen.pause().count(), 0);
  until([&] { return *count > then; }, "the victim counts again");
  victim.expect_untouched();
}

// Claim: all of 64 sleeping threads are stopped and listed with their registers.
TEST(Freeze, SixtyFourThreads) {
  Shared<Counter> started;
  Victim victim([&](const auto& ready) {
    for (int i = 0; i < 63; ++i) {
      std::thread([&] {
        ++*started;
        test::sleep_for_ever();
      }).detach();
    }
    while (*started < 63) {
      ::sched_yield();
    }
    ready();
    test::sleep_for_ever();
  });
  Process process = Process::open(victim.pid());
  Frozen frozen = Frozen::freeze(process);
  std::set<pid_t> tids;
  for (const StoppedThread& t : frozen.threads()) {
    tids.insert(t.tid);
    EXPECT_EQ(state_of(victim.pid(), t.tid), 't');
    EXPECT_EQ(t.registers.cs, 0x33u);
    EXPECT_NE(t.registers.rsp, 0u);
    EXPECT_FALSE(t.kernel_only);
  }
  EXPECT_EQ(tids.size(), 64u);
  EXPECT_THAT(process.threads(), testing::ElementsAreArray(tids));
  frozen.thaw();
  victim.expect_untouched();
}

// Claim: while threads are born and die all the time, a freeze stops every one there is.
TEST(Freeze, ThreadStorm) {
  Shared<Counter> born;
  Victim victim([&](const auto& ready) {
    for (int i = 0; i < 4; ++i) {
      std::thread([&] {
        for (;;) {
          std::thread([&] { ++*born; }).join();
        }
      }).detach();
    }
    ready();
    test::sleep_for_ever();
  });
  Process process = Process::open(victim.pid());
  for (int i = 0; i < 100; ++i) {
    Frozen frozen = freeze_soon(process);
    std::set<pid_t> stopped;
    for (const StoppedThread& t : frozen.threads()) {
      stopped.insert(t.tid);
    }
    uint64_t then = *born;
    for (pid_t tid : process.threads()) {
      auto stat = read_task_stat(victim.pid(), tid);
      if (!stat || stat->dead() || stat->exiting()) {
        continue;  // runs no code of the program any more
      }
      EXPECT_EQ(stat->state, 't') << "round " << i;
      EXPECT_EQ(stopped.count(tid), 1u) << "round " << i;
    }
    EXPECT_EQ(*born, then);
    frozen.thaw();
    until([&] { return *born > then; }, "threads are born again");
  }
  victim.expect_untouched();
}

// Claim: a chain of threads, each of which makes the next and ends, does not outrun the freeze.
TEST(Freeze, RelayOfThreads) {
  Shared<Counter> born;
  static void (*run)(Counter*);
  run = [](Counter* count) {
    ++*count;
    std::thread(run, count).detach();
  };
  Victim victim([&](const auto& ready) {
    std::thread(run, &*born).detach();
    ready();
    test::sleep_for_ever();
  });
  Process process = Process::open(victim.pid());
  for (int i = 0; i < 50; ++i) {
    Frozen frozen = freeze_soon(process);
    uint64_t then = *born;
    for (int j = 0; j < 50; ++j) {
      ::sched_yield();
    }
    EXPECT_EQ(*born, then) << "round " << i;
    frozen.thaw();
    until([&] { return *born > then; }, "the relay goes on");
  }
  victim.expect_untouched();
}

// Claim: the registers are those that the thread has.
TEST(Freeze, RegistersAreTheThreads) {
  Victim victim([&](const auto& ready) {
    ready();
    asm volatile(
        "mov $0x1111222233334444, %%r12\n"
        "mov $0x5555666677778888, %%r13\n"
        "mov $0x123456789a, %%rdi\n"
        "1: pause\n"
        "jmp 1b\n" ::
            : "r12", "r13", "rdi");
  });
  Process process = Process::open(victim.pid());
  until(
      [&] {
        Frozen frozen = Frozen::freeze(process);
        return frozen.threads().at(0).registers.rdi == 0x123456789a;
      },
      "the victim spins in its loop");
  Frozen frozen = Frozen::freeze(process);
  const GeneralRegisters& r = frozen.threads().at(0).registers;
  EXPECT_EQ(r.r12, 0x1111222233334444u);
  EXPECT_EQ(r.r13, 0x5555666677778888u);
  EXPECT_LT(static_cast<int64_t>(r.orig_rax), 0);  // in no system call
  bool in_code = false, on_stack = false;
  for (const Mapping& m : process.mappings()) {
    in_code = in_code || (m.executable && m.range.contains(LiveAddr(r.rip)));
    on_stack = on_stack || (m.writable && m.range.contains(LiveAddr(r.rsp)));
  }
  EXPECT_TRUE(in_code);
  EXPECT_TRUE(on_stack);
}

// Claim: a process that was stopped (SIGSTOP) stays stopped, and its parent hears nothing of it.
TEST(Freeze, StoppedProcessStaysStopped) {
  struct Seen {
    std::atomic<pid_t> child = 0;
    Counter looks = 0, events = 0, sigchlds = 0;
  };
  static Shared<Seen> seen;
  new (&*seen) Seen{};  // tests are repeated
  Victim parent([&](const auto& ready) {
    ::signal(SIGCHLD, [](int) { ++seen->sigchlds; });
    pid_t child = ::fork();
    if (child == 0) {
      std::thread([] { test::sleep_for_ever(); }).detach();
      ::raise(SIGSTOP);
      test::spin();
    }
    int status;
    while (::waitpid(child, &status, WUNTRACED) != child) {
    }
    seen->child = child;
    ready();
    for (;;) {
      ++seen->looks;
      if (::waitpid(child, &status, WNOHANG | WUNTRACED | WCONTINUED) != 0) {
        ++seen->events;
      }
    }
  });
  pid_t child = seen->child;
  uint64_t sigchlds = seen->sigchlds;
  Process process = Process::open(child);
  for (int i = 0; i < 20; ++i) {
    Frozen frozen = Frozen::freeze(process);
    ASSERT_EQ(frozen.threads().size(), 2u);
    frozen.thaw();
    uint64_t looks = seen->looks;
    until([&] { return state_of(child, child) == 'T'; }, "it is stopped again");
    until([&] { return seen->looks > looks + 100; }, "its parent looked");
  }
  EXPECT_EQ(seen->events, 0u);
  EXPECT_EQ(seen->sigchlds, sigchlds);
  EXPECT_EQ(test::tracer_of(child, child), 0);
  ::kill(child, SIGCONT);
  until([&] { return state_of(child, child) == 'R' && seen->events == 1; }, "it goes on");
  ::kill(child, SIGKILL);
}

// Claim: a SIGSTOP that arrives while the process stands still takes effect after the thaw.
TEST(Freeze, StopSignalDuringTheFreezeIsNotLost) {
  Victim victim([&](const auto& ready) {
    ready();
    test::spin();
  });
  Process process = Process::open(victim.pid());
  Frozen frozen = Frozen::freeze(process);
  ::kill(victim.pid(), SIGSTOP);
  frozen.thaw();
  until([&] { return state_of(victim.pid(), victim.pid()) == 'T'; }, "it stops");
  ::kill(victim.pid(), SIGCONT);
  until([&] { return state_of(victim.pid(), victim.pid()) == 'R'; }, "it goes on");
}

// Claim: signals sent around and during freezes all arrive, once, and in order.
TEST(Freeze, SignalStormArrives) {
  constexpr int kSignals = 20'000;
  struct Seen {
    std::atomic<int> count = 0;
    std::atomic<int> out_of_order = 0;
  };
  static Shared<Seen> seen;
  new (&*seen) Seen{};  // tests are repeated
  Victim victim([&](const auto& ready) {
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = [](int, siginfo_t* info, void*) {
      if (info->si_value.sival_int != seen->count) {
        ++seen->out_of_order;
      }
      ++seen->count;
    };
    ::sigaction(SIGRTMIN, &action, nullptr);
    ready();
    test::spin();
  });
  std::atomic<int> sent = 0;
  std::thread sender([&] {
    for (int i = 0; i < kSignals; ++i) {
      while (::sigqueue(victim.pid(), SIGRTMIN, {.sival_int = i}) != 0) {
        ::sched_yield();
      }
      ++sent;
    }
  });
  Process process = Process::open(victim.pid());
  int sent_while_frozen = 0;
  for (int i = 0; i < 200 || sent < kSignals; ++i) {
    Frozen frozen = Frozen::freeze(process);
    int then = sent;
    until([&] { return sent == kSignals || sent > then + 3; }, "more are sent");
    sent_while_frozen += sent - then;
  }
  sender.join();
  until([&] { return seen->count == kSignals; }, "all signals arrived");
  EXPECT_EQ(seen->out_of_order, 0);
  EXPECT_GT(sent_while_frozen, 0);
  victim.expect_untouched();
}

// Claim: a signal that is just being delivered when the freeze comes is delivered after it, with
// what it carries.
TEST(Freeze, SignalBeingDeliveredIsPassedOn) {
  struct Seen {
    std::atomic<int> count = 0;
    std::atomic<int> wrong = 0;
  };
  static Shared<Seen> seen;
  new (&*seen) Seen{};  // tests are repeated
  Victim victim([&](const auto& ready) {
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = [](int, siginfo_t* info, void*) {
      if (info->si_code != SI_QUEUE || info->si_value.sival_int != seen->count) {
        ++seen->wrong;
      }
      ++seen->count;
    };
    ::sigaction(SIGRTMIN, &action, nullptr);
    ready();
    for (int i = 0;; ++i) {
      ::sigqueue(::getpid(), SIGRTMIN, {.sival_int = i});
      if (seen->count != i + 1) {
        ++seen->wrong;
      }
    }
  });
  Process process = Process::open(victim.pid());
  for (int i = 0; i < 50; ++i) {
    // As if the signal came between the freeze's own attaching and its interrupting.
    ASSERT_EQ(seize(victim.pid(), victim.pid(), 0), SeizeResult::Seized);
    until([&] { return state_of(victim.pid(), victim.pid()) == 't'; }, "a signal is delivered");
    Frozen frozen = Frozen::freeze(process);
    EXPECT_EQ(frozen.threads().at(0).pending_signal, SIGRTMIN);
    frozen.thaw();
    int then = seen->count;
    until([&] { return seen->count > then; }, "it goes on");
  }
  EXPECT_EQ(seen->wrong, 0);
  victim.expect_untouched();
}

// Claim: no thread that sleeps in a system call of any kind hears of 200 freezes.
TEST(Freeze, NoSystemCallIsInterrupted) {
  std::vector<test::BlockingCall> calls = test::blocking_calls();
  struct Slot {
    std::atomic<pid_t> tid = 0;
    std::atomic<bool> returned = false;
    std::atomic<long> result = 0;
  };
  Shared<std::array<Slot, 128>> slots;
  ASSERT_LE(calls.size(), slots->size());
  Victim victim([&](const auto& ready) {
    for (size_t i = 0; i < calls.size(); ++i) {
      std::thread([&, i] {
        (*slots)[i].tid = test::this_tid();
        (*slots)[i].result = calls[i].body();
        (*slots)[i].returned = true;
        test::sleep_for_ever();
      }).detach();
    }
    ready();
    test::sleep_for_ever();
  });
  Process process = Process::open(victim.pid());
  for (size_t i = 0; i < calls.size(); ++i) {
    until([&] { return (*slots)[i].tid != 0; }, "threads run");
    until(
        [&] {
          return (*slots)[i].returned || sleeps(victim.pid(), (*slots)[i].tid, calls[i].number);
        },
        calls[i].name + " sleeps");
  }
  for (int round = 0; round < test::rounds(200); ++round) {
    Frozen::freeze(process).thaw();
    for (const Slot& slot : *slots) {
      if (slot.tid != 0) {
        until([&] { return sleeps(victim.pid(), slot.tid); }, "all sleep again");
      }
    }
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    Slot& slot = (*slots)[i];
    if (calls[i].finish) {
      EXPECT_FALSE(slot.returned) << calls[i].name << " returned " << slot.result;
      calls[i].finish(victim.pid(), slot.tid);
    }
    until([&] { return slot.returned.load(); }, calls[i].name + " ends");
    EXPECT_EQ(slot.result, calls[i].expected) << calls[i].name;
  }
  victim.expect_untouched();
}

// Claim: timeouts whose end is known to the kernel, or noted by us, pass while the process is frozen again and again, and
// none passes early.
TEST(Freeze, TimeoutsPassMeanwhile) {
  std::vector<test::BlockingCall> calls;
  test::add_timed_calls(calls);
  struct Slot {
    std::atomic<bool> returned = false;
    std::atomic<long> result = 0;
  };
  Shared<std::array<Slot, 32>> slots;
  ASSERT_LE(calls.size(), slots->size());
  Victim victim([&](const auto& ready) {
    for (size_t i = 0; i < calls.size(); ++i) {
      std::thread([&, i] {
        (*slots)[i].result = calls[i].body();
        (*slots)[i].returned = true;
        test::sleep_for_ever();
      }).detach();
    }
    ready();
    test::sleep_for_ever();
  });
  Process process = Process::open(victim.pid());
  for (size_t i = 0; i < calls.size(); ++i) {
    until(
        [&] {
          Frozen::freeze(process).thaw();
          return (*slots)[i].returned.load();
        },
        calls[i].name + " ends");
    EXPECT_EQ((*slots)[i].result, 0) << calls[i].name;
  }
  victim.expect_untouched();
}

// Claim: an EINTR that a real signal causes is kept.
TEST(Freeze, RealInterruptionStays) {
  Shared<std::atomic<long>> result;
  static Shared<Counter> handled;
  *handled = 0;
  *result = 1;
  Victim victim([&](const auto& ready) {
    struct sigaction action {};
    action.sa_handler = [](int) { ++*handled; };
    ::sigaction(SIGUSR1, &action, nullptr);
    int epoll = ::epoll_create1(0);
    ready();
    epoll_event event;
    *result = ::epoll_wait(epoll, &event, 1, -1) < 0 ? -errno : 0;
    test::sleep_for_ever();
  });
  until([&] { return sleeps(victim.pid(), victim.pid(), SYS_epoll_wait); }, "it waits");
  Process process = Process::open(victim.pid());
  Frozen frozen = Frozen::freeze(process);
  ::kill(victim.pid(), SIGUSR1);
  frozen.thaw();
  until([&] { return *result != 1; }, "epoll_wait returns");
  EXPECT_EQ(*result, -EINTR);
  EXPECT_EQ(*handled, 1u);
}

// Claim: a signal that the process ignores does not end a system call, frozen or not.
TEST(Freeze, IgnoredSignalInterruptsNothing) {
  Shared<std::atomic<long>> result;
  *result = 1;
  Victim victim([&](const auto& ready) {
    ::signal(SIGUSR1, SIG_IGN);
    int epoll = ::epoll_create1(0);
    ready();
    epoll_event event;
    *result = ::epoll_wait(epoll, &event, 1, -1) < 0 ? -errno : 0;
    test::sleep_for_ever();
  });
  until([&] { return sleeps(victim.pid(), victim.pid(), SYS_epoll_wait); }, "it waits");
  Process process = Process::open(victim.pid());
  for (int i = 0; i < 50; ++i) {
    ::kill(victim.pid(), SIGUSR1);
    Frozen frozen = Frozen::freeze(process);
    ::kill(victim.pid(), SIGUSR1);
    ::kill(victim.pid(), SIGWINCH);
    frozen.thaw();
    until([&] { return sleeps(victim.pid(), victim.pid(), SYS_epoll_wait); }, "it waits again");
  }
  EXPECT_EQ(*result, 1);
  victim.expect_untouched();
}

// Claim: a process whose main thread is dead can be frozen like any other.
TEST(Freeze, DeadGroupLeader) {
  Shared<Counter> count;
  Victim victim([&](const auto& ready) {
    std::thread([&] {
      for (;;) {
        ++*count;
      }
    }).detach();
    ready();
    ::syscall(SYS_exit, 0);
  });
  until([&] { return state_of(victim.pid(), victim.pid()) == 'Z'; }, "the leader is dead");
  Process process = Process::open(victim.pid());
  EXPECT_TRUE(process.alive());
  for (int i = 0; i < 20; ++i) {
    Frozen frozen = Frozen::freeze(process);
    ASSERT_FALSE(frozen.gone());
    ASSERT_EQ(frozen.threads().size(), 1u);
    uint64_t then = *count;
    ::sched_yield();
    EXPECT_EQ(*count, then);
    frozen.thaw();
    until([&] { return *count > then; }, "it goes on");
  }
  victim.expect_untouched();
}

// Claim: a process that another program traces is an Error that names the tracer.
TEST(Freeze, TracedByAnother) {
  Victim victim([](const auto& ready) {
    ready();
    test::sleep_for_ever();
  });
  Victim tracer([&](const auto& ready) {
    ::pthread_setname_np(::pthread_self(), "the-tracer");
    ::ptrace(PTRACE_SEIZE, victim.pid(), nullptr, nullptr);
    ready();
    test::sleep_for_ever();
  });
  Process process = Process::open(victim.pid());
  EXPECT_EQ(process.tracer(), tracer.pid());
  try {
    Frozen::freeze(process);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "traced");
    EXPECT_EQ(e.exit_code(), ExitCode::Busy);
    EXPECT_THAT(e.what(), testing::HasSubstr("the-tracer"));
    EXPECT_THAT(e.what(), testing::HasSubstr(std::to_string(tracer.pid())));
  }
}

// Claim: a process that is killed while frozen is gone after the thaw, and nothing hangs.
TEST(Freeze, KilledWhileFrozen) {
  Victim victim([](const auto& ready) {
    for (int i = 0; i < 8; ++i) {
      std::thread([] { test::sleep_for_ever(); }).detach();
    }
    ready();
    test::sleep_for_ever();
  });
  Process process = Process::open(victim.pid());
  Frozen frozen = Frozen::freeze(process);
  EXPECT_FALSE(frozen.gone());
  ::kill(victim.pid(), SIGKILL);
  until([&] { return state_of(victim.pid(), victim.pid()) != 't'; }, "it dies");
  frozen.thaw();
  EXPECT_TRUE(frozen.gone());
  EXPECT_FALSE(process.alive());
  EXPECT_TRUE(Frozen::freeze(process).gone());
}

// Claim: threads and processes that exit during a freeze are no errors.
TEST(Freeze, ExitsMeanwhile) {
  for (int i = 0; i < 40; ++i) {
    Shared<std::atomic<bool>> go;
    Victim victim([&](const auto& ready) {
      for (int j = 0; j < 4; ++j) {
        std::thread([&] {
          while (!*go) {
          }
        }).detach();
      }
      ready();
      while (!*go) {
      }
      ::_exit(7);
    });
    Process process = Process::open(victim.pid());
    *go = true;
    while (process.alive()) {
      try_freeze(process);
    }
    EXPECT_TRUE(Frozen::freeze(process).gone());
  }
}

// Claim: a process that becomes another program during the freeze is gone, and the other program
// is left alone.
TEST(Freeze, ExecMeanwhile) {
  int gone = 0;
  for (int i = 0; i < 40 || (gone == 0 && i < 1000); ++i) {
    Shared<std::atomic<bool>> go;
    Victim victim([&](const auto& ready) {
      std::thread([&] {
        while (!*go) {
        }
        ::execl("/bin/sleep", "sleep", "60", nullptr);
      }).detach();
      ready();
      test::sleep_for_ever();
    });
    Process process = Process::open(victim.pid());
    *go = true;
    while (state_of(victim.pid(), victim.pid()) != 0) {
      auto frozen = try_freeze(process);
      gone += frozen && frozen->gone() ? 1 : 0;
      frozen.reset();
      if (Process::open(victim.pid()).program() == "sleep") {
        break;
      }
    }
    until([&] { return sleeps(victim.pid(), victim.pid()); }, "the other program runs");
    victim.expect_untouched();
  }
  EXPECT_GT(gone, 0) << "no freeze met an exec: the test showed nothing";
}

// Claim: a process that has called exec since it was opened is gone, and its new program goes on.
TEST(Freeze, ExecSinceOpenIsTheEnd) {
  Shared<std::atomic<bool>> go;
  Victim victim([&](const auto& ready) {
    ready();
    while (!*go) {
    }
    ::execl("/bin/sleep", "sleep", "1000", nullptr);
  });
  Process process = Process::open(victim.pid());
  EXPECT_TRUE(process.same_program());
  *go = true;
  until([&] { return Process::open(victim.pid()).program() == "sleep"; }, "the other program runs");
  EXPECT_FALSE(process.same_program());
  EXPECT_TRUE(process.alive());
  EXPECT_TRUE(Frozen::freeze(process).gone());
  victim.expect_untouched();
}

// Claim: a freeze for which no descriptor is left fails; the process is not taken for one that is gone.
TEST(Freeze, NoDescriptorIsNotTheEnd) {
  Victim victim(test::just_sleep);
  Process process = Process::open(victim.pid());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  std::string code;
  try {
    code = Frozen::freeze(process).gone() ? "gone" : "frozen";
  } catch (const Error& e) {
    code = e.code();
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(code, "system");
  victim.expect_untouched();
}

// Refusal: unresponsive
// Claim: a thread that does not stop (here: in vfork) makes the freeze give up soon, with the other
// threads running on; and a later freeze succeeds.
TEST(Freeze, VforkParentIsUnresponsive) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  Shared<Counter> count;
  Victim victim([&](const auto& ready) {
    std::thread([&] {
      for (;;) {
        ++*count;
      }
    }).detach();
    ready();
    pid_t child = ::vfork();
    if (child == 0) {
      char c;
      (void)!::read(pipe[0], &c, 1);
      ::_exit(0);
    }
    test::sleep_for_ever();
  });
  until([&] { return state_of(victim.pid(), victim.pid()) == 'D'; }, "the parent waits");
  Process process = Process::open(victim.pid());
  for (int i = 0; i < 3; ++i) {
    auto start = std::chrono::steady_clock::now();
    try {
      Frozen::freeze(process);
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), "unresponsive");
      EXPECT_EQ(e.exit_code(), ExitCode::Busy);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
    uint64_t then = *count;
    until([&] { return *count > then; }, "the other thread goes on");
  }
  ASSERT_EQ(::write(pipe[1], "x", 1), 1);
  until(
      [&] {
        auto frozen = try_freeze(process);
        return frozen && frozen->threads().size() == 2;
      },
      "a freeze succeeds");
  victim.expect_untouched();
  ::close(pipe[0]);
  ::close(pipe[1]);
}

// Claim: the real-time priority ends with the thaw, and with a freeze that failed.
TEST(Freeze, PriorityIsGivenBack) {
  Victim victim([](const auto& ready) {
    ready();
    test::sleep_for_ever();
  });
  Process process = Process::open(victim.pid());
  int before = ::sched_getscheduler(0);
  Frozen frozen = Frozen::freeze(process);
  if (::getuid() == 0) {
    EXPECT_EQ(::sched_getscheduler(0), SCHED_FIFO);
  }
  frozen.thaw();
  EXPECT_EQ(::sched_getscheduler(0), before);
}

}  // namespace
}  // namespace qp::proc
