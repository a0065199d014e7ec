// An open file of a process, written from outside.
#pragma once

#include <string>
#include <vector>
#include "base/bytes.h"

#include "proc/process.h"

namespace qp::proc {

// Writes `content` at the start of the file that `fd` of the process refers to (a memfd), through
// /proc/PID/fd. Throws Error{system}.
void write_remote_file(const Process& process, int fd, ByteView content);

// A descriptor of the process, and what /proc says it is open on (" (deleted)" removed).
struct RemoteFile {
  int fd = -1;
  std::string name;
};
// Those that can be read; none if the process is gone.
std::vector<RemoteFile> remote_files(const Process& process);

}  // namespace qp::proc
