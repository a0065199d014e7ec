// Waits with a timeout that a system call counts from its start: how much of it has passed.
#pragma once

#include <chrono>

#include "proc/freeze.h"

namespace qp::proc {

// Of a thread `tid` of `pid` whose epoll_wait or epoll_pwait was interrupted and is about to start again
// (registers.rip is behind its `syscall`): its timeout becomes what is left of it, as far as that is
// known, and will be known from now on. The registers of other calls, and those in which the program
// or a seccomp filter could see the change, stay as they are. Never throws.
void keep_time(pid_t pid, pid_t tid, GeneralRegisters& registers);

// What becomes of the register that holds a timeout in milliseconds, in its lower half, at `now`: what is
// left of it, with a note for the next time.
uint64_t left_of_wait(uint64_t timeout, std::chrono::nanoseconds now);

}  // namespace qp::proc
