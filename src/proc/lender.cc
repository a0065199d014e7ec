// Which thread is borrowed, and what the others do meanwhile.
//
// One that sleeps is missed least, but not if it is in a call that an interruption spoils
// (partial_call.h). Each system call that it runs for us takes two stops, and after each it has to
// wait for a processor like any other thread. Where more threads want to run than there are
// processors, that is a time slice of each of them, a dozen times: 0.1 s for what takes 0.1 ms. There
// the others are made to stand still as well, for less time than one such wait.
//
// That is not done for a function of the program, which may need what another thread has locked, and
// a call that takes long (a file system that the process itself serves) has them run on.

#include <sched.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <thread>

#include "base/error.h"
#include "proc/borrowed_state.h"
#include "proc/cgroup.h"
#include "proc/code_search.h"
#include "proc/interrupted_call.h"
#include "proc/partial_call.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

using namespace std::chrono_literals;

// For a thread that runs or waits for a processor. It is not held up by our waiting, and on an
// overloaded host it needs the time; giving up would leave it attached.
constexpr auto kStopPatience = 2s;
// For one in uninterruptible sleep that has to be let go; then it is left behind.
constexpr auto kGrace = 50ms;
constexpr auto kSleepingPatience = 3ms;
constexpr int kRounds = 3;
constexpr int kStopsInARow = 64;  // signal stops before an event stop, in a storm
// More than these take longer to stop than the wait for a processor is worth.
constexpr size_t kMostHeld = 256;

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

// More of its threads run, or wait to, than there are processors.
bool is_crowded(const Process& process) {
  const size_t processors = std::max(1u, std::thread::hardware_concurrency());
  const std::vector<pid_t> threads = process.threads();
  if (threads.size() <= processors || threads.size() > kMostHeld) {
    return false;
  }
  const auto running = std::count_if(threads.begin(), threads.end(), [&](pid_t tid) {
    const auto stat = read_task_stat(process.pid(), tid);
    return stat && stat->state == 'R';
  });
  return static_cast<size_t>(running) > processors;
}

}  // namespace

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

class Lender {
 public:
  Lender(const Process& process, Borrowed::Use use)
      : process_(process),
        pid_(process.pid()),
        mappings_(process.mappings()),
        home_code_(find_home_code(process, mappings_)),
        syscall_at_(find_syscall(process, mappings_)),
        choosy_(use == Borrowed::Use::Function) {}

  bool can_lend() const { return syscall_at_.has_value(); }
  std::optional<Borrowed> find_among_held();
  std::optional<Borrowed> find();

 private:
  std::optional<Borrowed> seize_and_try(pid_t tid);
  std::optional<Borrowed> try_stopped(pid_t tid, int seccomp);
  void refuse(const char* why) {
    obstacle_ = Error("seccomp", "can't run system calls in", fmt::format("process {}", pid_), why,
                      ExitCode::NoMatch);
  }

  const Process& process_;
  const pid_t pid_;
  const std::vector<Mapping> mappings_;
  const std::optional<HomeCode> home_code_;
  const std::optional<LiveAddr> syscall_at_;
  bool choosy_;
  std::optional<Error> obstacle_;  // thrown if no other thread is free of it
};

// Of a thread of ours in an event stop. Nullopt: it stays in it. What was looked up is that of the program
// that was opened: one that was called meanwhile has other code there.
std::optional<Borrowed> Lender::try_stopped(pid_t tid, int seccomp) {
  auto state = std::make_unique<Borrowed::State>(process_);
  state->priority.emplace();
  auto saved = SavedThread::save(tid);
  if (!saved || saved->registers.cs != kUserCode64 || saved->registers.rip == 0 ||
      saved->registers.rsp == 0 || !process_.same_program() ||
      in_restartable_sequence(tid, saved->registers, process_.memory()) ||
      (choosy_ && sleeps_for_a_time(saved->registers))) {
    return std::nullopt;
  }
  if (dispatches_system_calls(tid)) {
    refuse("its system calls are dispatched to itself (PR_SET_SYSCALL_USER_DISPATCH)");
    return std::nullopt;
  }
  const unsigned options = PTRACE_O_TRACESYSGOOD | (seccomp != 0 ? PTRACE_O_SUSPEND_SECCOMP : 0);
  if (::ptrace(PTRACE_SETOPTIONS, tid, nullptr, options) != 0) {
    if (seccomp != 0) {
      refuse("it has a seccomp filter, and setting that aside takes CAP_SYS_ADMIN");
    }
    return std::nullopt;
  }
  state->tid = tid;
  state->saved = std::move(*saved);
  state->prepare(home_code_, *syscall_at_, mappings_);
  if (!state->set_out()) {
    return std::nullopt;
  }
  Borrowed out;
  out.state_ = std::move(state);
  return out;
}

std::optional<Borrowed> Lender::seize_and_try(pid_t tid) {
  auto status = read_task_status(pid_, tid);
  if (!status) {
    return std::nullopt;
  }
  SeizeResult seized = seize(pid_, tid, PTRACE_O_TRACESYSGOOD);
  if (seized == SeizeResult::Traced) {
    throw traced_error(pid_, tid);
  }
  if (seized != SeizeResult::Seized) {
    return std::nullopt;
  }
  StopTimer timer;
  RaisedPriority priority;
  Stop stop = stop_thread(pid_, tid);
  auto out = is_event(stop) ? try_stopped(tid, status->seccomp) : std::nullopt;
  if (!out) {
    let_go(pid_, tid, stop);
  }
  return out;
}

// Nullopt: as find(), which is to be asked then.
std::optional<Borrowed> Lender::find_among_held() {
  try {
    Frozen frozen = Frozen::freeze(process_);
    if (frozen.gone()) {
      return std::nullopt;
    }
    for (pid_t tid : frozen.lendable()) {
      const auto status = read_task_status(pid_, tid);
      auto out = status ? try_stopped(tid, status->seccomp) : std::nullopt;
      if (out) {
        frozen.hand_over(tid);
        out->state_->others.emplace(std::move(frozen));
        return out;
      }
    }
  } catch (const Error& e) {
    if (e.code() != "unresponsive") {
      throw;
    }
  }
  return std::nullopt;
}

std::optional<Borrowed> Lender::find() {
  for (int round = 0; round < kRounds && process_.same_program(); ++round) {
    std::vector<pid_t> others;
    for (pid_t tid : process_.threads()) {
      auto stat = read_task_stat(pid_, tid);
      if (!stat || stat->dead() || stat->kernel_only() || stat->state == 'D') {
        continue;
      }
      if (stat->state != 'S' || in_sensitive_call(pid_, tid)) {
        others.push_back(tid);
        continue;
      }
      if (auto out = seize_and_try(tid)) {
        return out;
      }
    }
    for (pid_t tid : others) {
      if (auto out = seize_and_try(tid)) {
        return out;
      }
    }
    choosy_ = false;
  }
  if (obstacle_) {
    throw Error(*obstacle_);
  }
  return std::nullopt;
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
  demand_not_frozen(process.pid());
  Stragglers::sweep(process.pid());
  StopTimer::prepare();
  Lender lender(process, use);
  if (!lender.can_lend()) {
    return std::nullopt;
  }
  if (use == Use::SystemCalls && is_crowded(process)) {
    if (auto out = lender.find_among_held()) {
      return out;
    }
  }
  return lender.find();
}

}  // namespace qp::proc
