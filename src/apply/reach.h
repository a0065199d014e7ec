// Does anything in the process still hold an address of an image?
#pragma once

#include <string>

#include "proc/freeze.h"
#include "proc/process.h"

namespace qp::apply {

// Scans registers, live stacks and all resident private writable memory outside of the image. The
// process is frozen, so this is bounded: more than `limit` bytes of memory count as reachable.
// Returns what was found ("a word at 0x…", "12 MiB to scan"), or "" if the image is unreachable.
std::string find_reach(const proc::Process& process, const proc::Frozen& frozen, LiveRange image,
                       uint64_t limit);

}  // namespace qp::apply
