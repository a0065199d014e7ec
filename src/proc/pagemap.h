// Which pages of a process are in memory.
#pragma once

#include <vector>

#include "proc/process.h"

namespace qp::proc {

// The resident or swapped parts of `range`, clipped to it, ascending. The whole range if the kernel
// does not tell.
std::vector<LiveRange> resident_ranges(const Process& process, LiveRange range);

}  // namespace qp::proc
