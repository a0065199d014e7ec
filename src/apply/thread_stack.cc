// Two questions need to know which memory is a thread's own stack, and not just memory that its stack
// pointer is in. What lies below the stack pointer is dead only there: of a coroutine it can be the
// stack of another coroutine. And when a thread runs somewhere else (a coroutine, a signal handler on
// an alternate stack), its own stack is not where its stack pointer leads.
//
// The kernel knows the stack of the main thread only. Of the others the control block tells, to which
// the thread pointer leads. glibc's struct pthread begins with it; among its words are the address and
// the size of the stack, one behind the other (glibc 2.36 nptl/descr.h: stackblock, stackblock_size,
// with the guard; the place differs from version to version); musl's too (map_base, map_size). The
// block lies in the last part of that stack.

#include "apply/thread_stack.h"

#include <algorithm>

namespace qp::apply {

std::optional<LiveRange> find_thread_stack(const MemoryReader& memory, LiveAddr control_block) {
  constexpr uint64_t kLargestBlock = 4096, kBehindBlock = uint64_t{64} << 10;
  constexpr uint64_t kSmallestStack = uint64_t{16} << 10, kLargestStack = uint64_t{1} << 40;
  Bytes block(kLargestBlock);
  block.resize(memory.read_some(control_block, block));
  for (uint64_t at = 0; at + 16 <= block.size(); at += sizeof(uint64_t)) {
    const LiveAddr start(load<uint64_t>(block, at));
    const auto size = load<uint64_t>(block, at + sizeof(uint64_t));
    if (start.value == 0 || start.value % kPageSize != 0 || size % kPageSize != 0 ||
        size < kSmallestStack || size > kLargestStack) {
      continue;
    }
    const LiveRange stack{start, start + size};
    if (stack.contains(control_block) && stack.end <= control_block + kBehindBlock) {
      return stack;
    }
  }
  return std::nullopt;
}

// The main thread of a process that was forked by another thread runs on that one's stack.
std::optional<LiveRange> find_own_stack(const proc::Process& process,
                                        const std::vector<proc::Mapping>& mappings,
                                        const proc::StoppedThread& thread) {
  if (auto stack = find_thread_stack(process.memory(), LiveAddr(thread.registers.fs_base))) {
    return stack;
  }
  if (thread.tid != process.pid()) {
    return std::nullopt;
  }
  const auto kernels = std::find_if(mappings.begin(), mappings.end(),
                                    [](const proc::Mapping& m) { return m.name == "[stack]"; });
  return kernels != mappings.end() ? std::optional(kernels->range) : std::nullopt;
}

}  // namespace qp::apply
