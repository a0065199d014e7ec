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

// Whether the death of who wrote cut a write in two: one side of the end of a page is `after`, the other
// `before`. `have` is what is at `at`; all three have one size.
bool is_cut(LiveAddr at, ByteView have, ByteView before, ByteView after);

// What becomes of a registry: the state that it is in, and those before and behind the writes to code.
struct RegistryChange {
  LiveAddr at;
  State before = State::Staged, during = State::Committing, after = State::Applied;
};
RegistryChange committing(LiveAddr at);               // staged → applied
RegistryChange reverting(LiveAddr at, State before);  // → reverted
RegistryChange yielding(LiveAddr at);                 // applied → reverted, to another patch
RegistryChange returning(LiveAddr at, State before);  // → applied, when that one goes again

// The fault points in a change: behind the first write to each registry and behind each to code, and
// before the last to each registry.
struct Steps {
  std::string_view begun, written, finish;
};
inline constexpr Steps kCommit = {"commit.begun", "commit.detour", "commit.finish"};
inline constexpr Steps kRevert = {"revert.begun", "revert.detour", "revert.finish"};

// Detours of all images as a unit: all are written and read back and all registries say so, or none.
// Registries are written in their order both times. While the process is frozen. Throws Error{system}
// after restoring; Refused{text-modified} before any write to code if the bytes are not `expected`.
void change_together(const proc::Memory& memory, const std::vector<RegistryChange>& registries,
                     const std::vector<CodeWrite>& writes, const Steps& steps);

}  // namespace qp::apply
