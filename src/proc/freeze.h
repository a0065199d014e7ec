// Stops all threads of a process, and lets them go as they were.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/report.h"
#include "proc/process.h"

namespace qp::proc {

struct GeneralRegisters {  // of x86-64, in no particular order of the kernel's
  uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip,
      cs, eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs;
};

struct StoppedThread {
  pid_t tid = 0;
  GeneralRegisters registers{};
  int pending_signal = 0;    // of a signal-delivery-stop: passed on when it is resumed
  bool kernel_only = false;  // io_uring/vhost worker: runs no user code; has no registers
};

struct FunctionCall;
struct CallEnd;
struct Seized;

// All threads stand still while this lives. Seized with PTRACE_SEIZE, stopped with
// PTRACE_INTERRUPT; threads born meanwhile are caught by PTRACE_O_TRACECLONE and by looking again
// until no new thread appears. Frozen and thawed by the same thread of ours (ptrace's rule).
class Frozen {
 public:
  // Throws Error{traced} (naming the tracer), Error{unresponsive} (ExitCode::Busy) if a thread does
  // not stop soon (a vfork parent, a task in uninterruptible sleep): the others have run on then,
  // and it is worth trying again; Error{system}. Returns with gone() == true if the process exited
  // or became another program (exec) meanwhile. While threads are stopped the caller has a
  // real-time priority.
  static Frozen freeze(const Process& process);
  Frozen(Frozen&&) noexcept;
  Frozen& operator=(Frozen&&) = delete;
  ~Frozen();    // thaws
  void thaw();  // detaches all threads; signals that waited are delivered; group-stop is kept
  // Also true after thaw() if the process was killed while it stood still.
  bool gone() const { return gone_; }
  // Those that are about to exit, and run no user code any more, are left out.
  const std::vector<StoppedThread>& threads() const { return threads_; }
  // Runs a function of the process on one of the threads while the others stand still. Nullopt: none
  // of them can be used in the stop that it is in (about to get a signal, say); worth another try
  // later. Throws what call_function() throws. After CallEnd::Kind::Stuck that thread runs on.
  std::optional<CallEnd> call(const Process& process, const FunctionCall& call);
  bool can_call(const Process& process) const;
  // Those that are in no signal's or call's stop, the ones that sleep first.
  std::vector<pid_t> lendable() const;
  // Leaves the thread to the caller, stopped as it is; it is his to let go.
  void hand_over(pid_t tid);
  // From the first INTERRUPT to the last detach; valid after thaw().
  std::chrono::nanoseconds pause() const { return pause_; }

 private:
  Frozen() = default;
  std::unique_ptr<Seized> seized_;
  std::vector<StoppedThread> threads_;
  std::chrono::nanoseconds pause_{};
  bool gone_ = false;
};

}  // namespace qp::proc
