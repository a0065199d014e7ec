// Which pages of a process are in memory.
#pragma once

#include <optional>
#include <vector>

#include "base/fd.h"
#include "proc/process.h"

namespace qp::proc {

class Pagemap {
 public:
  explicit Pagemap(const Process& process);
  // The resident or swapped parts of `range`, clipped to it, ascending. The whole range if the
  // kernel does not tell.
  std::vector<LiveRange> resident(LiveRange range) const;

  // However large a range is, asking costs only what is there of it.
  bool skips_absent() const { return skips_absent_; }

 private:
  Fd file_;
  bool skips_absent_ = false;
};

// Bytes that the process holds apart from files: what it can have written pointers to. Nullopt if
// the kernel does not tell.
std::optional<uint64_t> anonymous_memory(const Process& process);

}  // namespace qp::proc
