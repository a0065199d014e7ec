// No EINTR that would not have happened.
//
// PTRACE_INTERRUPT wakes a thread out of the system call that it sleeps in, as a signal would. Most
// calls then return one of the kernel's private codes (ERESTARTSYS …, not visible to a program) and
// are started again behind the stop without anybody noticing. But some answer EINTR as soon as they
// were woken, whoever did it: the class that signal(7) calls "never restarted, regardless of
// SA_RESTART": epoll_wait, sigtimedwait, semop, io_getevents, io_uring_enter, and sockets with
// SO_RCVTIMEO or SO_SNDTIMEO; and select and ppoll, which count their timeout down in the caller's
// memory, where that is read-only (Linux fs/select.c: poll_select_finish). Many programs treat EINTR as a failure; some exit.
//
// At the stop the thread has not left the kernel yet: rax is −EINTR and orig_rax still the number
// of the call. (Outside a system call orig_rax is negative, so an old −4 in rax is not mistaken.)
// Setting rax = orig_rax and rip back over the two bytes of `syscall` is what the kernel does for
// the restartable ones; orig_rax = −1 tells it to leave that alone. Every call in the list below
// has done nothing yet when it says EINTR: whatever had received, sent or submitted a part returns
// how much instead (e.g. Linux net/ipv4/tcp.c: tcp_recvmsg_locked, io_uring/io_uring.c:
// `submitted`). `close` and others whose EINTR means "done, in a way" are not in it.
//
// If a signal with a handler waits, EINTR is what would have happened: the call stays interrupted.
// Signals that the process ignores don't count; normally they would not even have woken it. (They
// do while we trace: Linux kernel/signal.c: sig_ignored.) A signal that arrives between this look
// and the detach finds the thread just before its system call, which is where it can always be.
//
// Timeouts. A relative timeout starts again in full, because how much of it had passed is nowhere
// to be read: a sigtimedwait of one second that was stopped half way takes 1.5 s. That is allowed
// (a timeout is a lower bound) and EINTR, or a timeout that comes early, is not. Of epoll_wait, by
// which most servers keep time, only the first freeze is not counted (wait_clock.cc).

#include "proc/interrupted_call.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/error.h"
#include "proc/procfs.h"
#include "proc/tracee.h"
#include "proc/wait_clock.h"

namespace qp::proc {
namespace {

constexpr std::array<long, 24> kNeverRestarted = {
    // signal(7), "never restarted"
    SYS_epoll_wait, SYS_epoll_pwait, 441 /* epoll_pwait2 */, SYS_rt_sigtimedwait, SYS_semop,
    SYS_semtimedop, SYS_io_getevents, 426 /* io_uring_enter */,
    // with SO_RCVTIMEO
    SYS_accept, SYS_accept4, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg, SYS_read, SYS_readv,
    // with SO_SNDTIMEO
    SYS_connect, SYS_sendto, SYS_sendmsg, SYS_sendmmsg, SYS_write, SYS_writev,
    // with a timeout in memory that can't be written to
    SYS_select, SYS_pselect6, SYS_ppoll};

constexpr uint64_t bit(int signal) {
  return uint64_t{1} << (signal - 1);
}

// SIG_DFL of these does nothing (signal(7)).
constexpr uint64_t kIgnoredByDefault = bit(SIGCHLD) | bit(SIGURG) | bit(SIGWINCH) | bit(SIGCONT);

// The signals in the thread's queue, or in that of its process. Those beyond kAtOnce count as any.
uint64_t queued_signals(pid_t tid, uint32_t flags) {
  constexpr int kAtOnce = 16;
  std::array<siginfo_t, kAtOnce> infos;
  __ptrace_peeksiginfo_args args{.off = 0, .flags = flags, .nr = kAtOnce};
  long n = ::ptrace(PTRACE_PEEKSIGINFO, tid, &args, infos.data());
  if (n < 0 || n == kAtOnce) {
    return ~uint64_t{0};
  }
  uint64_t out = 0;
  for (long i = 0; i < n; ++i) {
    out |= bit(infos[static_cast<size_t>(i)].si_signo);
  }
  return out;
}

bool signal_waits(pid_t pid, pid_t tid, int delivering) {
  uint64_t waiting = queued_signals(tid, 0) | queued_signals(tid, PTRACE_PEEKSIGINFO_SHARED);
  if (waiting == 0 && delivering == 0) {
    return false;
  }
  // Not PTRACE_GETSIGMASK: within epoll_pwait that tells the mask from before the call, while
  // status tells the one in force.
  try {
    auto status = read_task_status(pid, tid);
    if (!status) {
      return true;
    }
    uint64_t ignored = status->ignored | (kIgnoredByDefault & ~status->caught);
    waiting &= ~status->blocked;
    if (delivering != 0) {
      waiting |= bit(delivering);
    }
    return (waiting & ~ignored) != 0;
  } catch (const Error&) {
    return true;
  }
}

}  // namespace

bool would_return_eintr(const GeneralRegisters& registers) {
  return static_cast<int64_t>(registers.rax) == -EINTR &&
         std::find(kNeverRestarted.begin(), kNeverRestarted.end(),
                   static_cast<long>(registers.orig_rax)) != kNeverRestarted.end();
}

bool restart_unless_signalled(pid_t pid, pid_t tid, GeneralRegisters registers, int delivering) {
  errno = 0;
  long code = ::ptrace(PTRACE_PEEKTEXT, tid, registers.rip - 2, nullptr);
  if (errno != 0 || (code & 0xffff) != 0x050f) {
    return false;  // int 0x80: the numbers of another table
  }
  if (signal_waits(pid, tid, delivering)) {
    return false;
  }
  keep_time(pid, tid, registers);
  registers.rax = registers.orig_rax;
  registers.rip -= 2;  // 0f 05  syscall
  registers.orig_rax = ~uint64_t{0};
  return set_registers(tid, registers);
}

}  // namespace qp::proc
