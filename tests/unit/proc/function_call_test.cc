// Functions of a process on one of its threads. Victims are forked from the test, so the test's own
// functions are theirs, at the same addresses.

#include "proc/function_call.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <gtest/gtest.h>

#include "base/error.h"
#include "proc/borrow.h"
#include "proc/freeze.h"
#include "state_loop.h"
#include "victim.h"

// What images have for hooks (link/layout.h).
extern "C" const char qp_hook_return[], qp_hook_asked[];
asm(R"(
    .text
    nop
    .globl qp_hook_return
qp_hook_return:
    mov %eax, %ebx
1:  mov $15, %eax
    syscall
    .globl qp_hook_asked
qp_hook_asked:
    jmp 1b
)");

// 0 if a function may begin like this; then spoils whatever a function may spoil.
extern "C" int qp_visit(void* argument);
asm(R"(
    .text
    .globl qp_visit
    .type qp_visit, @function
qp_visit:
    pushf
    pop %rcx
    xor %eax, %eax
    test $0x400, %ecx
    setnz %al
    stmxcsr -8(%rsp)
    cmpl $0x1f80, -8(%rsp)
    je 1f
    or $2, %eax
1:  fnstcw -8(%rsp)
    cmpw $0x37f, -8(%rsp)
    je 2f
    or $4, %eax
2:  lea 8(%rsp), %rcx
    test $15, %ecx
    jz 3f
    or $8, %eax
3:  ptest %xmm5, %xmm5
    jz 4f
    or $16, %eax
4:  pcmpeqd %xmm0, %xmm0
  .irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movdqa %xmm0, %xmm\n
  .endr
    movl $0x5f80, -8(%rsp)
    ldmxcsr -8(%rsp)
    fld1
    fldpi
    mov $-1, %rcx
    mov %rcx, %rdx
    mov %rcx, %rsi
    mov %rcx, %r8
    mov %rcx, %r9
    mov %rcx, %r10
    mov %rcx, %r11
  .irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16
    mov %rcx, -8*\n(%rsp)
  .endr
    lock incq (%rdi)
    std
    ret
)");

namespace qp::proc {
namespace {

using namespace std::chrono_literals;
using test::Shared;
using test::until;
using test::Victim;
using Counter = std::atomic<uint64_t>;
using Kind = CallEnd::Kind;

LiveAddr address_of(const void* p) {
  return LiveAddr(reinterpret_cast<uint64_t>(p));
}

// Memory for stacks, which victims inherit.
class Stack {
 public:
  Stack()
      : at_(::mmap(nullptr, kCallStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0)) {}
  ~Stack() { ::munmap(at_, kCallStack); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  template <class F>
  FunctionCall call(F* function, const void* argument,
                    std::chrono::milliseconds patience = 10s) const {
    return {address_of(reinterpret_cast<const void*>(function)),
            address_of(argument),
            {address_of(at_), address_of(at_) + kCallStack},
            address_of(qp_hook_return),
            address_of(qp_hook_asked),
            patience};
  }

 private:
  void* at_;
};

struct Seen {
  Counter rounds = 0, wrong = 0, visits = 0, value = 0, entered = 0, allowed = 0;
};

void spin_and_look(Seen& seen) {
  const test::CpuState state = test::some_cpu_state();
  for (;;) {
    if (!(test::spin_with(state, 100'000) == state)) {
      ++seen.wrong;
    }
    ++seen.rounds;
  }
}

CallEnd run(const Process& process, const FunctionCall& call) {
  auto thread = Borrowed::take(process);
  if (!thread) {
    ADD_FAILURE() << "no thread";
    return {};
  }
  EXPECT_EQ(thread->obstacle(), "");
  const CallEnd end = thread->run(call);
  EXPECT_EQ(thread->call(SYS_getpid), process.pid()) << "it serves further calls";
  return end;
}

// Claim: a function is entered as the ABI demands, whatever the thread was doing, and whatever it
// leaves behind, the thread keeps every register, flag and byte of its red zone: on a borrowed thread
// and on one of a frozen process.
TEST(FunctionCall, LeavesTheThreadAsItWas) {
  Shared<Seen> seen;
  Stack stack;
  Victim victim([&](const auto& ready) {
    ready();
    spin_and_look(*seen);
  });
  const Process process = Process::open(victim.pid());
  const FunctionCall call = stack.call(qp_visit, &seen->visits);
  for (int i = 0; i < 100; ++i) {
    CallEnd end;
    if (i % 2 == 0) {
      end = run(process, call);
    } else {
      Frozen frozen = Frozen::freeze(process);
      ASSERT_TRUE(frozen.can_call(process));
      end = frozen.call(process, call).value();
    }
    ASSERT_EQ(end.kind, Kind::Returned);
    ASSERT_EQ(end.value, 0) << "entered wrongly";
  }
  const uint64_t then = seen->rounds;
  until([&] { return seen->rounds > then + 1; }, "the victim goes on");
  EXPECT_EQ(seen->visits, 100u);
  EXPECT_EQ(seen->wrong, 0u);
  victim.expect_untouched();
}

int count_and_return(void* argument) {
  ++*static_cast<Counter*>(argument);
  return -5;
}

// Claim: a thread that sleeps in a call goes on sleeping in it, and the call ends rightly.
TEST(FunctionCall, OnASleepingThread) {
  Shared<Seen> seen;
  Stack stack;
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  Victim victim([&](const auto& ready) {
    ready();
    char byte = 0;
    seen->value = static_cast<uint64_t>(::read(fds[0], &byte, 1)) * 1000 + byte;
    test::sleep_for_ever();
  });
  const Process process = Process::open(victim.pid());
  until([&] { return test::sleeps(victim.pid(), victim.pid(), SYS_read); }, "it reads");
  const CallEnd end = run(process, stack.call(count_and_return, &seen->visits));
  EXPECT_EQ(end.kind, Kind::Returned);
  EXPECT_EQ(end.value, -5);
  EXPECT_EQ(seen->visits, 1u);
  until([&] { return test::sleeps(victim.pid(), victim.pid(), SYS_read); }, "it reads again");
  ASSERT_EQ(::write(fds[1], "!", 1), 1);
  until([&] { return seen->value != 0; }, "its call ends");
  EXPECT_EQ(seen->value, 1000u + '!');
  victim.expect_untouched();
  ::close(fds[0]);
  ::close(fds[1]);
}

int fault(void* argument) {
  *static_cast<volatile int*>(argument) = 1;
  return 0;
}
int divide(void*) {
  asm volatile("xor %%ecx,%%ecx\n\txor %%eax,%%eax\n\tcltd\n\tidiv %%ecx" ::: "eax", "ecx", "edx");
  return 0;
}
int give_up(void*) {
  std::abort();
}
int leave(void*) {
  ::_exit(3);
}
int fork_off(void*) {
  return ::fork();
}
int never_end(void*) {
  test::spin();
}
int wait_for_ever(void*) {
  test::sleep_for_ever();
}

// Claim: a function that crashes, leaves or does not end is stopped there, and told; the thread goes
// on, and the program's own handler of the signal is still the program's.
TEST(FunctionCall, ThatDoesNotReturn) {
  static Seen* caught;
  Shared<Seen> seen;
  caught = &*seen;
  Stack stack;
  Victim victim([&](const auto& ready) {
    for (int signal : {SIGSEGV, SIGFPE, SIGABRT}) {
      ::signal(signal, [](int) { ++caught->value; });
    }
    ready();
    spin_and_look(*seen);
  });
  const Process process = Process::open(victim.pid());

  CallEnd end = run(process, stack.call(fault, reinterpret_cast<void*>(0x18)));
  EXPECT_EQ(end.kind, Kind::Crashed);
  EXPECT_EQ(end.signal, SIGSEGV);
  EXPECT_EQ(end.fault, LiveAddr(0x18));
  EXPECT_EQ(run(process, stack.call(divide, nullptr)).signal, SIGFPE);
  EXPECT_EQ(run(process, stack.call(give_up, nullptr)).signal, SIGABRT);
  end = run(process, stack.call(leave, nullptr));
  EXPECT_EQ(end.kind, Kind::Forbidden);
  EXPECT_EQ(end.call, "exit_group");
  EXPECT_EQ(run(process, stack.call(fork_off, nullptr)).kind, Kind::Forbidden);
  EXPECT_EQ(run(process, stack.call(never_end, nullptr, 20ms)).kind, Kind::TimedOut);
  EXPECT_EQ(run(process, stack.call(wait_for_ever, nullptr, 20ms)).kind, Kind::TimedOut);
  {
    Frozen frozen = Frozen::freeze(process);
    EXPECT_EQ(frozen.call(process, stack.call(never_end, nullptr, 20ms))->kind, Kind::TimedOut);
    EXPECT_EQ(frozen.call(process, stack.call(give_up, nullptr))->kind, Kind::Crashed);
  }
  const uint64_t then = seen->rounds;
  until([&] { return seen->rounds > then + 1; }, "the victim goes on");
  EXPECT_EQ(seen->wrong, 0u);
  EXPECT_EQ(seen->value, 0u) << "its handler saw the function's signal";
  for (int signal : {SIGSEGV, SIGFPE, SIGABRT}) {
    ::kill(victim.pid(), signal);
    const uint64_t before = seen->value;
    until([&] { return seen->value > before; }, "its handler works");
  }
  victim.expect_untouched();
}

// A function with the code of something that has no way back.
extern "C" int qp_return_from_no_signal(void*), qp_exit_by_another_table(void*);
asm(R"(
    .text
    .type qp_return_from_no_signal, @function
qp_return_from_no_signal:
    mov $15, %eax
    syscall
    ret
    .type qp_exit_by_another_table, @function
qp_exit_by_another_table:
    mov $1, %eax
    xor %ebx, %ebx
    int $0x80
    ret
)");

// Claim: a return from a signal that nobody sent and an exit by the numbers of 32-bit code are not
// granted.
TEST(FunctionCall, ThatHasNoWayBack) {
  Shared<Seen> seen;
  Stack stack;
  Victim victim([&](const auto& ready) {
    ready();
    spin_and_look(*seen);
  });
  const Process process = Process::open(victim.pid());
  CallEnd end = run(process, stack.call(qp_return_from_no_signal, nullptr));
  EXPECT_EQ(end.kind, Kind::Forbidden);
  EXPECT_EQ(end.call, "rt_sigreturn");
  end = run(process, stack.call(qp_exit_by_another_table, nullptr));
  // Kernels without 32-bit code answer with a fault.
  EXPECT_TRUE(end.kind == Kind::Forbidden || end.kind == Kind::Crashed);
  const uint64_t then = seen->rounds;
  until([&] { return seen->rounds > then + 1; }, "the victim goes on");
  EXPECT_EQ(seen->wrong, 0u);
  victim.expect_untouched();
}

struct Sleep {
  Counter result = 0, other = 0;
};
// A process whose main thread sleeps for a time once, and another one, if wanted, for ever.
void sleep_once(Sleep& sleep, bool with_another, const std::function<void()>& ready) {
  if (with_another) {
    std::thread([&] {
      sleep.other = static_cast<uint64_t>(test::this_tid());
      test::sleep_for_ever();
    }).detach();
    until([&] { return sleep.other != 0; }, "it has another thread");
  }
  ready();
  timespec left{.tv_sec = 0, .tv_nsec = 400'000'000};
  const auto end = std::chrono::steady_clock::now() + 400ms;
  const long result = ::syscall(SYS_nanosleep, &left, &left);
  sleep.result = result == 0 && std::chrono::steady_clock::now() >= end ? 1 : 2;
  test::sleep_for_ever();
}

int doze(void* argument) {
  timespec time{.tv_sec = 0, .tv_nsec = 1'000'000};
  ::syscall(SYS_nanosleep, &time, nullptr);
  return count_and_return(argument);
}

// Claim: a thread that sleeps for a time sleeps on until then over a function that runs on it; the
// function is not granted a timed sleep of its own, which would overwrite what the kernel knows of the
// thread's.
TEST(FunctionCall, OnAThreadThatSleepsForATime) {
  Shared<Sleep> sleep;
  Shared<Seen> seen;
  Stack stack;
  Victim victim([&](const auto& ready) { sleep_once(*sleep, false, ready); });
  const Process process = Process::open(victim.pid());
  until([&] { return test::sleeps(victim.pid(), victim.pid(), SYS_nanosleep); }, "it sleeps");
  EXPECT_EQ(run(process, stack.call(count_and_return, &seen->visits)).kind, Kind::Returned);
  const CallEnd end = run(process, stack.call(doze, &seen->visits));
  EXPECT_EQ(end.kind, Kind::Forbidden);
  EXPECT_TRUE(end.call.starts_with("nanosleep")) << end.call;
  EXPECT_EQ(seen->visits, 1u);
  until([&] { return sleep->result != 0; }, "it wakes");
  EXPECT_EQ(sleep->result, 1u) << "it did not sleep to the end";
  victim.expect_untouched();
}

// Claim: where there is another thread, the function is run on that, and may sleep.
TEST(FunctionCall, NotOnAThreadThatSleepsForATime) {
  Shared<Sleep> sleep;
  Shared<Seen> seen;
  Stack stack;
  Victim victim([&](const auto& ready) { sleep_once(*sleep, true, ready); });
  const Process process = Process::open(victim.pid());
  const auto other = static_cast<pid_t>(sleep->other);
  until(
      [&] {
        return test::sleeps(victim.pid(), victim.pid(), SYS_nanosleep) &&
               test::sleeps(victim.pid(), other);
      },
      "they sleep");
  {
    auto thread = Borrowed::demand(process, Borrowed::Use::Function);
    EXPECT_EQ(thread.run(stack.call(doze, &seen->visits)).kind, Kind::Returned);
  }
  {
    Frozen frozen = Frozen::freeze(process);
    EXPECT_EQ(frozen.call(process, stack.call(doze, &seen->visits))->kind, Kind::Returned);
  }
  EXPECT_EQ(seen->visits, 2u);
  until([&] { return sleep->result != 0; }, "it wakes");
  EXPECT_EQ(sleep->result, 1u) << "it did not sleep to the end";
  victim.expect_untouched();
}

struct Race {
  Counter beats = 0, moved = 0;
};
int watch_others(void* argument) {
  auto* race = static_cast<Race*>(argument);
  const uint64_t then = race->beats;
  for (int i = 0; i < 2'000'000; ++i) {
    asm volatile("");
  }
  race->moved = race->beats - then;
  return 0;
}
int meet_others(void* argument) {
  auto* race = static_cast<Race*>(argument);
  for (const uint64_t then = race->beats; race->beats == then;) {
  }
  return 0;
}

// Claim: in a frozen process the other threads stand still while the function runs; with a borrowed
// thread they run on.
TEST(FunctionCall, AndTheOtherThreads) {
  Shared<Race> race;
  Stack stack;
  Victim victim([&](const auto& ready) {
    std::thread other([&] {
      for (;;) {
        ++race->beats;
      }
    });
    until([&] { return race->beats != 0; }, "it beats");
    ready();
    test::sleep_for_ever();
  });
  const Process process = Process::open(victim.pid());
  EXPECT_EQ(run(process, stack.call(meet_others, &*race)).kind, Kind::Returned);
  Frozen frozen = Frozen::freeze(process);
  EXPECT_EQ(frozen.call(process, stack.call(watch_others, &*race))->kind, Kind::Returned);
  EXPECT_EQ(race->moved, 0u);
  frozen.thaw();
  victim.expect_untouched();
}

int visit_when_allowed(void* argument) {
  auto* seen = static_cast<Seen*>(argument);
  for (const uint64_t n = ++seen->entered; seen->allowed < n;) {
  }
  return qp_visit(&seen->visits);
}

// Claim: when the caller dies while the function runs, the function runs to its end and the thread
// goes on as if nothing had been.
TEST(FunctionCall, GoesHomeWithoutItsCaller) {
  Shared<Seen> seen;
  Stack stack;
  Victim victim([&](const auto& ready) {
    ready();
    spin_and_look(*seen);
  });
  for (uint64_t i = 1; i <= 20; ++i) {
    const pid_t caller = ::fork();
    if (caller == 0) {
      const Process process = Process::open(victim.pid());
      const FunctionCall call = stack.call(visit_when_allowed, &*seen);
      if (i % 2 == 0) {
        Frozen::freeze(process).call(process, call);
      } else {
        Borrowed::take(process)->run(call);
      }
      ::_exit(1);
    }
    until([&] { return seen->entered == i; }, "the function runs");
    ::kill(caller, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(caller, &status, 0), caller);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it was not killed";
    seen->allowed = i;
    until([&] { return seen->visits == i; }, "the function has ended");
    const uint64_t then = seen->rounds;
    until([&] { return seen->rounds > then + 1; }, "the victim goes on");
  }
  EXPECT_EQ(seen->wrong, 0u);
  victim.expect_untouched();
}

}  // namespace
}  // namespace qp::proc
