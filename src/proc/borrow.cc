// Running a system call in somebody else's thread, and leaving no trace in it.
//
// The thread is stopped where it happens to be, in user mode or asleep in a system call. Its state
// is saved, all signals are blocked, and its instruction pointer is set on a `syscall` instruction
// that the process has anyway (the vdso has one). PTRACE_SYSCALL takes it to the entry of the call
// and to its exit: no instruction of the program runs, no byte of its memory is written.
//
// Where the way back is hard:
//   - A sleeping call that was interrupted ends with a private code (rax = −512 …) which the kernel
//     turns into a restart on the way out of its signal handling, looking at rax and orig_rax. That
//     look is taken behind an event stop, and *not* behind a syscall-exit stop. So after the last
//     call the thread is interrupted and continued once more: it reaches the event stop before it
//     can execute anything, and there the saved registers are put back. At a syscall-exit stop,
//     −516 would come out of nanosleep as a result.
//   - Calls that don't restart by themselves get the treatment of interrupted_call.cc.
//   - SIGSTOP can't be blocked. If it comes in the midst it is held back and sent again at the end.
//     A thread of a process that is stopped already can be borrowed: the kernel remembers the group
//     stop and the thread returns into it at the detach.
//   - A signal that was about to be delivered when we came is delivered first; we borrow the thread
//     at the first instruction of its handler.
//   - In a restartable sequence the kernel has to see the thread return there or abort it. Another
//     thread is taken, or a later moment.
//
// What must not run: under a seccomp filter the call could kill the process. PTRACE_O_SUSPEND_
// SECCOMP sets filters aside as long as we are attached; where we may not, the answer is an Error
// and no call is tried. Likewise with syscall user dispatch, which has no such switch.
//
// While the registers are borrowed, the death of qpatch would leave the thread behind the `syscall`
// instruction with registers that mean nothing. So it has a way home by itself (way_home.h), where
// its stack and the process's code allow it; else the window is kept short (docs/limits.md).
// PTRACE_O_EXITKILL would make it worse.

#include "proc/borrow.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "base/error.h"
#include "proc/borrowed_state.h"
#include "proc/interrupted_call.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

using namespace std::chrono_literals;

constexpr auto kReapPatience = 50ms;
constexpr auto kCallPatience = 5s;
constexpr auto kSpinning = 50us;
// With the others held: a call that takes longer may be waiting for one of them, unless the thread
// only waits for a processor that other processes have.
constexpr auto kHeldPatience = 10ms;
constexpr auto kHeldForAProcessor = 250ms;
constexpr int kRestarts = 100;

}  // namespace

// A thread that runs nothing but a system call stops in a moment. Sleeping until then costs more
// than the call: waking a halted processor takes tens of microseconds, twice for each call. But a
// processor that we occupy may be the one that the thread is waiting for, so not for long.
Stop Borrowed::State::wait_soon() {
  auto now = Clock::now();
  for (const auto enough = now + kSpinning; now < enough; now = Clock::now()) {
    if (Stop stop = poll_stop(tid); stop.kind != Stop::Kind::None) {
      return stop;
    }
  }
  for (const auto since = now; others; now = Clock::now()) {
    Stop stop = wait_for_stop(pid, tid, now + kHeldPatience, now + kHeldPatience);
    if (stop.kind != Stop::Kind::None) {
      return stop;
    }
    const auto stat = read_task_stat(pid, tid);
    if (!stat || stat->state != 'R' || Clock::now() >= since + kHeldForAProcessor) {
      others.reset();
    }
  }
  return wait_for_stop(pid, tid, now + kCallPatience, now + kCallPatience);
}

// The next stop that is not one of the kind that can always come.
Stop Borrowed::State::wait_call() {
  for (;;) {
    Stop stop = wait_soon();
    if (stop.kind == Stop::Kind::Signal && stop.signal == SIGSTOP) {
      stop_signal = SIGSTOP;
    } else if (!is_event(stop)) {
      return stop;
    }
    resume(PTRACE_SYSCALL, tid, 0);
  }
}

void Borrowed::State::run_to_syscall_stop(At then) {
  at = At::Unknown;
  if (!resume(PTRACE_SYSCALL, tid, 0)) {
    at = At::Dead;
    throw died();
  }
  Stop stop = wait_call();
  switch (stop.kind) {
    case Stop::Kind::Syscall:
      at = then;
      return;
    case Stop::Kind::Gone:
    case Stop::Kind::Vanished:
    case Stop::Kind::Exiting:
      at = At::Dead;
      throw died();
    case Stop::Kind::None:
      throw Error("unresponsive", "a system call in",
                  fmt::format("thread {} of process {}", tid, pid), "it does not end",
                  ExitCode::Busy);
    default:
      at = At::Entry;  // give_back() takes it from here as from a syscall stop
      throw Error("system", "a system call in", fmt::format("thread {} of process {}", tid, pid),
                  fmt::format("the thread got signal {}", stop.signal));
  }
}

// From a syscall stop (or out of a call that did not end) to one where registers may be put back.
// Waits as long as it takes: a thread with borrowed registers can't be left alone. Behind the exit
// of a call that is the same stop, if no call of the thread's own has to be restarted.
void Borrowed::State::reach_event_stop() {
  bool in_call = static_cast<int64_t>(saved.registers.orig_rax) >= 0;
  if (at == At::Event || at == At::Dead || (at == At::Exit && !in_call)) {
    return;
  }
  bool stopped = at == At::Entry || at == At::Exit;
  for (;;) {
    interrupt(tid);
    if (stopped && !resume(PTRACE_CONT, tid, 0)) {
      at = At::Dead;
      return;
    }
    Stop stop = wait_soon();
    stopped = stop.stopped();
    if (is_event(stop)) {
      at = At::Event;
      return;
    }
    if (!stopped && stop.kind != Stop::Kind::None) {
      at = At::Dead;
      return;
    }
    if (stop.kind == Stop::Kind::Signal && stop.signal == SIGSTOP) {
      stop_signal = SIGSTOP;
    }
  }
}

Borrowed::Borrowed() = default;
Borrowed::Borrowed(Borrowed&&) noexcept = default;
Borrowed::~Borrowed() {
  give_back();
}
std::optional<LiveAddr> Borrowed::scratch() const {
  return state_ && state_->home ? std::optional(state_->home->scratch()) : std::nullopt;
}
pid_t Borrowed::tid() const {
  return state_ ? state_->tid : 0;
}

int64_t Borrowed::call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                       uint64_t f) {
  QP_ASSERT(state_);
  State& s = *state_;
  if (s.at == State::At::Dead) {
    throw s.died();
  }
  QP_ASSERT(s.at != State::At::Unknown);
  StopTimer timer;
  GeneralRegisters registers = s.start;
  registers.rax = static_cast<uint64_t>(number);
  registers.rdi = a;
  registers.rsi = b;
  registers.rdx = c;
  registers.r10 = d;
  registers.r8 = e;
  registers.r9 = f;
  for (int i = 0; i < kRestarts; ++i) {
    if (!set_registers(s.tid, registers)) {
      s.at = State::At::Dead;
      throw s.died();
    }
    s.run_to_syscall_stop(State::At::Entry);
    // An older kernel (before v5.3) does not tell; then the stop is taken for what it should be.
    __ptrace_syscall_info info{};
    QP_ASSERT(
        ::ptrace(PTRACE_GET_SYSCALL_INFO, s.tid, sizeof info, &info) <= 0 ||
        (info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == static_cast<uint64_t>(number)));
    s.run_to_syscall_stop(State::At::Exit);
    GeneralRegisters after;
    if (!get_registers(s.tid, after)) {
      s.at = State::At::Dead;
      throw s.died();
    }
    auto result = static_cast<int64_t>(after.rax);
    // ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND: a stop came in between; nothing was done.
    if (result > -512 || result < -514) {
      return result;
    }
  }
  throw Error("unresponsive", "a system call in",
              fmt::format("thread {} of process {}", s.tid, s.pid),
              "it is interrupted all the time", ExitCode::Busy);
}

std::string Borrowed::obstacle() const {
  QP_ASSERT(state_);
  return obstacle_to_call(state_->process, state_->tid, state_->saved);
}

CallEnd Borrowed::run(const FunctionCall& call) {
  QP_ASSERT(state_);
  State& s = *state_;
  QP_ASSERT(s.at == State::At::Event || s.at == State::At::Exit);
  CallEnd end = call_function(s.process, s.tid, s.saved, call);
  switch (end.kind) {
    case CallEnd::Kind::Gone:
      s.at = State::At::Dead;
      break;
    case CallEnd::Kind::Stuck:
      Stragglers::add(s.pid, s.tid);
      state_.reset();
      break;
    default:
      s.at = State::At::Event;
      if (!s.set_out()) {  // as take() left it, for more calls
        s.at = State::At::Dead;
      }
  }
  return end;
}

void Borrowed::give_back() noexcept {
  if (!state_) {
    return;
  }
  State& s = *state_;
  StopTimer timer;
  s.reach_event_stop();
  if (s.at != State::At::Dead && s.saved.restore(s.tid)) {
    if (s.home) {
      try {
        s.home->remove(s.process);
      } catch (const Error&) {
        // The memory is gone, and the process with it.
      }
    }
    if (would_return_eintr(s.saved.registers)) {
      restart_unless_signalled(s.pid, s.tid, s.saved.registers, 0);
    }
    detach(s.tid, 0);
    if (s.stop_signal != 0) {
      ::kill(s.pid, s.stop_signal);
    }
  } else {
    reap(s.tid, Clock::now() + kReapPatience);
  }
  state_.reset();
}

}  // namespace qp::proc
