// An epoll_wait of one second that is interrupted after 900 ms and starts again waits for 1.9 s; one
// that is interrupted every 50 ms, while qpatch tries to find a moment at which a function is left,
// does not end at all. The kernel does not tell how long a thread has waited, so the first
// interruption starts the wait again in full. But it can be written down when that was, and then no
// other one, of this run of qpatch or of any later one, prolongs the wait any more.
//
// Where it is written: in the register of the timeout itself. That is an int, so the kernel looks at
// the lower half of r10 only. The upper half gets the time at which the lower one was right: 24 bits
// of milliseconds, and 8 that tell it from what a program may have left there. The note goes where
// the wait goes: a thread that returns and waits again has loaded r10 anew. A note that is older than
// 24 bits can say is taken for a younger one, and the wait lasts longer.
//
// A system call preserves r10, so a program could look at it afterwards. It is changed only where
// the code behind the `syscall` never does (insn/liveness.h): the functions of libc, and what
// compilers make of one in the middle of others, in general do not.
//
// A seccomp filter sees all six arguments of a call, and may want that one to be a small number. A thread
// that has one gets no note.
//
// Rounding is such that no wait ends early: the time of the note up, what has passed since down.
//
// Not for the other calls that start again in full: their timeout is behind a pointer or in a socket,
// and memory of the program is not ours to write to (docs/limits.md).

#include "proc/wait_clock.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <bit>
#include <fstream>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "insn/liveness.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

using namespace std::chrono_literals;

constexpr unsigned kR10 = 10;
constexpr uint64_t kMagic = 0xa7, kMagicShift = 56, kTimeShift = 32, kTimeMask = 0xff'ffff;
// A thread may come late to its stop, or the process may have been stopped; more than that, and the
// note is none.
constexpr int64_t kLateMs = 10'000;

// Whether nobody looks at r10 behind `pc`. Threads of one process sit in the same libc function; the
// answer depends on the bytes alone, so they are compared, and not looked through again.
bool is_free(pid_t tid, LiveAddr pc) {
  constexpr uint64_t kBefore = 256, kAround = 768;
  struct Known {
    std::array<std::byte, kAround> code;
    size_t size = 0, at = 0;
    bool free = false;
  };
  thread_local Known known;
  // Not over the start of a page, before which there may be nothing.
  const uint64_t start = std::max(pc.value - kBefore, align_down(pc.value - 2, kPageSize));
  std::array<std::byte, kAround> code;
  iovec local{code.data(), code.size()};
  iovec remote{std::bit_cast<void*>(start), code.size()};
  const ssize_t got = ::process_vm_readv(tid, &local, 1, &remote, 1, 0);
  if (got <= 0) {
    return false;
  }
  const auto size = static_cast<size_t>(got);
  const size_t at = pc.value - start;
  if (known.size != size || known.at != at ||
      !std::equal(code.begin(), code.begin() + got, known.code.begin())) {
    known = {code, size, at, insn::is_never_read(ByteView(code).first(size), at, kR10)};
  }
  return known.free;
}

bool is_filtered(pid_t pid, pid_t tid) {
  try {
    const auto status = read_task_status(pid, tid);
    return !status || status->seccomp != 0;
  } catch (const Error&) {
    return true;
  }
}

// How far our clock is ahead of the host's (time_namespaces(7)): two runs of qpatch may be in
// different namespaces. Nullopt: not known.
std::optional<std::chrono::nanoseconds> clock_offset() {
  static const std::optional<std::chrono::nanoseconds> offset =
      []() -> std::optional<std::chrono::nanoseconds> {
    std::ifstream file("/proc/self/timens_offsets");
    if (!file) {
      return 0ns;  // a kernel without them
    }
    std::string clock;
    int64_t seconds = 0, nanoseconds = 0;
    while (file >> clock >> seconds >> nanoseconds) {
      if (clock == "monotonic") {
        return std::chrono::seconds(seconds) + std::chrono::nanoseconds(nanoseconds);
      }
    }
    return std::nullopt;
  }();
  return offset;
}

int64_t milliseconds(std::chrono::nanoseconds time) {
  return std::chrono::floor<std::chrono::milliseconds>(time).count();
}

}  // namespace

uint64_t left_of_wait(uint64_t timeout, std::chrono::nanoseconds now) {
  auto left = static_cast<int64_t>(static_cast<int32_t>(timeout));
  if (left <= 0) {
    return timeout;  // it lasts for ever, or not at all
  }
  if (timeout >> kMagicShift == kMagic) {
    const uint64_t noted = timeout >> kTimeShift & kTimeMask;
    const auto passed =
        static_cast<int64_t>((static_cast<uint64_t>(milliseconds(now)) - noted) & kTimeMask);
    if (passed <= left + kLateMs) {
      left = std::max<int64_t>(left - passed, 0);
    }
  }
  const uint64_t rounded_up = static_cast<uint64_t>(milliseconds(now + 999'999ns)) & kTimeMask;
  return kMagic << kMagicShift | rounded_up << kTimeShift | static_cast<uint64_t>(left);
}

void keep_time(pid_t pid, pid_t tid, GeneralRegisters& registers) {
  const auto number = static_cast<long>(registers.orig_rax);
  if ((number != SYS_epoll_wait && number != SYS_epoll_pwait) ||
      static_cast<int32_t>(registers.r10) <= 0 || !clock_offset() ||
      !is_free(tid, LiveAddr(registers.rip)) || is_filtered(pid, tid)) {
    return;
  }
  timespec time{};
  if (::clock_gettime(CLOCK_MONOTONIC, &time) == 0) {
    registers.r10 =
        left_of_wait(registers.r10, std::chrono::seconds(time.tv_sec) +
                                        std::chrono::nanoseconds(time.tv_nsec) - *clock_offset());
  }
}

}  // namespace qp::proc
