// Suspended contexts: code that will go on running, but is on no thread's stack.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "proc/freeze.h"
#include "proc/pagemap.h"
#include "proc/process.h"

namespace qp::apply {

struct SuspendedContext {
  LiveAddr at;      // the word
  LiveAddr inside;  // what it leads to
  bool mangled = false;
  std::string where;  // name of the mapping
};

// Looks for code pointers into `ranges` in all private writable memory that is no thread's stack.
// The process runs meanwhile.
class ContextScan {
 public:
  // `ranges`: sorted, disjoint. `starts`: addresses that are a function's address, and so no place
  // at which something was suspended.
  ContextScan(const proc::Process& process, std::vector<LiveRange> ranges,
              std::vector<LiveAddr> starts);
  // Whether the process is looked at: its memory is small, or a module of it imports a function that
  // makes contexts. Coroutines of a large process that switches by other means are not found.
  bool is_wanted() const { return wanted_; }
  // Which stacks are whose is taken from a stop before; threads without a stack of the usual kind
  // have theirs scanned as memory. The first that is found.
  std::optional<SuspendedContext> look(const std::vector<proc::StoppedThread>& threads);

 private:
  bool is_dead_stack(const proc::Mapping& mapping) const;
  std::vector<LiveRange> memory(const std::vector<proc::StoppedThread>& threads) const;
  std::optional<uint64_t> pointer_guard(const std::vector<proc::StoppedThread>& threads) const;
  bool is_inside(uint64_t word) const;

  const proc::Process& process_;
  std::vector<LiveRange> ranges_;
  std::vector<LiveAddr> starts_;  // sorted
  proc::Pagemap pagemap_;
  Bytes buffer_;
  bool wanted_ = false;
};

}  // namespace qp::apply
