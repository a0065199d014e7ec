// A call that waits for the second half of its work can't be started again: it would do the first
// half twice. So the kernel ends it with what was done, and a program that has no signal handlers
// sees, for the first time in its life, a write that wrote less than it was asked to. POSIX allows
// it, and many programs do not expect it. Nothing can be repaired afterwards: the result is a number
// in a register, and what would complete it is code that the process does not have.
//
// What can be done is to come at another moment. /proc/PID/task/TID/syscall tells the call and its
// arguments of a thread that sleeps, without waking it. It does not tell how far the call has got,
// so that all calls count that can have got anywhere. They are rare: writers that are blocked,
// readers that insist on all of it, rings that are entered to submit and to wait at once.
//
// It is a look, not a lock: a thread can enter such a call right afterwards (docs/limits.md).

#include "proc/partial_call.h"

#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <thread>

#include "base/error.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

constexpr long kIoUringEnter = 426, kIoPgetevents = 333, kPwritev2 = 328, kEpollPwait2 = 441;
constexpr uint64_t kExtendedArgument = 1 << 3;  // IORING_ENTER_EXT_ARG: with a timeout, mostly
constexpr auto kFirstWait = std::chrono::milliseconds(1);
constexpr auto kLongestWait = std::chrono::milliseconds(20);

// "NUMBER 0xA 0xB 0xC 0xD 0xE 0xF 0xSP 0xPC" (proc_pid_syscall(5)).
struct Call {
  long number = -1;
  std::array<uint64_t, 6> arguments{};
};

std::optional<Call> parse_call(std::string_view text) {
  Call out;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out.number);
  if (error != std::errc{} || out.number < 0) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  for (uint64_t& argument : out.arguments) {
    if (!text.starts_with(" 0x")) {
      return std::nullopt;
    }
    text.remove_prefix(3);
    auto [past, wrong] = std::from_chars(text.data(), text.data() + text.size(), argument, 16);
    if (wrong != std::errc{}) {
      return std::nullopt;
    }
    text.remove_prefix(static_cast<size_t>(past - text.data()));
  }
  return out;
}

// "" where the thread is gone, or the kernel does not tell (CONFIG_HAVE_ARCH_TRACEHOOK, or no right to).
std::string read_call(pid_t pid, pid_t tid) {
  try {
    return read_task_file(pid, tid, "syscall").value_or("");
  } catch (const Error&) {
    return "";
  }
}

}  // namespace

bool is_partial_call(std::string_view text) {
  const auto call = parse_call(text);
  if (!call) {
    return false;
  }
  const auto& a = call->arguments;
  switch (call->number) {
    case SYS_write:
    case SYS_sendto:
      return a[2] > 1;  // bytes
    case SYS_writev:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_splice:
    case SYS_tee:
    case SYS_vmsplice:
    case SYS_sendfile:
      return true;
    case SYS_copy_file_range:
      return a[4] > 1;  // bytes
    case kPwritev2:
      return static_cast<int64_t>(a[3]) == -1;  // at no offset: like writev
    case SYS_recvfrom:
      return (a[3] & MSG_WAITALL) != 0 && a[2] > 1;
    case SYS_recvmsg:
      return (a[2] & MSG_WAITALL) != 0;
    case SYS_recvmmsg:
      return a[2] > 1 && (a[3] & MSG_WAITFORONE) == 0;  // messages
    case SYS_io_getevents:
    case kIoPgetevents:
      return static_cast<int64_t>(a[1]) > 1;  // how many at least
    case kIoUringEnter:
      return a[1] > 0 && a[2] > 0;  // to submit, to wait for
    default:
      return false;
  }
}

// Timeouts of sockets (SO_RCVTIMEO) are not among the arguments.
bool is_timed_call(std::string_view text) {
  const auto call = parse_call(text);
  if (!call) {
    return false;
  }
  const auto& a = call->arguments;
  switch (call->number) {
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
      return static_cast<int32_t>(a[3]) > 0;
    case kEpollPwait2:
    case SYS_semtimedop:
      return a[3] != 0;
    case SYS_rt_sigtimedwait:
      return a[2] != 0;
    case SYS_io_getevents:
    case kIoPgetevents:
      return a[4] != 0;
    case kIoUringEnter:
      return a[2] > 0 && (a[3] & kExtendedArgument) != 0;
    default:
      return false;
  }
}

bool in_sensitive_call(pid_t pid, pid_t tid) {
  const auto text = read_call(pid, tid);
  return is_partial_call(text) || is_timed_call(text);
}

std::optional<pid_t> find_partial_call(const Process& process) {
  for (pid_t tid : process.threads()) {
    if (is_partial_call(read_call(process.pid(), tid))) {
      return tid;
    }
  }
  return std::nullopt;
}

bool await_whole_calls(const Process& process, std::chrono::steady_clock::time_point deadline) {
  std::chrono::steady_clock::duration wait = kFirstWait;
  while (find_partial_call(process)) {
    if (std::chrono::steady_clock::now() >= deadline) {
      return false;
    }
    std::this_thread::sleep_for(wait);
    wait = std::min<std::chrono::steady_clock::duration>(wait * 2, kLongestWait);
  }
  return true;
}

}  // namespace qp::proc
