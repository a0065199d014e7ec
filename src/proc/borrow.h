// Borrows one thread of a process for a few system calls and gives it back as it was: general
// registers, vector state, signal mask, the system call it was in. No function of the process is
// called; only the `syscall` instruction in code that is already there (vdso, libc) is executed. If
// we die meanwhile, the thread goes home by itself (way_home.h).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "proc/function_call.h"
#include "proc/process.h"

namespace qp::proc {

// Error{no-thread} (ExitCode::Busy): none of its threads can be borrowed now. Another time one can.
Error no_thread(const Process& process);

class Borrowed {
 public:
  // Nullopt: the process or every suitable thread is gone, or none can be borrowed now. Throws
  // Error{traced}, Error{seccomp} (a filter or syscall user dispatch that can't be set aside),
  // Error{cgroup-frozen}, Error{system}. The other threads run on, or where they would keep the borrowed one from its processor, they stand
  // still too (for system calls only). `process` has to outlive this, and all calls come from
  // the thread of ours that took it (ptrace's rule).
  // For a function a thread is taken that does not sleep for a time, if there is one (function_call.h).
  enum class Use { SystemCalls, Function };
  static std::optional<Borrowed> take(const Process& process, Use use = Use::SystemCalls);
  // The same, and throws no_thread() instead of nullopt.
  static Borrowed demand(const Process& process, Use use = Use::SystemCalls);
  Borrowed(Borrowed&&) noexcept;
  Borrowed& operator=(Borrowed&&) = delete;
  ~Borrowed();  // gives back
  // Restores everything and detaches. Never throws; a thread that died meanwhile is forgotten.
  void give_back() noexcept;

  // Raw system call in the process: result, or −errno. For calls that don't sleep: one that waits
  // with a timeout would overwrite what the kernel remembers of the thread's own. Throws
  // Error{system} if the thread died, Error{unresponsive} if the call does not end.
  int64_t call(long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0,
               uint64_t e = 0, uint64_t f = 0);
  // Runs a function of the process on this thread (function_call.h), which has to be one for which
  // obstacle() is "". After CallEnd::Kind::Stuck the thread is not ours any more, after Gone not
  // anybody's.
  CallEnd run(const FunctionCall& call);
  std::string obstacle() const;
  // WayHome::kScratch bytes of the process's memory for arguments, until the thread is given back.
  // Nullopt if it has no way home.
  std::optional<LiveAddr> scratch() const;
  pid_t tid() const;

 private:
  friend class Lender;
  Borrowed();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qp::proc
