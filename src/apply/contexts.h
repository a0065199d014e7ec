// Suspended contexts: code that will go on running, but is on no thread's stack.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "proc/pagemap.h"
#include "proc/process.h"

namespace qp::apply {

struct SuspendedContext {
  LiveAddr at;      // the word
  LiveAddr inside;  // what it leads to
  bool mangled = false;
  std::string where;  // name of the mapping
};

// Whether a module of the process imports a function that makes contexts, or is a static program, of
// which that can't be seen.
bool makes_contexts(const proc::Process& process);

// Looks for code pointers into `ranges` in all private writable memory that is no thread's stack.
// The process runs meanwhile, and is not stopped for it.
class ContextScan {
 public:
  // `ranges`: sorted, disjoint. `starts`: addresses that are a function's address, and so no place
  // at which something was suspended.
  ContextScan(const proc::Process& process, std::vector<LiveRange> ranges,
              std::vector<LiveAddr> starts);
  // Whether the process is looked at: its memory is small, or it makes contexts. Coroutines of a
  // large process that switches by other means are not found.
  bool is_wanted() const { return wanted_; }
  const std::vector<LiveRange>& ranges() const { return ranges_; }
  // One of those that are there. Throws what reading a process throws.
  std::optional<SuspendedContext> look();

 private:
  struct Word {
    LiveAddr at, inside;
    bool mangled;
  };
  // What one pass over the memory gave.
  struct Found {
    std::vector<Word> words;
    std::vector<LiveRange> stacks;  // of threads, living or ended
  };
  void look_in(const proc::Mapping& mapping, std::optional<uint64_t> guard, Found& found);
  bool is_inside(uint64_t word) const;
  bool is_control_block(LiveAddr at, ByteView there) const;

  const proc::Process& process_;
  std::vector<LiveRange> ranges_;
  std::vector<LiveAddr> starts_;  // sorted
  proc::Pagemap pagemap_;
  Bytes buffer_;
  bool wanted_ = false;
};

}  // namespace qp::apply
