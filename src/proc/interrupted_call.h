// System calls that our own interruption would end with EINTR: made as if it had not happened.
#pragma once

#include "proc/freeze.h"

namespace qp::proc {

// True if these registers are those of a system call that is about to return EINTR and that the
// kernel never restarts by itself. Cheap; looks at nothing else.
bool would_return_eintr(const GeneralRegisters& registers);

// Of a thread in a ptrace stop for which would_return_eintr() holds: sets the registers so that the
// call starts again, unless a signal that the program handles waits for the thread (or is
// `delivering`, in a signal stop): then EINTR is the truth. To be called as late as possible before
// the thread is let go. Never throws. True if the registers were changed.
bool restart_unless_signalled(pid_t pid, pid_t tid, GeneralRegisters registers, int delivering);

}  // namespace qp::proc
