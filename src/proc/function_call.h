// Runs one function of a process on one of its threads, on memory of its own, and makes the thread
// what it was. A system call in a borrowed thread is over in a moment (borrow.h); a function is the
// program's own code: it can take its time, crash, or never return.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <sys/types.h>

#include "base/address.h"
#include "proc/process.h"
#include "proc/saved_thread.h"

namespace qp::proc {

struct FunctionCall {
  LiveAddr function;
  LiveAddr argument;  // its only one
  // Readable and writable memory of the process that nobody else uses: the stack grows down from
  // its end. kCallStack bytes at least.
  LiveRange stack;
  // Where the function returns to: code that keeps eax in ebx and asks for rt_sigreturn, again and
  // again. `asked`: right behind its syscall instruction.
  LiveAddr returns_to, asked;
  std::chrono::milliseconds patience{1000};
};
inline constexpr uint64_t kCallStack = 64 << 10;

struct CallEnd {
  enum class Kind {
    Returned,
    Crashed,    // a signal that the function's own code caused
    Forbidden,  // it was about to make a call that has no way back
    TimedOut,
    Gone,   // the thread or the process
    Stuck,  // it can't be stopped: it runs on, and goes home when the function returns
  } kind = Kind::Gone;
  int32_t value = 0;              // Returned
  int signal = 0;                 // Crashed
  std::optional<LiveAddr> fault;  // Crashed: the address it stumbled over
  LiveAddr at;                    // Crashed, Forbidden, TimedOut: instruction pointer
  std::string call;               // Forbidden: "exit_group"
};

// The thread sleeps in a call that the kernel takes up again where it was (nanosleep, poll with a
// timeout …; rax is −516). What it knows of that call it keeps in one place per thread, which another
// such call overwrites: a function on this thread is not granted one.
bool sleeps_for_a_time(const GeneralRegisters& registers);

// Of several threads. One that sleeps holds fewer locks than one that was stopped anywhere; one that
// sleeps for a time is granted fewer calls.
enum class Choice { First, Second, Last };
Choice choice_for_call(const GeneralRegisters& registers);

// Why a function can't be run on this thread, "" if it can: it is in a restartable sequence, in
// 32-bit code, has a shadow stack, or is under seccomp, whose filters our tracing sets aside.
std::string obstacle_to_call(const Process& process, pid_t tid, const SavedThread& saved);

// `tid` is in a stop that is not a signal's (seized by this thread of ours, with
// PTRACE_O_TRACESYSGOOD); `saved` is its own state, which may not be what its registers are now.
// Afterwards it has that state and is in an event stop, unless it is Gone or Stuck. Meanwhile it
// has a way home: if we die, the function runs to its end and the thread goes on by itself.
// Signals that came are sent again. Never throws once the function runs; Error{system} before.
CallEnd call_function(const Process& process, pid_t tid, const SavedThread& saved,
                      const FunctionCall& call);

}  // namespace qp::proc
