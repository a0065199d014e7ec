// Does anything in the process still hold an address of an image?
#pragma once

#include <string>
#include <vector>

#include "proc/freeze.h"
#include "proc/pagemap.h"
#include "proc/process.h"

namespace qp::apply {

// Scans registers, live stacks and all resident writable memory outside of the images, which go
// together or not at all. The process is frozen meanwhile, so this is bounded: more than `limit` bytes of memory count as reachable.
class ReachScan {
 public:
  // While the process runs.
  ReachScan(const proc::Process& process, std::vector<LiveRange> images, uint64_t limit);
  // Not worth a stop: there is too much to scan. "" if it is.
  std::string obstacle() const;
  // Says what was found ("a word at 0x…", "more than 1024 KiB …"), or "" if the images
  // are unreachable.
  std::string look(const proc::Frozen& frozen);

 private:
  std::string too_much() const;
  const proc::Process& process_;
  std::vector<LiveRange> images_;
  uint64_t limit_;
  proc::Pagemap pagemap_;
  Bytes buffer_;
};

}  // namespace qp::apply
