// An operator who is told that a thread is in the way wants to know what would make it leave. The
// answer is in the registers of the stopped thread: outside of a system call orig_rax is negative,
// inside it is the call's number, and the arguments are still where the program put them.
// (/proc/PID/task/TID/syscall says the same, but of a later moment, when the thread may be on its way
// back into the call.) Names are those of the calls that can last; another one is told by number.

#include "proc/waiting.h"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include <fmt/format.h>

#include "proc/procfs.h"

namespace qp::proc {
namespace {

struct Call {
  long number;
  const char* name;
  enum class First : uint8_t { Nothing, Descriptor, Address } first;
};

constexpr auto kNothing = Call::First::Nothing;
constexpr auto kDescriptor = Call::First::Descriptor;
constexpr std::array<Call, 45> kCalls = {{
    {SYS_read, "read", kDescriptor},
    {SYS_write, "write", kDescriptor},
    {SYS_readv, "readv", kDescriptor},
    {SYS_writev, "writev", kDescriptor},
    {SYS_pread64, "pread", kDescriptor},
    {SYS_pwrite64, "pwrite", kDescriptor},
    {SYS_poll, "poll", kNothing},
    {SYS_ppoll, "ppoll", kNothing},
    {SYS_select, "select", kNothing},
    {SYS_pselect6, "pselect", kNothing},
    {SYS_epoll_wait, "epoll_wait", kDescriptor},
    {SYS_epoll_pwait, "epoll_pwait", kDescriptor},
    {441, "epoll_pwait2", kDescriptor},
    {SYS_futex, "futex", Call::First::Address},
    {449, "futex_waitv", kNothing},
    {SYS_nanosleep, "nanosleep", kNothing},
    {SYS_clock_nanosleep, "clock_nanosleep", kNothing},
    {SYS_restart_syscall, "a call that is restarted", kNothing},
    {SYS_pause, "pause", kNothing},
    {SYS_accept, "accept", kDescriptor},
    {SYS_accept4, "accept", kDescriptor},
    {SYS_connect, "connect", kDescriptor},
    {SYS_recvfrom, "recv", kDescriptor},
    {SYS_recvmsg, "recvmsg", kDescriptor},
    {SYS_recvmmsg, "recvmmsg", kDescriptor},
    {SYS_sendto, "send", kDescriptor},
    {SYS_sendmsg, "sendmsg", kDescriptor},
    {SYS_sendmmsg, "sendmmsg", kDescriptor},
    {SYS_wait4, "wait for a child", kNothing},
    {SYS_waitid, "wait for a child", kNothing},
    {SYS_rt_sigtimedwait, "sigtimedwait", kNothing},
    {SYS_rt_sigsuspend, "sigsuspend", kNothing},
    {SYS_semop, "semop", kNothing},
    {SYS_semtimedop, "semtimedop", kNothing},
    {SYS_msgrcv, "msgrcv", kNothing},
    {SYS_msgsnd, "msgsnd", kNothing},
    {SYS_mq_timedreceive, "mq_receive", kDescriptor},
    {SYS_flock, "flock", kDescriptor},
    {SYS_fcntl, "fcntl", kDescriptor},
    {SYS_ioctl, "ioctl", kDescriptor},
    {SYS_fsync, "fsync", kDescriptor},
    {SYS_io_getevents, "io_getevents", kNothing},
    {426, "io_uring_enter", kDescriptor},
    {SYS_openat, "open", kNothing},
    {SYS_splice, "splice", kDescriptor},
}};

}  // namespace

std::string describe_wait(const Process& process, const GeneralRegisters& registers) {
  const auto number = static_cast<int64_t>(registers.orig_rax);
  if (number < 0) {
    return "";
  }
  const auto* call =
      std::find_if(kCalls.begin(), kCalls.end(), [&](const Call& c) { return c.number == number; });
  if (call == kCalls.end()) {
    return fmt::format("system call {}", number);
  }
  if (call->first == Call::First::Address) {
    return fmt::format("{} at {:#x}", call->name, registers.rdi);
  }
  if (call->first == Call::First::Nothing) {
    return call->name;
  }
  const auto fd = static_cast<int>(registers.rdi);
  std::error_code error;
  const std::string what =
      std::filesystem::read_symlink(fmt::format("/proc/{}/fd/{}", process.pid(), fd), error)
          .string();
  return fmt::format("{} of {}", call->name,
                     error ? fmt::format("descriptor {}", fd) : printable(what));
}

}  // namespace qp::proc
