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
  bool lends_thread = false;  // `act` runs a function on one of the threads
};

// Calls `act` once, while all threads stand still, nobody else runs in their memory, and none is
// inside `closed`. `act` leaves the process either changed as a whole or as it was, also when it
// throws; once it has returned, the answer is Done whatever fails (outcome.notes). Fills pause, attempts and busy of `outcome`. The process is never frozen while waiting.
// Throws Refused{memory-shared} at the deadline.
Switched switch_over(const proc::Process& process, const Closed& closed, const Options& options,
                     Outcome& outcome, const std::function<void(proc::Frozen&)>& act);

struct CodeWrite {
  std::string function;
  LiveAddr at;
  Bytes expected, wanted;
};

// A registry and the state that it is in.
struct RegistryState {
  LiveAddr at;
  State state = State::Staged;
};

// What becomes of code and registries, in the order in which it is written; each step has a fault
// point of this name behind it (finish: before it).
struct Change {
  State during, after;
  std::string_view begun, written, finish;
};
inline constexpr Change kCommit = {State::Committing, State::Applied, "commit.begun",
                                   "commit.detour", "commit.finish"};
inline constexpr Change kRevert = {State::Reverting, State::Reverted, "revert.begun",
                                   "revert.detour", "revert.finish"};

// Detours of all images as a unit: all are written and read back and all registries say so, or none.
// While the process is frozen. Throws Error{system} after restoring; Refused{text-modified} before
// any write to code if the bytes are not `expected`.
void change_together(const proc::Memory& memory, const std::vector<RegistryState>& registries,
                     const std::vector<CodeWrite>& writes, const Change& change);

}  // namespace qp::apply
