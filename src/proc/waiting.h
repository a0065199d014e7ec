// What a stopped thread was waiting for, in words.
#pragma once

#include <string>

#include "proc/freeze.h"

namespace qp::proc {

// "futex at 0x7f…", "read of pipe:[123]"; "" if it was in no system call. Of a thread of `process`, as
// it was when these were its registers; what a descriptor is, is asked now.
std::string describe_wait(const Process& process, const GeneralRegisters& registers);

}  // namespace qp::proc
