// A visit of the process's own code to one of its threads.
//
// The thread gets a stack of its own: no byte of the one that it was on is touched, so its red zone,
// a stack that is nearly full, or one that a coroutine library made are all the same. At the top of
// the new stack lies a signal frame with everything that the thread was (way_home.h). The function
// returns to a few instructions of the image that ask for rt_sigreturn with it. That is how we see
// the end: PTRACE_SYSCALL stops at the entry of that call, and there the result is in ebx. And if
// we are dead by then, the kernel grants the call, and the thread has gone home without us. A
// breakpoint would tell the end as well, and kill the process if nobody is there to hear it.
//
// The function is entered as the psABI wants a function to be entered (3.4.1, 3.2.2, 3.2.3): stack
// pointer 8 bytes behind a multiple of 16, direction flag clear, x87 and MXCSR in their default
// states, vector registers in their initial one. Thread pointer and protection keys stay the
// thread's own.
//
// Signals. All are blocked but those by which a crash is told. To block these would not protect
// anybody: the kernel delivers a fault all the same, and resets the program's own handler to the
// default on the way (Linux kernel/signal.c: force_sig_info_to_task). Not blocked, a fault stops the
// thread before the handler is looked at, we take it away, and the handler is still there. (A
// program that *ignores* such a signal finds it at its default afterwards; docs/limits.md.) abort()
// unblocks SIGABRT by itself and sends it to its own thread. What somebody else sent is not ours: it
// is sent again when the thread has its mask back.
//
// Some calls have no way back: exit, exec, what makes a thread or a process that would come home a
// second time, a return from a signal that nobody sent, and those by another table of numbers, where
// exit is called differently. They are seen at their entry and not granted; the function ends there.
// That is so as well while it is being ended for its deadline.
//
// The return home is not granted either, as long as we are there to put everything back: it makes the
// kernel forget how far a timed sleep of the thread's own had got (Linux kernel/signal.c and
// arch/x86/kernel/signal_64.c, restore_sigcontext: restart_block.fn), and the sleep would end with
// EINTR. A timed sleep of the function's would overwrite the same. So a thread that sleeps like that
// is borrowed only if there is no other, and such calls are not granted there.
//
// Order matters at both ends, as in borrow.cc: the registers come first, since they bring the way
// home, and are put back last.

#include "proc/function_call.h"

#include <linux/audit.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/fault.h"
#include "proc/procfs.h"
#include "proc/tracee.h"
#include "proc/way_home.h"

namespace qp::proc {
namespace {

using namespace std::chrono_literals;

constexpr auto kSpinning = 50us;
// For a thread that does not stop when it is interrupted: it waits for a disk, or for somebody who
// stands still because of us.
constexpr auto kStopPatience = 2s;

constexpr uint64_t kUserCode64 = 0x33;    // __USER_CS
constexpr unsigned long kXstate = 0x202;  // NT_X86_XSTATE
// TF 8, DF 10, NT 14, AC 18.
constexpr uint64_t kFlagsToClear = 1u << 8 | 1u << 10 | 1u << 14 | 1u << 18;

constexpr uint64_t bit_of(int signal) {
  return uint64_t{1} << (signal - 1);
}
constexpr std::array<int, 6> kFaults = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};

struct NamedCall {
  long number;
  const char* name;
};
constexpr std::array<NamedCall, 10> kForbidden = {{{SYS_exit, "exit"},
                                                   {SYS_rt_sigreturn, "rt_sigreturn"},
                                                   {SYS_restart_syscall, "restart_syscall"},
                                                   {SYS_exit_group, "exit_group"},
                                                   {SYS_execve, "execve"},
                                                   {SYS_execveat, "execveat"},
                                                   {SYS_clone, "clone"},
                                                   {SYS_clone3, "clone3"},
                                                   {SYS_fork, "fork"},
                                                   {SYS_vfork, "vfork"}}};

// Those that keep in the thread's restart_block what is left of them (Linux kernel/time, fs/select.c,
// kernel/futex: set_restart_fn, restart_block.fn); futex only with a timeout.
const char* find_restart_block_call(const GeneralRegisters& r) {
  switch (static_cast<long>(r.orig_rax)) {
    case SYS_nanosleep:
      return "nanosleep";
    case SYS_clock_nanosleep:
      return "clock_nanosleep";
    case SYS_poll:
      return "poll";
    case SYS_futex:
      return r.r10 != 0 ? "futex" : nullptr;
    default:
      return nullptr;
  }
}

// A call by the numbers of 32-bit code (int 0x80) or x32. An older kernel (before v5.3) does not tell
// the first.
bool is_foreign_call(pid_t tid, long number) {
  constexpr long kX32 = 0x40000000;  // __X32_SYSCALL_BIT
  __ptrace_syscall_info info{};
  return (number & kX32) != 0 || (::ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) > 0 &&
                                  info.arch != AUDIT_ARCH_X86_64);
}

// The XSAVE area with everything in its initial state but the protection keys (Intel SDM 1,
// 13.4 and 13.6). x87 and SSE are there as values, since the kernel takes MXCSR only then (Linux
// arch/x86/kernel/fpu/xstate.c: copy_uabi_to_xstate).
Bytes initial_xstate(const Bytes& own) {
  constexpr size_t kControl = 0, kMxcsr = 24, kXstateBv = 512;
  constexpr uint64_t kX87AndSse = 3, kPkru = uint64_t{1} << 9;
  Bytes out = own;
  if (out.size() < kXstateBv + 64) {
    throw Error("system", "reading the vector state of", "a thread", "it is of no known form");
  }
  constexpr size_t kLegacyEnd = 416;  // x87 and SSE; behind it, what the kernel says of the area
  std::fill(out.begin(), out.begin() + kLegacyEnd, std::byte{0});
  store(ByteSpan(out), kControl, uint16_t{0x37f});
  store(ByteSpan(out), kMxcsr, uint32_t{0x1f80});
  store(ByteSpan(out), kMxcsr + 4, load<uint32_t>(own, kMxcsr + 4));  // MXCSR_MASK
  store(ByteSpan(out), kXstateBv, (load<uint64_t>(own, kXstateBv) & kPkru) | kX87AndSse);
  return out;
}

class Visit {
 public:
  Visit(const Process& process, pid_t tid, const SavedThread& saved, const FunctionCall& call)
      : process_(process), tid_(tid), saved_(saved), call_(call) {}

  CallEnd make() {
    const Bytes xstate = initial_xstate(saved_.extended);
    const auto frame = make_home_frame(saved_, call_.stack.end, call_.returns_to, 8);
    if (!frame || frame->at < call_.stack.start + kCallStack / 2) {
      throw Error("system", "preparing a call in", fmt::format("thread {}", tid_),
                  "its state does not fit into a signal frame");
    }
    process_.memory().write(frame->at, frame->bytes);
    StopTimer timer;
    if (!enter(*frame, xstate)) {
      return {.kind = CallEnd::Kind::Gone};
    }
    CallEnd end{.kind = CallEnd::Kind::TimedOut};
    stopped_ = true;
    try {
      fault_point("hook.entered");
      end = watch();
      if (end.kind == CallEnd::Kind::TimedOut) {
        fault_point("hook.late");
      }
    } catch (...) {
      come_home(end);
      throw;
    }
    if (end.kind != CallEnd::Kind::Gone) {
      come_home(end);
    }
    for (int signal : held_) {
      if (signal == SIGSTOP) {
        ::kill(process_.pid(), signal);
      } else {
        ::syscall(SYS_tgkill, process_.pid(), tid_, signal);
      }
    }
    return end;
  }

 private:
  bool enter(const HomeFrame& frame, const Bytes& xstate);
  CallEnd watch();
  std::optional<CallEnd> look_at_call();
  std::string name_if_forbidden(const GeneralRegisters& r, bool foreign) const;
  void skip_call(GeneralRegisters r) const;
  std::optional<CallEnd> look_at_signal(int signal);
  void come_home(CallEnd& end);
  Stop wait_until(Clock::time_point deadline);
  LiveAddr instruction() const {
    GeneralRegisters r{};
    get_registers(tid_, r);
    return LiveAddr(r.rip);
  }

  const Process& process_;
  const pid_t tid_;
  const SavedThread& saved_;
  const FunctionCall& call_;
  std::vector<int> held_;
  bool in_call_ = false;  // between the stops at a call's entry and exit
  bool stopped_ = false;
};

bool Visit::enter(const HomeFrame& frame, const Bytes& xstate) {
  GeneralRegisters r = saved_.registers;
  r.rip = call_.function.value;
  r.rsp = frame.at.value;
  r.rdi = call_.argument.value;
  r.rax = r.rbx = r.rbp = 0;  // rbp: the end of a chain of frames
  r.orig_rax = ~uint64_t{0};  // nothing to be restarted
  r.eflags &= ~kFlagsToClear;
  uint64_t mask = ~uint64_t{0};
  for (int signal : kFaults) {
    mask &= ~bit_of(signal);
  }
  iovec area{const_cast<std::byte*>(xstate.data()), xstate.size()};
  return set_registers(tid_, r) && ::ptrace(PTRACE_SETREGSET, tid_, kXstate, &area) == 0 &&
         ::ptrace(PTRACE_SETSIGMASK, tid_, sizeof mask, &mask) == 0;
}

// Most functions are over before it would be worth to sleep.
Stop Visit::wait_until(Clock::time_point deadline) {
  for (const auto enough = Clock::now() + kSpinning; Clock::now() < enough;) {
    if (Stop stop = poll_stop(tid_); stop.kind != Stop::Kind::None) {
      return stop;
    }
  }
  return wait_for_stop(process_.pid(), tid_, deadline, deadline);
}

// Until the function ends, in one of its ways.
CallEnd Visit::watch() {
  const auto deadline = Clock::now() + call_.patience;
  for (;;) {
    if (::ptrace(PTRACE_SYSCALL, tid_, nullptr, nullptr) != 0) {
      return {.kind = CallEnd::Kind::Gone};
    }
    stopped_ = false;
    const Stop stop = wait_until(deadline);
    stopped_ = stop.stopped();
    std::optional<CallEnd> end;
    switch (stop.kind) {
      case Stop::Kind::None:
        return {.kind = CallEnd::Kind::TimedOut, .at = {}};
      case Stop::Kind::Syscall:
        in_call_ = !in_call_;
        end = in_call_ ? look_at_call() : std::nullopt;
        break;
      case Stop::Kind::Signal:
        end = look_at_signal(stop.signal);
        break;
      case Stop::Kind::Gone:
      case Stop::Kind::Vanished:
      case Stop::Kind::Exiting:
        return {.kind = CallEnd::Kind::Gone};
      default:
        break;  // a group stop, which is kept in mind by the kernel
    }
    if (end) {
      return *end;
    }
    if (Clock::now() >= deadline) {  // one that makes a call all the time
      return {.kind = CallEnd::Kind::TimedOut, .at = instruction()};
    }
  }
}

std::optional<CallEnd> Visit::look_at_call() {
  GeneralRegisters r{};
  if (!get_registers(tid_, r)) {
    return CallEnd{.kind = CallEnd::Kind::Gone};
  }
  const auto number = static_cast<long>(r.orig_rax);
  const bool foreign = is_foreign_call(tid_, number);
  std::optional<CallEnd> end;
  if (!foreign && number == SYS_rt_sigreturn && r.rip == call_.asked.value) {
    end = CallEnd{.kind = CallEnd::Kind::Returned, .value = static_cast<int32_t>(r.rbx)};
  } else if (const std::string call = name_if_forbidden(r, foreign); !call.empty()) {
    end = CallEnd{.kind = CallEnd::Kind::Forbidden, .at = LiveAddr(r.rip), .call = call};
  }
  if (end) {
    skip_call(r);
  }
  return end;
}

std::string Visit::name_if_forbidden(const GeneralRegisters& r, bool foreign) const {
  if (foreign) {
    return fmt::format("{:#x} of another kind of system calls", r.orig_rax);
  }
  for (const NamedCall& forbidden : kForbidden) {
    if (static_cast<long>(r.orig_rax) == forbidden.number) {
      return forbidden.name;
    }
  }
  const char* call = find_restart_block_call(r);
  return call != nullptr && sleeps_for_a_time(saved_.registers)
             ? fmt::format("{} on a thread that sleeps for a time itself", call)
             : "";
}

// At its entry. The kernel finds no call of that number, and does nothing.
void Visit::skip_call(GeneralRegisters r) const {
  r.orig_rax = ~uint64_t{0};
  set_registers(tid_, r);
}

std::optional<CallEnd> Visit::look_at_signal(int signal) {
  siginfo_t info{};
  const bool known = ::ptrace(PTRACE_GETSIGINFO, tid_, nullptr, &info) == 0;
  const bool fault = std::find(kFaults.begin(), kFaults.end(), signal) != kFaults.end();
  const bool own = !known || info.si_code > 0 || info.si_code == SI_TKILL;
  if (own && (fault || signal == SIGABRT)) {
    CallEnd end{.kind = CallEnd::Kind::Crashed, .signal = signal, .at = instruction()};
    if (fault && known && info.si_code > 0) {
      end.fault = LiveAddr(reinterpret_cast<uint64_t>(info.si_addr));
    }
    return end;
  }
  if (std::find(held_.begin(), held_.end(), signal) == held_.end()) {
    held_.push_back(signal);
  }
  return std::nullopt;
}

// To an event stop, where what the thread was can be put back: behind it the kernel looks whether a
// call is to be restarted, behind the stop of a call's exit it does not.
void Visit::come_home(CallEnd& end) {
  const auto deadline = Clock::now() + kStopPatience;
  for (;;) {
    interrupt(tid_);
    if (stopped_ && ::ptrace(PTRACE_CONT, tid_, nullptr, nullptr) != 0) {
      end.kind = CallEnd::Kind::Gone;
      return;
    }
    const Stop stop = wait_until(deadline);
    stopped_ = stop.stopped();
    if (stop.kind == Stop::Kind::None) {
      end.kind = CallEnd::Kind::Stuck;
      return;
    }
    if (!stopped_) {
      end.kind = CallEnd::Kind::Gone;
      return;
    }
    if (end.kind == CallEnd::Kind::TimedOut && end.at.value == 0) {
      end.at = instruction();
    }
    if (stop.kind == Stop::Kind::Event || stop.kind == Stop::Kind::Group) {
      break;
    }
    if (stop.kind == Stop::Kind::Syscall) {  // on its way still by the last PTRACE_SYSCALL
      in_call_ = !in_call_;
      if (auto last = in_call_ ? look_at_call() : std::nullopt) {
        end = *last;
      }
    }
    if (stop.kind == Stop::Kind::Signal && end.kind != CallEnd::Kind::Crashed) {
      if (auto crash = look_at_signal(stop.signal)) {
        end = *crash;
      }
    }
  }
  if (!saved_.restore(tid_)) {
    end.kind = CallEnd::Kind::Gone;
  }
}

}  // namespace

bool sleeps_for_a_time(const GeneralRegisters& registers) {
  constexpr int64_t kRestartBlock = -516;  // ERESTART_RESTARTBLOCK
  return static_cast<int64_t>(registers.orig_rax) >= 0 &&
         static_cast<int64_t>(registers.rax) == kRestartBlock;
}

Choice choice_for_call(const GeneralRegisters& registers) {
  const bool in_call = static_cast<int64_t>(registers.orig_rax) >= 0;
  return sleeps_for_a_time(registers) ? Choice::Last : in_call ? Choice::First : Choice::Second;
}

std::string obstacle_to_call(const Process& process, pid_t tid, const SavedThread& saved) {
  const GeneralRegisters& r = saved.registers;
  if (r.cs != kUserCode64 || r.rip == 0 || r.rsp == 0) {
    return "it runs no 64-bit code of the program";
  }
  if (saved.shadow_stack) {
    return "it has a shadow stack";
  }
  if (in_restartable_sequence(tid, r, process.memory())) {
    return "it is in a restartable sequence";
  }
  if (dispatches_system_calls(tid)) {
    return "its system calls are dispatched to itself";
  }
  const auto status = read_task_status(process.pid(), tid);
  if (!status || status->seccomp != 0) {
    return status ? "it has a seccomp filter" : "it is gone";
  }
  return "";
}

CallEnd call_function(const Process& process, pid_t tid, const SavedThread& saved,
                      const FunctionCall& call) {
  QP_ASSERT(call.stack.size() >= kCallStack);
  return Visit(process, tid, saved, call).make();
}

}  // namespace qp::proc
