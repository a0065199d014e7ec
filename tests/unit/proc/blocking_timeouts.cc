// Calls that wait for a fifth of a second and nothing else. Those whose end the kernel remembers over an
// interruption (a restart block, an absolute time, a timeout that is counted down in the caller's
// memory), and those of which we do (wait_clock.h), end on time however often they are interrupted:
// `keeps_time`.

#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>

#include "blocking_calls.h"
#include "victim.h"

namespace qp::test {
namespace {

constexpr long kShort = 200'000'000;

timespec now(clockid_t clock) {
  timespec out;
  ::clock_gettime(clock, &out);
  return out;
}

timespec soon(clockid_t clock) {
  timespec out = now(clock);
  out.tv_nsec += kShort;
  out.tv_sec += out.tv_nsec / 1'000'000'000;
  out.tv_nsec %= 1'000'000'000;
  return out;
}

long since(const timespec& start) {
  timespec end = now(CLOCK_MONOTONIC);
  return (end.tv_sec - start.tv_sec) * 1'000'000'000 + (end.tv_nsec - start.tv_nsec);
}

}  // namespace

void add_timed_calls(std::vector<BlockingCall>& out) {
  // 0 if the call ended as it should, and not early (clocks differ by less than a millisecond).
  auto add = [&](std::string name, long number, long expected, const std::function<long()>& call) {
    BlockingCall entry{
        std::move(name),
        number,
        [=] {
          timespec start = now(CLOCK_MONOTONIC);
          long got = result(call());
          return got != expected ? got : since(start) >= kShort - 1'000'000 ? 0L : 1L;
        },
        {},
        0};
    entry.keeps_time = true;
    out.push_back(std::move(entry));
  };
  add("poll of a fifth of a second", SYS_poll, 0, [] { return ::poll(nullptr, 0, 200); });
  add("ppoll of a fifth of a second", SYS_ppoll, 0, [] {
    timespec time{.tv_sec = 0, .tv_nsec = kShort};
    return ::syscall(SYS_ppoll, nullptr, 0, &time, nullptr, 0);
  });
  add("select of a fifth of a second", SYS_select, 0, [] {
    timeval time{.tv_sec = 0, .tv_usec = kShort / 1000};
    return ::syscall(SYS_select, 0, nullptr, nullptr, nullptr, &time);
  });
  add("pselect of a fifth of a second", SYS_pselect6, 0, [] {
    timespec time{.tv_sec = 0, .tv_nsec = kShort};
    return ::syscall(SYS_pselect6, 0, nullptr, nullptr, nullptr, &time, nullptr);
  });
  for (const bool masked : {false, true}) {
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    add(masked ? "epoll_pwait of a fifth of a second" : "epoll_wait of a fifth of a second",
        masked ? SYS_epoll_pwait : SYS_epoll_wait, 0, [=] {
          epoll_event event;
          sigset_t none;
          sigemptyset(&none);
          return masked ? ::epoll_pwait(epoll, &event, 1, 200, &none)
                        : ::epoll_wait(epoll, &event, 1, 200);
        });
  }
  add("nanosleep of a fifth of a second", SYS_nanosleep, 0, [] {
    timespec time{.tv_sec = 0, .tv_nsec = kShort}, left;
    return ::syscall(SYS_nanosleep, &time, &left);
  });
  add("clock_nanosleep until a time", SYS_clock_nanosleep, 0, [] {
    timespec time = soon(CLOCK_MONOTONIC);
    return ::syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr);
  });
  auto word = std::make_shared<Shared<std::atomic<int>>>();
  add("futex of a fifth of a second", SYS_futex, -ETIMEDOUT, [=] {
    timespec time{.tv_sec = 0, .tv_nsec = kShort};
    return ::syscall(SYS_futex, &**word, FUTEX_WAIT, 0, &time, nullptr, 0);
  });
  add("futex until a time", SYS_futex, -ETIMEDOUT, [=] {
    timespec time = soon(CLOCK_MONOTONIC);
    return ::syscall(SYS_futex, &**word, FUTEX_WAIT_BITSET, 0, &time, nullptr, ~0u);
  });
  add("futex_waitv until a time", 449, -ETIMEDOUT, [=] {
    timespec time = soon(CLOCK_MONOTONIC);
    futex_waitv wait{};
    wait.uaddr = reinterpret_cast<uint64_t>(&**word);
    wait.flags = FUTEX_32;
    return ::syscall(449, &wait, 1, 0, &time, CLOCK_MONOTONIC);
  });
  std::string name = "/qpatch-" + std::to_string(::getpid()) + "t";
  mq_attr how{};
  how.mq_maxmsg = 1;
  how.mq_msgsize = 8;
  mqd_t queue = ::mq_open(name.c_str(), O_CREAT | O_RDWR, 0600, &how);
  ::mq_unlink(name.c_str());
  if (queue < 0) {
    std::abort();
  }
  add("mq_timedreceive until a time", SYS_mq_timedreceive, -ETIMEDOUT, [=] {
    timespec time = soon(CLOCK_REALTIME);
    char message[8];
    return ::mq_timedreceive(queue, message, sizeof message, nullptr, &time);
  });
}

}  // namespace qp::test
