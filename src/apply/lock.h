// One qpatch at a time works on a process.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "base/fd.h"
#include "proc/process.h"

namespace qp::apply {

// Held until it goes out of scope or we die, however. Throws Error{locked} (exit code busy) if
// another run holds it for longer than `timeout`.
class ProcessLock {
 public:
  ProcessLock(const proc::Process& process, std::chrono::milliseconds timeout);
  ProcessLock(const ProcessLock&) = delete;
  ProcessLock& operator=(const ProcessLock&) = delete;
  ~ProcessLock();

 private:
  bool open(const std::filesystem::path& directory, const std::string& name);
  bool is_current() const;

  Fd file_;
  std::filesystem::path path_;
};

}  // namespace qp::apply
