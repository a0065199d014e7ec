// The stack that a thread was made with, whatever stack it runs on now.
#pragma once

#include <optional>
#include <vector>

#include "base/memory_reader.h"
#include "proc/freeze.h"
#include "proc/process.h"

namespace qp::apply {

// Of the thread whose control block this is (glibc's or musl's). Nullopt for the main thread, whose
// stack is the kernel's, and for what is no control block.
std::optional<LiveRange> find_thread_stack(const MemoryReader& memory, LiveAddr control_block);

// Of a stopped thread of the process. Nullopt: nothing tells (a thread that was made without libc).
std::optional<LiveRange> find_own_stack(const proc::Process& process,
                                        const std::vector<proc::Mapping>& mappings,
                                        const proc::StoppedThread& thread);

}  // namespace qp::apply
