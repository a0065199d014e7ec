// One traced thread, in the kernel's terms: attach, wait for a stop and say of which kind it is,
// registers, detach. All calls for a thread come from the thread of ours that attached: ptrace
// knows one tracer thread, not a tracer process.
#pragma once

#include <chrono>
#include <optional>

#include <sys/types.h>

#include "proc/freeze.h"

namespace qp::proc {

using Clock = std::chrono::steady_clock;

enum class SeizeResult {
  Seized,
  AlreadyOurs,  // auto-attached (PTRACE_O_TRACECLONE), or left behind by an earlier freeze
  Gone,         // exited, or is a dead leader
  KernelOnly,
  Traced,  // by somebody else
};
// Throws Error{system} where the kernel does not let us. `options`: PTRACE_O_*.
SeizeResult seize(pid_t pid, pid_t tid, unsigned options);
// Error{traced} that names the tracer (asked of the thread).
Error traced_error(pid_t pid, pid_t tid);

struct Stop {
  enum class Kind {
    None,      // deadline passed
    Gone,      // exited or killed, and told us
    Vanished,  // is a dead leader, or exec gave its thread another number: see seized.cc
    Exiting,   // on its way out in the kernel; never runs user code again
    Event,     // PTRACE_EVENT_STOP after an interrupt, or a new thread's first stop
    Group,     // PTRACE_EVENT_STOP of a process that was stopped (SIGSTOP …)
    Signal,    // a signal is about to be delivered: it must be passed on
    Syscall,   // with PTRACE_O_TRACESYSGOOD
    Clone,     // PTRACE_EVENT_CLONE
    Exec,      // PTRACE_EVENT_EXEC
    Other,     // any other event
  };
  Kind kind = Kind::None;
  int signal = 0;
  // It can be looked at, and let go.
  bool stopped() const { return kind > Kind::Exiting; }
};

// How long to wait for a thread that should stop. The kernel has no waitpid with a timeout; a timer
// of ours interrupts it. Cheap to make (two system calls).
class StopTimer {
 public:
  StopTimer();
  // Makes what the constructor needs, so that it does not throw later: call before any thread is
  // attached to. Throws Error{system}.
  static void prepare();
  StopTimer(const StopTimer&) = delete;
  StopTimer& operator=(const StopTimer&) = delete;
  ~StopTimer();
};

// Waits with a StopTimer alive. A thread that runs or waits to run gets until `running`; one in
// uninterruptible sleep (a page fault, a lock of the kernel's) only until `sleeping`, since no
// priority of ours makes it faster; a vfork parent no time at all. Never throws.
Stop wait_for_stop(pid_t pid, pid_t tid, Clock::time_point running, Clock::time_point sleeping);
// Does not block and needs no timer; Kind::None if it has not stopped.
Stop poll_stop(pid_t tid);

void interrupt(pid_t tid);
// False if the thread is gone. `signal` is delivered only out of a signal stop.
bool detach(pid_t tid, int signal);
// Waits (with a StopTimer alive) for a thread that died, so that the kernel can forget it.
void reap(pid_t tid, Clock::time_point deadline);

bool get_registers(pid_t tid, GeneralRegisters& out);
bool set_registers(pid_t tid, const GeneralRegisters& registers);

// Threads that this thread of ours attached to and that never stopped (a vfork parent whose child
// does not exec, a thread that is long in exiting): they can't be let go before they stop or die.
class Stragglers {
 public:
  static void add(pid_t pid, pid_t tid);
  // Lets go all that have stopped meanwhile. Nullopt if none of `pid` is left that could run user
  // code, else its TID.
  static std::optional<pid_t> sweep(pid_t pid);
};

}  // namespace qp::proc
