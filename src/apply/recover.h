// What an interrupted run of qpatch left in a process, and its undoing.
#pragma once

#include "apply/apply.h"
#include "apply/registries.h"
#include "proc/process.h"

namespace qp::apply {

// What an image that is found in a process says about itself.
struct Standing {
  enum class Record { Blank, Unreadable, Readable } record = Record::Blank;
  State state = State::Staged;  // of a readable record
  bool unloaded = false;        // `Applied` to code that is not there any more
};
enum class Remains {
  None,  // a patch that is applied
  Kept,  // reverted; the image goes if nothing can reach it
  Undo,  // half done, or never begun: back to the old code
};
Remains what_remains(const Standing& standing);
// Of a state that only a run that is under way, or was interrupted, leaves.
bool is_half_done(State state);
// Whether a run was interrupted while it changed the group: one that is half done speaks for all.
bool is_interrupted(const Group& group);
Standing look_at(const proc::Process& process, const FoundRegistry& found);

// For commands that change a process, with it locked. False: something was left that could not be
// undone, and `outcome` says why. What was undone is said in its notes; if that was (all of)
// `patch_id`, outcome.verdict is Recovered. (All: of the transaction that was interrupted; the patch
// can have been applied in others.) Throws Refused{interrupted}, Error.
bool recover_first(const proc::Process& process, const std::string& patch_id,
                   const Options& options, Outcome& outcome);

}  // namespace qp::apply
