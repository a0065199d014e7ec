// `recover`: undoes what an interrupted run of qpatch began.
//
// A run that was killed leaves the registry in the state that it was about to leave: `staged` (no
// byte of the program was changed), `committing` or `reverting` (some detours are there, some not).
// In each case the way out is back: the saved bytes are written over the detours that are there,
// with nobody inside the new code, and the image goes. Forward would be possible too, but back needs
// nothing that was only in the dead run's memory, and it is what "the command failed" means.
//
// A patch with several images changes their registries one after the other, the last thing that a
// run does. One that says that something is under way speaks for all of its transaction: those that
// are `applied` already are undone with it.
//
// A patch that takes the place of another one (superseded.h) says `committing` until its detours are
// there, and the other one `yielding` from before the first of them to after the last. Where both are
// found, the way back is to the other one; where the new one says `applied` already and all its
// detours are there, the last step is made up for.
//
// A library that was patched can be unloaded, and loaded again without the patch. Its registry says
// `applied` and no detour is there: nothing leads into the image any more, which can go.
//
// A run that was killed while it mapped the image leaves one without a registry, perhaps still open.
// Its detours come after the registry, so there are none; but since the process can clear a registry
// as well, its code is searched for jumps into the image before that is believed. The registry's header
// is written last, in one piece of one page, so that there is no half of it; one that can't be read
// was written by somebody else.
//
// A process that is forked while its parent is being patched inherits what was there at that moment:
// the same states, found and undone in the same way.

#include "apply/recover.h"

#include <sys/syscall.h>

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include "apply/alone.h"
#include "apply/conclude.h"
#include "apply/hooks.h"
#include "apply/jump_search.h"
#include "apply/lock.h"
#include "apply/plan.h"
#include "apply/superseded.h"
#include "apply/switch.h"
#include "apply/takeover.h"
#include "apply/undo.h"
#include "base/error.h"
#include "proc/borrow.h"
#include "proc/remote_file.h"

namespace qp::apply {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(5);

// Applied once, to code that is not there any more, or that was mapped anew since.
bool is_unloaded(const proc::Process& process, const Registry& r) {
  std::vector<proc::Module> modules = process.modules();
  const proc::Module* module = find_module(modules, r);
  return module == nullptr ||
         (!r.detours.empty() && find_faults(process, module, r, Expected::HalfDone).empty() &&
          undo_writes(process, r).empty());
}

void demand_no_jump_into(const proc::Process& process, const FoundRegistry& found) {
  if (auto jump = find_jump_into(process, found.image)) {
    throw Refused({{"registry-damaged", found.named_id,
                    fmt::format("it names no detour that is there, but {:#x} jumps into its image",
                                jump->value)}});
  }
}

// A damaged registry may belong to the transaction: then half of it would be undone.
void demand_whole(const Group& group, const std::vector<FoundRegistry>& registries) {
  for (const FoundRegistry& found : registries) {
    if (!found.registry && found.named_id == group.front().registry->patch_id && !found.blank) {
      throw Refused({{"registry-damaged", found.named_id, found.fault}});
    }
  }
}

// What has to be done to images that go together.
struct Undo {
  std::vector<CodeWrite> writes;
  std::vector<RegistryChange> registries;
  std::vector<MappedImage> images;
  std::vector<LiveRange> closed;  // besides the images: islands that lead there
  std::vector<NamedCode> bare;    // old code that is replaced again
};

void perform(const proc::Process& process, const Undo& undo, const Options& options,
             Outcome& outcome) {
  outcome.functions += undo.writes.size();
  const Undone undone{outcome.patch_id, undo.writes.size()};
  std::vector<LiveRange> closed = undo.closed, bare;
  std::vector<LiveAddr> starts;
  for (const MappedImage& image : undo.images) {
    closed.push_back(image.range);
  }
  for (const NamedCode& code : undo.bare) {
    bare.push_back(code.range);
    starts.push_back(code.range.start);
  }
  closed.insert(closed.end(), bare.begin(), bare.end());
  std::optional<ContextScan> contexts;
  if (!bare.empty()) {
    contexts.emplace(process, normalise(std::move(bare)), std::move(starts));
  }
  const Closed nobody_in{.ranges = normalise(std::move(closed)),
                         .names = undo.bare,
                         .contexts = contexts ? &*contexts : nullptr};
  Switched switched = switch_over(process, nobody_in, options, outcome, [&](const auto&) {
    change_together(process.memory(), undo.registries, undo.writes, kRevert);
  });
  switch (switched) {
    case Switched::Done:
      outcome.verdict = Verdict::Recovered;
      outcome.undone.push_back(undone);
      release_images(process, undo.images, outcome);
      break;
    case Switched::Busy:
      outcome.verdict = Verdict::Busy;
      break;
    case Switched::Gone:
      outcome.verdict = Verdict::Gone;
      break;
  }
}

void undo_group(const proc::Process& process, const Group& group, const Options& options,
                Outcome& outcome) {
  const std::vector<proc::Module> modules = process.modules();
  // All staged for the first time: none of it ever ran, but for hooks.
  const bool ran = std::any_of(group.begin(), group.end(), [](const FoundRegistry& found) {
    const Registry& r = *found.registry;
    return r.state != State::Staged || r.applied_at != 0 || !r.hooks.empty();
  });
  Undo undo;
  for (const FoundRegistry& found : group) {
    const Registry& r = *found.registry;
    if (r.state == State::Reverted) {
      // Its code is the old one already, or somebody else's by now.
    } else if (const proc::Module* module = find_module(modules, r)) {
      if (auto faults = find_faults(process, module, r, Expected::HalfDone); !faults.empty()) {
        throw Refused({{"registry-damaged", r.patch_id, faults.front()}});
      }
      for (CodeWrite& write : undo_writes(process, r)) {
        undo.writes.push_back(std::move(write));
      }
    } else {  // unloaded since
      demand_no_jump_into(process, found);
    }
    undo.registries.push_back(reverting(found.at, r.state));
    undo.images.push_back({found.image, r.may_escape && ran});
    add_new_code_ranges(r, undo.closed);
  }
  perform(process, undo, options, outcome);
}

// Back to the patches that were superseded, or forth, if all that was left to do was to say so in their
// registries. False: a thread is inside, or the process is gone.
bool undo_takeover(const proc::Process& process, const Takeover& takeover, const Options& options,
                   Outcome& outcome) {
  const std::vector<proc::Module> modules = process.modules();
  for (const auto* registries : {&takeover.yielding, &takeover.successor}) {
    for (const FoundRegistry& found : *registries) {
      if (find_module(modules, *found.registry) == nullptr) {  // unloaded since
        demand_no_jump_into(process, found);
      }
    }
  }
  WayBack back = find_way_back(process, modules, takeover);
  if (way_on(is_interrupted(takeover.successor), back.whole) == Way::Forth) {
    for (const FoundRegistry& found : takeover.yielding) {
      write_state(process.memory(), found.at, State::Reverted);
    }
    outcome.verdict = Verdict::Recovered;
    release_images(process, images_of(takeover.yielding), outcome);
    return true;
  }
  Undo undo;
  undo.writes = std::move(back.writes);
  for (const FoundRegistry& found : takeover.yielding) {
    undo.registries.push_back(returning(found.at, found.registry->state));
  }
  for (const FoundRegistry& found : takeover.successor) {
    undo.registries.push_back(reverting(found.at, found.registry->state));
    add_new_code_ranges(*found.registry, undo.closed);
  }
  undo.images = images_of(takeover.successor);
  undo.bare = code_laid_bare(records_of(takeover.yielding), records_of(takeover.successor));
  perform(process, undo, options, outcome);
  return outcome.verdict == Verdict::Recovered;
}

// Nothing leads into the image: it was mapped and no more, or its library was unloaded.
void remove_image(const proc::Process& process, const FoundRegistry& found, const Options& options,
                  Outcome& outcome) {
  demand_no_jump_into(process, found);
  Undo undo;
  undo.images = images_of({found});
  if (found.registry) {
    undo.registries = {reverting(found.at, found.registry->state)};
  }
  perform(process, undo, options, outcome);
}

// Reverted images stay while something may refer to them, or because the run that reverted them was
// killed before it could look. True if some are gone now.
bool release_reverted(const proc::Process& process, Group group) {
  std::erase_if(group, [](auto& found) { return found.registry->state != State::Reverted; });
  Outcome kept;
  release_images(process, images_of(group), kept);
  return kept.notes.size() < group.size();
}

// Waits until the threads have gone home from the stacks of hooks that an interrupted run left, and
// takes the stacks away. True if there was one. Throws Refused{hook-timeout}.
bool remove_hook_stacks(const proc::Process& process, const Options& options) {
  const auto deadline = std::chrono::steady_clock::now() + options.timeout;
  for (;;) {
    const std::optional<bool> gone = remove_left_stacks(process);
    if (!gone || *gone) {
      return gone.has_value();
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      throw Refused({{"hook-timeout", process.program(),
                      "a hook of an interrupted run has not come to its end"}});
    }
    std::this_thread::sleep_for(kPoll);
  }
}

std::vector<uint64_t> open_images(const proc::Process& process) {
  std::vector<uint64_t> open;
  for (const proc::RemoteFile& file : proc::remote_files(process)) {
    if (is_image_name(file.name) || is_hook_stack_name(file.name)) {
      open.push_back(static_cast<uint64_t>(file.fd));
    }
  }
  return open;
}

// An image, or a stack of hooks, is open only while it is being mapped. True if there was one.
bool close_images(const proc::Process& process) {
  const std::vector<uint64_t> open = open_images(process);
  if (open.empty()) {
    return false;
  }
  proc::Borrowed thread = proc::Borrowed::demand(process);
  for (uint64_t fd : open) {
    thread.call(SYS_close, fd);
  }
  return true;
}

// Undoes what is half done. False: a thread is inside, or the process is gone.
bool undo_interrupted(const proc::Process& process, const std::vector<FoundRegistry>& registries,
                      const std::vector<Group>& groups, const Options& options, Outcome& outcome) {
  const std::vector<Takeover> takeovers = find_takeovers(groups);
  for (const Takeover& takeover : takeovers) {
    outcome.patch_id = takeover.successor.front().registry->patch_id;
    demand_whole(takeover.successor, registries);
    for (const FoundRegistry& found : takeover.yielding) {
      demand_whole({found}, registries);
    }
    if (!undo_takeover(process, takeover, options, outcome)) {
      return false;
    }
  }
  for (const Group& group : groups) {
    if (is_interrupted(group) && !takes_part(takeovers, group)) {
      outcome.patch_id = group.front().registry->patch_id;
      demand_whole(group, registries);
      undo_group(process, group, options, outcome);
      if (outcome.verdict != Verdict::Recovered) {
        return false;
      }
    }
  }
  for (const FoundRegistry& found : registries) {
    if (!found.registry) {
      outcome.patch_id = found.named_id;
      if (!found.blank) {
        throw Refused({{"registry-damaged", found.named_id, found.fault}});
      }
      remove_image(process, found, options, outcome);
      if (outcome.verdict != Verdict::Recovered) {
        return false;
      }
    }
  }
  return true;
}

// Takes away reverted images and those of unloaded libraries. False as above.
bool remove_kept(const proc::Process& process, const std::vector<Group>& groups,
                 const Options& options, Outcome& outcome) {
  for (const Group& group : groups) {
    if (is_interrupted(group)) {
      continue;
    }
    for (const FoundRegistry& found : group) {
      const Standing standing = look_at(process, found);
      if (standing.unloaded && what_remains(standing) == Remains::Undo) {
        outcome.patch_id = found.registry->patch_id;
        remove_image(process, found, options, outcome);
        if (outcome.verdict != Verdict::Recovered) {
          return false;
        }
      }
    }
  }
  // One can be kept for its variables, which code of another one uses that is released in its turn.
  bool again = true;
  for (size_t rounds = groups.size(); again && rounds > 0; --rounds) {
    again = false;
    for (const Group& group : group_registries(find_registries(process))) {
      if (!is_interrupted(group) && release_reverted(process, group)) {
        again = true;
        outcome.verdict = Verdict::Recovered;
      }
    }
  }
  return true;
}

// With `kept`, takes away as well what is not half done and of no use.
bool undo_all(const proc::Process& process, const Options& options, bool kept, Outcome& outcome) {
  if (close_images(process)) {
    outcome.verdict = Verdict::Recovered;
  }
  if (remove_hook_stacks(process, options)) {
    outcome.verdict = Verdict::Recovered;
  }
  const std::vector<FoundRegistry> registries = find_registries(process);
  const std::vector<Group> groups = group_registries(registries);
  return undo_interrupted(process, registries, groups, options, outcome) &&
         (!kept || remove_kept(process, groups, options, outcome));
}

// What undo_all() would undo, in words; empty: nothing.
std::string find_interrupted(const proc::Process& process) {
  std::string out;
  const auto add = [&](const std::string& id, std::string_view what) {
    out += fmt::format("{}{} ({})", out.empty() ? "" : ", ", id, what);
  };
  const std::vector<FoundRegistry> registries = find_registries(process);
  for (const Group& group : group_registries(registries)) {
    for (const FoundRegistry& found : group) {
      if (is_half_done(found.registry->state)) {
        add(found.registry->patch_id, state_name(found.registry->state));
        break;  // it speaks for its transaction
      }
    }
  }
  for (const FoundRegistry& found : registries) {
    // An unreadable one is the plan's to refuse.
    if (look_at(process, found).record == Standing::Record::Blank) {
      add(found.named_id, "an image without a registry");
    }
  }
  const std::vector<proc::Mapping> mappings = process.mappings();
  if (std::any_of(mappings.begin(), mappings.end(),
                  [](const proc::Mapping& m) { return is_hook_stack_name(m.name); })) {
    out += out.empty() ? "a stack of hooks" : " and a stack of hooks";
  }
  if (out.empty() && !open_images(process).empty()) {
    out = "an open image";
  }
  return out;
}

}  // namespace

Remains what_remains(const Standing& standing) {
  if (standing.record != Standing::Record::Readable) {
    return Remains::Undo;
  }
  switch (standing.state) {
    case State::Staged:
    case State::Committing:
    case State::Reverting:
    case State::Yielding:
      return Remains::Undo;
    case State::Applied:
      return standing.unloaded ? Remains::Undo : Remains::None;
    case State::Reverted:
      return Remains::Kept;
  }
  return Remains::Undo;
}

bool is_half_done(State state) {
  return what_remains({Standing::Record::Readable, state, false}) == Remains::Undo;
}

bool is_interrupted(const Group& group) {
  return std::any_of(group.begin(), group.end(), [](const FoundRegistry& found) {
    return is_half_done(found.registry->state);
  });
}

Standing look_at(const proc::Process& process, const FoundRegistry& found) {
  Standing out;
  if (!found.registry) {
    out.record = found.blank ? Standing::Record::Blank : Standing::Record::Unreadable;
    return out;
  }
  out.record = Standing::Record::Readable;
  out.state = found.registry->state;
  out.unloaded = out.state == State::Applied && is_unloaded(process, *found.registry);
  return out;
}

bool recover_first(const proc::Process& process, const std::string& patch_id,
                   const Options& options, Outcome& outcome) {
  const std::string left = find_interrupted(process);
  if (left.empty()) {
    return true;
  }
  Outcome undone{.pid = outcome.pid, .program = outcome.program};
  try {
    if (!undo_all(process, options, false, undone)) {
      undone.notes.push_back(
          fmt::format("what an interrupted run left has to be undone first: {}", left));
      undone.patch_id = outcome.patch_id;
      outcome = std::move(undone);
      return false;
    }
  } catch (const Refused& r) {
    const Refusal& why = r.findings().front();
    throw Refused(
        {{"interrupted", left,
          fmt::format("undoing it first failed: {}: {}: {}", why.id, why.where, why.detail)}});
  }
  outcome.notes.push_back(
      fmt::format("what an interrupted run had left was undone first: {}", left));
  outcome.notes.insert(outcome.notes.end(), undone.notes.begin(), undone.notes.end());
  size_t writes = 0;
  for (const Undone& u : undone.undone) {
    if (u.patch_id == patch_id) {
      outcome.verdict = Verdict::Recovered;
      outcome.functions = writes += u.writes;
    }
  }
  return true;
}

Outcome recover(pid_t pid, const Options& options) {
  Outcome outcome{.pid = pid, .verdict = Verdict::NothingToRecover};
  std::optional<proc::Process> process;
  try {
    outcome.program = proc::Process::open(pid).program();
    wait_until_alone(pid, options.timeout);
    process = proc::Process::open(pid);
    ProcessLock lock(*process, options.timeout);
    undo_all(*process, options, true, outcome);
  } catch (const std::exception&) {
    conclude(process, outcome);
  }
  return outcome;
}

}  // namespace qp::apply
