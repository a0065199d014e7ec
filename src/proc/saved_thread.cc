// What a thread is, besides its memory: general registers (with orig_rax, which tells the kernel
// whether an interrupted call is to be restarted), the XSAVE area whose size depends on the CPU and
// on what the process was permitted to use (AMX), the signal mask, the shadow stack pointer.
//
// In the middle of ppoll, pselect or epoll_pwait a thread has two signal masks; the kernel gives
// the outer one, and setting it ends the inner one's reign. That is right here: the call is
// restarted and sets its own again.
//
// Numbers of register sets: Linux include/uapi/linux/elf.h. The ptrace request for syscall user
// dispatch is of Linux v6.4; an older kernel answers EIO and the dispatch goes unnoticed.

#include "proc/saved_thread.h"

#include <sys/ptrace.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>

#include "proc/tracee.h"

namespace qp::proc {
namespace {

constexpr unsigned long kXstate = 0x202;       // NT_X86_XSTATE
constexpr unsigned long kShadowStack = 0x204;  // NT_X86_SHSTK
constexpr size_t kXstateRoom = 64 << 10;       // AMX needs 11 KiB

// PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG; 0x4210 is the one that sets.
constexpr auto kGetUserDispatch = static_cast<__ptrace_request>(0x4211);
struct UserDispatch {
  uint64_t mode, selector, offset, length;
};

}  // namespace

std::optional<SavedThread> SavedThread::save(pid_t tid) {
  SavedThread out;
  if (!get_registers(tid, out.registers)) {
    return std::nullopt;
  }
  static thread_local std::array<std::byte, kXstateRoom> room;  // the thread waits: no allocation
  iovec area{room.data(), room.size()};
  if (::ptrace(PTRACE_GETREGSET, tid, kXstate, &area) != 0 ||
      ::ptrace(PTRACE_GETSIGMASK, tid, sizeof out.signal_mask, &out.signal_mask) != 0) {
    return std::nullopt;
  }
  out.extended.assign(room.data(), room.data() + area.iov_len);
  uint64_t pointer = 0;
  iovec shadow{&pointer, sizeof pointer};
  if (::ptrace(PTRACE_GETREGSET, tid, kShadowStack, &shadow) == 0) {
    out.shadow_stack = pointer;
  }
  return out;
}

// The registers come last: until then a thread that has a way home (way_home.h) is on it, and it
// brings all the rest.
bool SavedThread::restore(pid_t tid) const {
  if (::ptrace(PTRACE_SETSIGMASK, tid, sizeof signal_mask, &signal_mask) != 0) {
    return false;
  }
  iovec area{const_cast<std::byte*>(extended.data()), extended.size()};
  if (::ptrace(PTRACE_SETREGSET, tid, kXstate, &area) != 0) {
    return false;
  }
  if (shadow_stack) {
    uint64_t pointer = *shadow_stack;
    iovec shadow{&pointer, sizeof pointer};
    ::ptrace(PTRACE_SETREGSET, tid, kShadowStack, &shadow);
  }
  return set_registers(tid, registers);
}

bool block_all_signals(pid_t tid) {
  uint64_t all = ~uint64_t{0};
  return ::ptrace(PTRACE_SETSIGMASK, tid, sizeof all, &all) == 0;
}

bool in_restartable_sequence(pid_t tid, const GeneralRegisters& registers,
                             const MemoryReader& memory) {
  __ptrace_rseq_configuration configuration{};
  long size = ::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof configuration, &configuration);
  if (size <= 0 || configuration.rseq_abi_pointer == 0) {
    return false;
  }
  // struct rseq: pointer to the current section at offset 8; struct rseq_cs: start at 8, length at
  // 16. (Linux include/uapi/linux/rseq.h)
  std::array<std::byte, 8> pointer;
  if (!memory.try_read(LiveAddr(configuration.rseq_abi_pointer) + 8, pointer) ||
      load<uint64_t>(pointer) == 0) {
    return false;
  }
  std::array<std::byte, 24> section;
  if (!memory.try_read(LiveAddr(load<uint64_t>(pointer)), section)) {
    return true;  // hostile or half written: not this thread
  }
  return registers.rip - load<uint64_t>(section, 8) < load<uint64_t>(section, 16);
}

bool dispatches_system_calls(pid_t tid) {
  UserDispatch dispatch{};
  return ::ptrace(kGetUserDispatch, tid, sizeof dispatch, &dispatch) == 0 && dispatch.mode != 0;
}

}  // namespace qp::proc
