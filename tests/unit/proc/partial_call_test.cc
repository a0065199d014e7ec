#include "proc/partial_call.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "proc/borrow.h"
#include "victim.h"

namespace qp::proc {
namespace {

using test::Shared;
using test::sleeps;
using test::until;
using test::Victim;
using Clock = std::chrono::steady_clock;

std::string call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  return fmt::format("{} {:#x} {:#x} {:#x} {:#x} 0x0 0x0 0x7ffc0000 0x7f0000\n", number, a, b, c,
                     d);
}

// Claim: calls that can have done a part of their work are told from those that can't.
TEST(PartialCall, ByTheirArguments) {
  EXPECT_TRUE(is_partial_call(call(SYS_write, 1, 0x1000, 100'000, 0)));
  EXPECT_FALSE(is_partial_call(call(SYS_write, 1, 0x1000, 1, 0)));
  EXPECT_FALSE(is_partial_call(call(SYS_read, 1, 0x1000, 100'000, 0)));
  EXPECT_TRUE(is_partial_call(call(SYS_recvfrom, 1, 0x1000, 100, MSG_WAITALL)));
  EXPECT_FALSE(is_partial_call(call(SYS_recvfrom, 1, 0x1000, 100, 0)));
  EXPECT_TRUE(is_partial_call(call(426, 3, 5, 1, 1)));   // io_uring_enter
  EXPECT_FALSE(is_partial_call(call(426, 3, 0, 1, 1)));  // nothing to submit
  EXPECT_TRUE(is_partial_call(call(SYS_io_getevents, 3, 2, 8, 0x1000)));
  EXPECT_FALSE(is_partial_call(call(SYS_io_getevents, 3, 1, 8, 0x1000)));  // what there is ends it
  EXPECT_TRUE(is_partial_call(call(333, 3, 2, 8, 0x1000)));                // io_pgetevents
  EXPECT_TRUE(is_partial_call(call(SYS_sendfile, 3, 4, 0, 100'000)));
  EXPECT_TRUE(is_partial_call(call(328, 3, 0x1000, 2, ~uint64_t{0})));  // pwritev2
  EXPECT_FALSE(is_partial_call(call(328, 3, 0x1000, 2, 4096)));         // in a file
  EXPECT_TRUE(is_partial_call("326 0x3 0x0 0x4 0x0 0x100000 0x0 0x7ffc0000 0x7f0000\n"));
  for (const char* text :
       {"", "running\n", "-1 0x7ffc 0x7f00\n", "1", "1 0x", "1 0x1 0x2", "1 2 3"}) {
    EXPECT_FALSE(is_partial_call(text)) << text;
  }
}

// Claim: waits that an interruption prolongs are told from those that it does not.
TEST(PartialCall, TimedByTheirArguments) {
  EXPECT_TRUE(is_timed_call(call(SYS_epoll_wait, 3, 0x1000, 1, 500)));
  EXPECT_FALSE(is_timed_call(call(SYS_epoll_wait, 3, 0x1000, 1, 0xffffffff)));
  EXPECT_TRUE(is_timed_call(call(SYS_semtimedop, 3, 0x1000, 1, 0x2000)));
  EXPECT_FALSE(is_timed_call(call(SYS_semtimedop, 3, 0x1000, 1, 0)));
  EXPECT_TRUE(is_timed_call(call(SYS_rt_sigtimedwait, 0x1000, 0, 0x2000, 8)));
  EXPECT_FALSE(is_timed_call(call(SYS_rt_sigtimedwait, 0x1000, 0, 0, 8)));
  EXPECT_FALSE(is_timed_call(call(SYS_poll, 0x1000, 1, 500, 0)));  // the kernel knows its end
  EXPECT_FALSE(is_timed_call("running\n"));
}

// Claim: a thread in such a wait is not borrowed while there is another one.
TEST(PartialCall, TimedIsNotBorrowed) {
  Shared<std::atomic<pid_t>> other;
  Victim victim([&](const auto& ready) {
    std::thread([&] {
      *other = test::this_tid();
      test::sleep_for_ever();
    }).detach();
    epoll_event event;
    const int epoll = ::epoll_create1(0);
    ready();
    ::epoll_wait(epoll, &event, 1, 3'600'000);
    test::sleep_for_ever();
  });
  until([&] { return sleeps(victim.pid(), victim.pid(), SYS_epoll_wait); }, "it waits");
  until([&] { return *other != 0 && sleeps(victim.pid(), *other); }, "the other one rests");
  const Process process = Process::open(victim.pid());
  auto thread = Borrowed::take(process);
  ASSERT_TRUE(thread);
  EXPECT_EQ(thread->tid(), *other);
  thread->give_back();
  victim.expect_untouched();
}

constexpr size_t kMuch = 1 << 20;

struct Seen {
  std::atomic<long> written = 0;
  std::atomic<pid_t> other = 0;
};

// A process whose main thread writes more into a pipe than fits. Another one rests.
void write_much(int to, Seen& seen, const std::function<void()>& ready) {
  std::thread([&] {
    seen.other = test::this_tid();
    test::sleep_for_ever();
  }).detach();
  while (seen.other == 0) {
  }
  const std::string much(kMuch, 'x');
  ready();
  seen.written = ::write(to, much.data(), much.size());
  test::sleep_for_ever();
}

// Claim: a write that is half done is seen and waited for until it is whole, or until the deadline;
// a thread in it is not borrowed while there is another one.
TEST(PartialCall, IsWaitedFor) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  Shared<Seen> seen;
  Victim victim([&](const auto& ready) { write_much(pipe[1], *seen, ready); });
  const pid_t pid = victim.pid();
  until([&] { return sleeps(pid, pid, SYS_write); }, "it waits for the reader");
  until([&] { return sleeps(pid, seen->other); }, "the other one rests");
  const Process process = Process::open(pid);
  EXPECT_EQ(find_partial_call(process), pid);
  EXPECT_FALSE(await_whole_calls(process, Clock::now()));
  for (int i = 0; i < 20; ++i) {
    auto thread = Borrowed::take(process);
    ASSERT_TRUE(thread);
    EXPECT_EQ(thread->tid(), seen->other);
    thread->give_back();
    until([&] { return sleeps(pid, seen->other); }, "the other one rests again");
  }
  EXPECT_EQ(seen->written, 0);

  std::thread reader([&] {
    std::string part(1 << 16, 0);
    for (size_t got = 0; got < kMuch;) {
      got += static_cast<size_t>(std::max<ssize_t>(::read(pipe[0], part.data(), part.size()), 0));
    }
  });
  EXPECT_TRUE(await_whole_calls(process, Clock::now() + std::chrono::seconds(20)));
  reader.join();
  until([&] { return seen->written != 0; }, "the write returns");
  EXPECT_EQ(seen->written, static_cast<long>(kMuch));
  victim.expect_untouched();
  ::close(pipe[0]);
  ::close(pipe[1]);
}

}  // namespace
}  // namespace qp::proc
