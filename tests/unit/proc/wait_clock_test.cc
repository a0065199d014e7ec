// Waits that end on time, however often they start again.

#include "proc/wait_clock.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>

#include <gtest/gtest.h>

#include "proc/borrow.h"
#include "proc/freeze.h"
#include "victim.h"

namespace qp::proc {
namespace {

using namespace std::chrono_literals;
using test::Shared;
using test::sleeps;
using test::until;
using test::Victim;
using Clock = std::chrono::steady_clock;

int32_t timeout_of(uint64_t r10) {
  return static_cast<int32_t>(r10);
}

// Claim: what is left shrinks with the time, is never too little, and does not go below zero.
TEST(WaitClock, Counts) {
  const uint64_t first = left_of_wait(1000, 5'000'000'001ns);
  EXPECT_EQ(timeout_of(first), 1000);  // how long it has waited is not known
  const uint64_t second = left_of_wait(first, 5'400'500'000ns);
  EXPECT_EQ(timeout_of(second), 601);  // 400.499999 ms have passed
  EXPECT_EQ(timeout_of(left_of_wait(second, 5'400'999'999ns)), 601);
  EXPECT_EQ(timeout_of(left_of_wait(second, 5'500'000'000ns)), 502);
  EXPECT_EQ(timeout_of(left_of_wait(second, 6'001'000'000ns)), 1);
  EXPECT_EQ(timeout_of(left_of_wait(second, 6'300'000'000ns)), 0);
  // The note's clock goes round in 4.6 hours.
  EXPECT_EQ(timeout_of(left_of_wait(left_of_wait(1000, 16'777'000ms), 16'777'400ms)), 600);
}

// Claim: waits without end and without waiting stay what they are; what a program has left in the
// upper half of the register is no note, and neither is one that the wait would have ended since.
TEST(WaitClock, NoNote) {
  EXPECT_EQ(left_of_wait(0xffff'ffff, 5s), 0xffff'ffff);
  EXPECT_EQ(left_of_wait(~uint64_t{0}, 5s), ~uint64_t{0});
  EXPECT_EQ(left_of_wait(0, 5s), 0u);
  EXPECT_EQ(timeout_of(left_of_wait(0x0000'7fff'0000'03e8, 5s)), 1000);
  EXPECT_EQ(timeout_of(left_of_wait(left_of_wait(1000, 5s), 20s)), 1000);
}

// A process that waits for a fifth of a second in epoll_wait, by code that looks at r10 afterwards.
struct Looked {
  std::atomic<uint64_t> r10 = 0;
  std::atomic<long> result = -1;
};
constexpr uint64_t kTimeout = 200;

void wait_and_look(int epoll, Looked& looked) {
  epoll_event event;
  register uint64_t timeout asm("r10") = kTimeout;
  long result = SYS_epoll_wait;
  uint64_t after = 0;
  asm volatile("syscall\n\tmov %%r10, %1"
               : "+a"(result), "=b"(after), "+r"(timeout)
               : "D"(epoll), "S"(&event), "d"(1)
               : "rcx", "r11", "memory");
  looked.r10 = after;
  looked.result = result;
}

// Claim: a program that looks at the register of its timeout finds what it has put there.
TEST(WaitClock, SeesNoNote) {
  Shared<Looked> looked;
  Victim victim([&](const auto& ready) {
    const int epoll = ::epoll_create1(0);
    ready();
    wait_and_look(epoll, *looked);
    test::sleep_for_ever();
  });
  until([&] { return sleeps(victim.pid(), victim.pid(), SYS_epoll_wait); }, "it waits");
  const Process process = Process::open(victim.pid());
  Frozen::freeze(process).thaw();
  until([&] { return looked->result >= 0; }, "the wait ends");
  EXPECT_EQ(looked->r10, kTimeout);
  EXPECT_EQ(looked->result, 0);
  victim.expect_untouched();
}

// Allows an epoll_wait only with a timeout of 32 bits, as the kernel takes it.
void filter_timeouts() {
  const sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_wait, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[3]) + 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{sizeof code / sizeof code[0], const_cast<sock_filter*>(code)};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

// Claim: neither does a seccomp filter see a note.
TEST(WaitClock, FilterSeesNoNote) {
  Shared<std::atomic<int>> result;
  *result = -1;
  Victim victim([&](const auto& ready) {
    const int epoll = ::epoll_create1(0);
    epoll_event event;
    filter_timeouts();
    ready();
    *result = ::epoll_wait(epoll, &event, 1, kTimeout);
    test::sleep_for_ever();
  });
  until([&] { return sleeps(victim.pid(), victim.pid(), SYS_epoll_wait); }, "it waits");
  const Process process = Process::open(victim.pid());
  Frozen::freeze(process).thaw();
  until([&] { return *result >= 0 || !process.alive(); }, "the wait ends");
  EXPECT_EQ(*result, 0);
  victim.expect_untouched();
}

// Claim: a wait ends although a thread of the process, the only one, is borrowed again and again.
TEST(WaitClock, EndsThoughBorrowed) {
  Shared<std::atomic<int>> result;
  *result = -1;
  Victim victim([&](const auto& ready) {
    const int epoll = ::epoll_create1(0);
    epoll_event event;
    ready();
    *result = ::epoll_wait(epoll, &event, 1, kTimeout);
    test::sleep_for_ever();
  });
  const Process process = Process::open(victim.pid());
  until(
      [&] {
        if (auto thread = Borrowed::take(process)) {
          thread->give_back();
        }
        return *result >= 0;
      },
      "the wait ends");
  EXPECT_EQ(*result, 0);
  victim.expect_untouched();
}

}  // namespace
}  // namespace qp::proc
