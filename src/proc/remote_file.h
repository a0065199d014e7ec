// An open file of a process, written from outside.
#pragma once

#include "base/bytes.h"
#include "proc/process.h"

namespace qp::proc {

// Writes `content` at the start of the file that `fd` of the process refers to (a memfd), through
// /proc/PID/fd. Throws Error{system}.
void write_remote_file(const Process& process, int fd, ByteView content);

}  // namespace qp::proc
