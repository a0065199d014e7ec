// All of a stopped thread's state that running a system call in it could change.
#pragma once

#include <optional>

#include "base/bytes.h"
#include "proc/freeze.h"

namespace qp::proc {

struct SavedThread {
  GeneralRegisters registers{};
  Bytes extended;  // XSAVE area as the kernel gives it: x87, MXCSR, AVX, AVX-512, AMX …
  uint64_t signal_mask = 0;
  std::optional<uint64_t> shadow_stack;

  // Nullopt if the thread is gone.
  static std::optional<SavedThread> save(pid_t tid);
  // In an event stop, not in a syscall-exit stop. False if the thread is gone.
  bool restore(pid_t tid) const;
};

bool block_all_signals(pid_t tid);

// Within a restartable sequence (rseq(2)) now: the kernel would forget the section if the thread
// returned to user mode elsewhere.
bool in_restartable_sequence(pid_t tid, const GeneralRegisters& registers,
                             const MemoryReader& memory);
// prctl(PR_SET_SYSCALL_USER_DISPATCH) is on: system calls become signals.
bool dispatches_system_calls(pid_t tid);

}  // namespace qp::proc
