// The switch: freeze, look at the stacks, act if nobody is inside; else thaw, wait, try again.
#pragma once

#include <functional>

#include "apply/apply.h"
#include "apply/contexts.h"
#include "apply/occupancy.h"
#include "proc/freeze.h"

namespace qp::apply {

enum class Switched { Done, Busy, Gone };

// Where nobody may be.
struct Closed {
  std::vector<LiveRange> ranges;  // sorted, disjoint
  std::vector<NamedCode> names;   // for the report
  // Nobody may be suspended inside either, as far as a look at the running process just before the
  // switch tells; nullptr: not looked for.
  ContextScan* contexts = nullptr;
};

// Calls `act` once, while all threads stand still and none is inside `closed`. `act` leaves the
// process either changed as a whole or as it was, also when it throws. Fills pause, attempts and
// busy of `outcome`. The process is never frozen while waiting.
Switched switch_over(const proc::Process& process, const Closed& closed, const Options& options,
                     Outcome& outcome, const std::function<void(const proc::Frozen&)>& act);

// Detours as a unit: all are written and read back, or none.
// Throws Error{system} after restoring; Refused{text-modified} before any write if the bytes are
// not `expected`.
struct CodeWrite {
  std::string function;
  LiveAddr at;
  Bytes expected, wanted;
};
// `fault_after_first`: name of the fault point between writing and reading back.
void write_code(const proc::Memory& memory, const std::vector<CodeWrite>& writes,
                std::string_view fault_after_first);

}  // namespace qp::apply
