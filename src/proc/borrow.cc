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
#include <unistd.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.h"
#include "proc/cgroup.h"
#include "proc/code_search.h"
#include "proc/interrupted_call.h"
#include "proc/partial_call.h"
#include "proc/priority.h"
#include "proc/procfs.h"
#include "proc/saved_thread.h"
#include "proc/tracee.h"
#include "proc/way_home.h"

namespace qp::proc {
namespace {

using namespace std::chrono_literals;

// For a thread that runs or waits for a processor. It is not held up by our waiting, and on an
// overloaded host it needs the time; giving up would leave it attached.
constexpr auto kStopPatience = 2s;
// For one in uninterruptible sleep that has to be let go; then it is left behind.
constexpr auto kGrace = 50ms;
constexpr auto kReapPatience = 50ms;
constexpr auto kSleepingPatience = 3ms;
constexpr auto kCallPatience = 5s;
constexpr auto kSpinning = 50us;
constexpr int kRounds = 3;
constexpr int kStopsInARow = 64;  // signal stops before an event stop, in a storm
constexpr int kRestarts = 100;

constexpr uint64_t kUserCode64 = 0x33;  // __USER_CS: not in 32-bit code
// TF 8, DF 10, NT 14, AC 18.
constexpr uint64_t kFlagsToClear = 1u << 8 | 1u << 10 | 1u << 14 | 1u << 18;

std::optional<LiveAddr> find_syscall(const Process& process, std::vector<Mapping> code) {
  constexpr std::array<uint8_t, 2> kSyscall = {0x0f, 0x05};  // syscall
  // [vsyscall] is emulated: nothing can be executed there but its three entries.
  std::erase_if(code, [](const Mapping& m) { return !m.executable || m.name == "[vsyscall]"; });
  auto rank = [](const Mapping& m) {
    return m.name == "[vdso]" ? 0 : m.name.find("/libc") != std::string::npos ? 1 : 2;
  };
  std::stable_sort(code.begin(), code.end(),
                   [&](const Mapping& a, const Mapping& b) { return rank(a) < rank(b); });
  for (const Mapping& m : code) {
    if (auto at = find_code(process.memory(), m.range, kSyscall)) {
      return at;
    }
  }
  return std::nullopt;
}

bool resume(__ptrace_request how, pid_t tid, int signal) {
  return ::ptrace(how, tid, nullptr, static_cast<long>(signal)) == 0;
}

bool is_event(const Stop& stop) {
  return stop.kind == Stop::Kind::Event || stop.kind == Stop::Kind::Group;
}

// Interrupts a seized thread and waits for its event stop; signals on the way are delivered. What
// other kind the last stop was, if there was none.
Stop stop_thread(pid_t pid, pid_t tid) {
  auto start = Clock::now();
  interrupt(tid);
  Stop stop = wait_for_stop(pid, tid, start + kStopPatience, start + kSleepingPatience);
  for (int i = 0; stop.kind == Stop::Kind::Signal && i < kStopsInARow; ++i) {
    interrupt(tid);  // a signal stop has used up the first one (ptrace_stop clears it)
    resume(PTRACE_CONT, tid, stop.signal);
    stop = wait_for_stop(pid, tid, start + kStopPatience, start + kSleepingPatience);
  }
  return stop;
}

// Lets go of a thread in whatever stop, unchanged.
void let_go(pid_t pid, pid_t tid, const Stop& stop) {
  if (!stop.stopped()) {
    if (stop.kind == Stop::Kind::Gone) {
      return;
    }
    auto now = Clock::now();
    Stop late = wait_for_stop(pid, tid, now + kStopPatience, now + kGrace);
    if (late.stopped()) {
      let_go(pid, tid, late);
    } else if (late.kind != Stop::Kind::Gone) {
      Stragglers::add(pid, tid);
    }
    return;
  }
  GeneralRegisters registers;
  if (get_registers(tid, registers) && would_return_eintr(registers)) {
    restart_unless_signalled(pid, tid, registers, stop.signal);
  }
  detach(tid, stop.signal);
}

}  // namespace

struct Borrowed::State {
  explicit State(const Process& p) : process(p), pid(p.pid()) {}

  const Process& process;
  pid_t pid, tid = 0;
  SavedThread saved;
  GeneralRegisters start{};  // of every call, but for its number and arguments
  std::optional<WayHome> home;
  enum class At { Event, Entry, Exit, Unknown, Dead } at = At::Event;
  int stop_signal = 0;  // SIGSTOP that came in the midst
  std::optional<RaisedPriority> priority;

  Error died() const {
    return Error("system", "a system call in", fmt::format("thread {} of process {}", tid, pid),
                 "the thread died");
  }
  void prepare(const std::optional<HomeCode>& home_code, LiveAddr syscall_at,
               const std::vector<Mapping>& mappings);
  bool set_out();
  Stop wait_soon();
  Stop wait_call();
  void run_to_syscall_stop(At then);
  void reach_event_stop();
};

void Borrowed::State::prepare(const std::optional<HomeCode>& home_code, LiveAddr syscall_at,
                              const std::vector<Mapping>& mappings) {
  start = saved.registers;
  start.rip = syscall_at.value;
  start.rax = SYS_getpid;
  start.orig_rax = ~uint64_t{0};  // nothing to be restarted
  start.eflags &= ~kFlagsToClear;
  if (home_code) {
    home = WayHome::lay(process, mappings, saved, home_code->restorer);
  }
  if (home) {
    start.rip = home_code->call.value;
    start.rsp = home->stack().value;
  }
}

// From here on the thread is not itself. The registers come first, since they bring it home.
bool Borrowed::State::set_out() {
  return (!home || set_registers(tid, start)) && block_all_signals(tid);
}

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

Error no_thread(const Process& process) {
  return Error("no-thread", "borrowing a thread of", std::to_string(process.pid()),
               "none of its threads can run code for us now", ExitCode::Busy);
}

Borrowed Borrowed::demand(const Process& process, Use use) {
  auto thread = take(process, use);
  if (!thread) {
    throw no_thread(process);
  }
  return std::move(*thread);
}

std::optional<Borrowed> Borrowed::take(const Process& process, Use use) {
  pid_t pid = process.pid();
  demand_not_frozen(pid);
  Stragglers::sweep(pid);
  StopTimer::prepare();
  const std::vector<Mapping> mappings = process.mappings();
  auto home_code = find_home_code(process, mappings);
  auto syscall_at = find_syscall(process, mappings);
  if (!syscall_at) {
    return std::nullopt;
  }
  std::optional<Error> obstacle;  // thrown if no other thread is free of it
  bool choosy = use == Use::Function;

  auto try_thread = [&](pid_t tid) -> std::optional<Borrowed> {
    auto status = read_task_status(pid, tid);
    if (!status) {
      return std::nullopt;
    }
    SeizeResult seized = seize(pid, tid, PTRACE_O_TRACESYSGOOD);
    if (seized == SeizeResult::Traced) {
      throw traced_error(pid, tid);
    }
    if (seized != SeizeResult::Seized) {
      return std::nullopt;
    }
    StopTimer timer;
    auto state = std::make_unique<State>(process);
    state->priority.emplace();
    Stop stop = stop_thread(pid, tid);
    if (!is_event(stop)) {
      let_go(pid, tid, stop);
      return std::nullopt;
    }
    auto refuse = [&](const char* why) {
      obstacle = Error("seccomp", "can't run system calls in", fmt::format("process {}", pid), why,
                       ExitCode::NoMatch);
    };
    auto saved = SavedThread::save(tid);
    bool fit = saved && saved->registers.cs == kUserCode64 && saved->registers.rip != 0 &&
               saved->registers.rsp != 0 && process.alive() &&
               !in_restartable_sequence(tid, saved->registers, process.memory());
    fit = fit && !(choosy && sleeps_for_a_time(saved->registers));
    if (fit && dispatches_system_calls(tid)) {
      refuse("its system calls are dispatched to itself (PR_SET_SYSCALL_USER_DISPATCH)");
      fit = false;
    }
    if (fit && status->seccomp != 0 &&
        ::ptrace(PTRACE_SETOPTIONS, tid, nullptr,
                 PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP) != 0) {
      refuse("it has a seccomp filter, and setting that aside takes CAP_SYS_ADMIN");
      fit = false;
    }
    if (fit) {
      state->tid = tid;
      state->saved = std::move(*saved);
      state->prepare(home_code, *syscall_at, mappings);
      fit = state->set_out();
    }
    if (!fit) {
      let_go(pid, tid, stop);
      return std::nullopt;
    }
    Borrowed out;
    out.state_ = std::move(state);
    return out;
  };

  for (int round = 0; round < kRounds && process.alive(); ++round) {
    std::vector<pid_t> others;
    for (pid_t tid : process.threads()) {
      auto stat = read_task_stat(pid, tid);
      if (!stat || stat->dead() || stat->kernel_only() || stat->state == 'D') {
        continue;
      }
      if (stat->state != 'S' || in_sensitive_call(pid, tid)) {
        others.push_back(tid);  // a sleeping thread is missed least
        continue;
      }
      if (auto out = try_thread(tid)) {
        return out;
      }
    }
    for (pid_t tid : others) {
      if (auto out = try_thread(tid)) {
        return out;
      }
    }
    choosy = false;
  }
  if (obstacle) {
    throw Error(*obstacle);
  }
  return std::nullopt;
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
