// The narrow waist between us and ptrace(2).
//
// PTRACE_SEIZE rather than ATTACH: nobody is stopped by it, no SIGSTOP is invented, group-stop can
// be told from a signal, and PTRACE_INTERRUPT stops without a signal. What a wait status means
// (ptrace(2), "Stopped states"):
//   status >> 16 == PTRACE_EVENT_STOP  SIGTRAP: interrupt, or the first stop of a new thread;
//                                      SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU: group-stop
//   status >> 16 == another event      clone, exec, …
//   SIGTRAP | 0x80                     system call entry or exit (TRACESYSGOOD)
//   any other                          signal-delivery-stop; a detach or continue without the
//                                      number would swallow the signal
//
// Only waitpid of single threads is used: other children of ours (compilers) are never waited for
// here. A wait that must not last for ever: waitpid has no timeout, so a timer sends us a signal
// whose handler does nothing, and waitpid returns EINTR. The signal may come just before waitpid
// blocks; the timer repeats, so that costs one period and no more.
//
// When a leader of a process that is not our child dies, its exit status goes to us first and then
// to its parent (Linux kernel/exit.c: wait_task_zombie, EXIT_TRACE): nothing is stolen.

#include "proc/tracee.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

// First check after this time, then each time this much has passed.
constexpr long kTimerPeriodNs = 2'000'000;

constexpr int kSeizeAttempts = 4;

int timer_signal() {
  return SIGRTMAX - 2;
}

void on_timer(int) {}

// A POSIX timer that signals this thread only.
class ThreadTimer {
 public:
  ThreadTimer() {
    static const bool installed = [] {
      struct sigaction action {};
      action.sa_handler = on_timer;  // no SA_RESTART: it has to interrupt
      return ::sigaction(timer_signal(), &action, nullptr) == 0;
    }();
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = timer_signal();
    event._sigev_un._tid = static_cast<pid_t>(::syscall(SYS_gettid));
    if (!installed || ::timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) {
      throw system_error("can't create", "a timer", errno);
    }
  }
  ThreadTimer(const ThreadTimer&) = delete;
  ThreadTimer& operator=(const ThreadTimer&) = delete;
  ~ThreadTimer() { ::timer_delete(timer_); }
  void arm(long period_ns) {
    itimerspec spec{};
    spec.it_interval.tv_nsec = spec.it_value.tv_nsec = period_ns;
    ::timer_settime(timer_, 0, &spec, nullptr);
  }

 private:
  timer_t timer_{};
};

thread_local int timers = 0;  // StopTimers that live

ThreadTimer& thread_timer() {
  thread_local ThreadTimer timer;
  return timer;
}

Stop classify(int status) {
  if (!WIFSTOPPED(status)) {
    return {Stop::Kind::Gone, 0};
  }
  int signal = WSTOPSIG(status);
  switch (status >> 16) {
    case 0:
      return signal == (SIGTRAP | 0x80) ? Stop{Stop::Kind::Syscall, 0}
                                        : Stop{Stop::Kind::Signal, signal};
    case PTRACE_EVENT_STOP:
      return {signal == SIGTRAP ? Stop::Kind::Event : Stop::Kind::Group, 0};
    case PTRACE_EVENT_CLONE:
      return {Stop::Kind::Clone, 0};
    case PTRACE_EVENT_EXEC:
      return {Stop::Kind::Exec, 0};
    default:
      return {Stop::Kind::Other, 0};
  }
}

// What /proc says about waiting on.
enum class Prospect { WillStop, SleepsDeeply, InVfork, Exiting, Dead };

// Waits for its child to exec or exit (vfork, posix_spawn). Of a thread in state D.
bool in_vfork(pid_t pid, pid_t tid) {
  // "NUMBER 0xARGUMENT …", or "running".
  std::string text = read_task_file(pid, tid, "syscall").value_or("");
  char* end = nullptr;
  long number = std::strtol(text.c_str(), &end, 10);
  if (end == text.c_str()) {
    return false;
  }
  uint64_t argument = std::strtoull(end, nullptr, 16);
  uint64_t flags = argument;  // of clone
  if (number == SYS_clone3) {
    iovec local{&flags, sizeof flags};
    iovec remote{std::bit_cast<void*>(argument), sizeof flags};  // clone_args.flags
    if (::process_vm_readv(tid, &local, 1, &remote, 1, 0) != sizeof flags) {
      return false;
    }
  } else if (number != SYS_clone) {
    return number == SYS_vfork;
  }
  return (flags & CLONE_VFORK) != 0;
}

Prospect look(pid_t pid, pid_t tid) {
  try {
    auto stat = read_task_stat(pid, tid);
    // A dead leader stays a zombie, and reports nothing, until its last thread is gone.
    if (!stat || stat->dead()) {
      return Prospect::Dead;
    }
    if (stat->exiting()) {
      return Prospect::Exiting;
    }
    if (stat->state != 'D') {
      return Prospect::WillStop;
    }
    return in_vfork(pid, tid) ? Prospect::InVfork : Prospect::SleepsDeeply;
  } catch (const Error&) {
    return Prospect::WillStop;
  }
}

struct Straggler {
  pid_t pid, tid;
};
thread_local std::vector<Straggler> stragglers;

// The number of a listed thread can be another process's by the time that it is seized. Such a
// stranger is let go again.
bool is_thread_of(pid_t pid, pid_t tid) {
  if (::syscall(SYS_tgkill, pid, tid, 0) == 0 || errno != ESRCH) {
    return true;
  }
  interrupt(tid);
  StopTimer timer;
  auto deadline = Clock::now() + std::chrono::milliseconds(100);
  Stop stop = wait_for_stop(tid, tid, deadline, deadline);
  if (!stop.stopped()) {
    Stragglers::add(tid, tid);
  } else {
    detach(tid, stop.signal);
  }
  return false;
}

}  // namespace

SeizeResult seize(pid_t pid, pid_t tid, unsigned options) {
  int error = 0;
  // EPERM is also the answer for a dead leader, and a moment later that number can be the living
  // thread that called exec: so one that looks fine is tried again.
  for (int attempt = 0; attempt < kSeizeAttempts; ++attempt) {
    if (::ptrace(PTRACE_SEIZE, tid, nullptr, options) == 0) {
      return is_thread_of(pid, tid) ? SeizeResult::Seized : SeizeResult::Gone;
    }
    error = errno;
    auto stat = read_task_stat(pid, tid);
    if (error == ESRCH || !stat || stat->dead()) {
      return SeizeResult::Gone;
    }
    auto status = read_task_status(pid, tid);
    if (status && status->tracer == static_cast<pid_t>(::syscall(SYS_gettid))) {
      return SeizeResult::AlreadyOurs;
    }
    if (stat->kernel_only()) {
      return SeizeResult::KernelOnly;
    }
    if (status && status->tracer != 0) {
      return SeizeResult::Traced;
    }
  }
  throw system_error("can't attach to", fmt::format("thread {} of process {}", tid, pid), error);
}

Error traced_error(pid_t pid, pid_t tid) {
  auto status = read_task_status(pid, tid);
  pid_t tracer = status ? status->tracer : 0;
  std::string name = tracer != 0 ? read_task_file(tracer, tracer, "comm").value_or("") : "";
  if (name.ends_with('\n')) {
    name.pop_back();
  }
  return Error("traced", "can't attach to", fmt::format("process {}", pid),
               tracer != 0 ? fmt::format("it is traced by {} (process {})", printable(name), tracer)
                           : "it is traced by another program",
               ExitCode::Busy);
}

void StopTimer::prepare() {
  thread_timer();
}

StopTimer::StopTimer() {
  if (timers++ == 0) {
    thread_timer().arm(kTimerPeriodNs);
  }
}

StopTimer::~StopTimer() {
  if (--timers == 0) {
    thread_timer().arm(0);
  }
}

Stop wait_for_stop(pid_t pid, pid_t tid, Clock::time_point running, Clock::time_point sleeping) {
  for (;;) {
    int status = 0;
    pid_t got = ::waitpid(tid, &status, __WALL);
    if (got == tid) {
      return classify(status);
    }
    if (got < 0 && errno != EINTR) {
      return {Stop::Kind::Vanished, 0};  // ECHILD
    }
    Prospect prospect = look(pid, tid);
    auto now = Clock::now();
    if (prospect == Prospect::Dead) {
      if (tid != pid) {
        continue;  // died just now: waitpid will say so
      }
      return {Stop::Kind::Vanished, 0};
    }
    if (prospect == Prospect::Exiting) {
      return {Stop::Kind::Exiting, 0};
    }
    if (now >= running || prospect == Prospect::InVfork ||
        (prospect == Prospect::SleepsDeeply && now >= sleeping)) {
      return {};
    }
  }
}

Stop poll_stop(pid_t tid) {
  int status = 0;
  pid_t got;
  do {
    got = ::waitpid(tid, &status, __WALL | WNOHANG);
  } while (got < 0 && errno == EINTR);
  if (got == 0) {
    return {};
  }
  return got == tid ? classify(status) : Stop{Stop::Kind::Vanished, 0};
}

void interrupt(pid_t tid) {
  ::ptrace(PTRACE_INTERRUPT, tid, nullptr, nullptr);
}

bool detach(pid_t tid, int signal) {
  return ::ptrace(PTRACE_DETACH, tid, nullptr, static_cast<long>(signal)) == 0;
}

void reap(pid_t tid, Clock::time_point deadline) {
  for (;;) {
    int status = 0;
    pid_t got = ::waitpid(tid, &status, __WALL);
    if (got == tid && WIFSTOPPED(status)) {
      ::ptrace(PTRACE_DETACH, tid, nullptr, nullptr);
      return;
    }
    if (got == tid || errno != EINTR || Clock::now() >= deadline) {
      return;
    }
  }
}

static_assert(sizeof(GeneralRegisters) == sizeof(user_regs_struct));
static_assert(offsetof(GeneralRegisters, orig_rax) == offsetof(user_regs_struct, orig_rax));
static_assert(offsetof(GeneralRegisters, rsp) == offsetof(user_regs_struct, rsp));
static_assert(offsetof(GeneralRegisters, gs) == offsetof(user_regs_struct, gs));

bool get_registers(pid_t tid, GeneralRegisters& out) {
  return ::ptrace(PTRACE_GETREGS, tid, nullptr, &out) == 0;
}

bool set_registers(pid_t tid, const GeneralRegisters& registers) {
  return ::ptrace(PTRACE_SETREGS, tid, nullptr, &registers) == 0;
}

void Stragglers::add(pid_t pid, pid_t tid) {
  stragglers.push_back({pid, tid});
}

std::optional<pid_t> Stragglers::sweep(pid_t pid) {
  std::erase_if(stragglers, [](const Straggler& s) {
    Stop stop = poll_stop(s.tid);
    if (stop.stopped()) {
      detach(s.tid, stop.signal);
    }
    return stop.kind != Stop::Kind::None;
  });
  for (const Straggler& s : stragglers) {
    if (s.pid == pid && look(s.pid, s.tid) < Prospect::Exiting) {
      return s.tid;
    }
  }
  return std::nullopt;
}

}  // namespace qp::proc
