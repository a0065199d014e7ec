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
// A library that was patched can be unloaded, and loaded again without the patch. Its registry says
// `applied` and no detour is there: nothing leads into the image any more, which can go.
//
// A run that was killed while it mapped the image leaves one without a registry, perhaps still open.
// Its detours come after the registry, so there are none; but since the process can clear a registry
// as well, its code is searched for jumps into the image before that is believed.

#include <sys/syscall.h>

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include "apply/apply.h"
#include "apply/hooks.h"
#include "apply/lock.h"
#include "apply/plan.h"
#include "apply/registries.h"
#include "apply/switch.h"
#include "apply/undo.h"
#include "base/error.h"
#include "proc/borrow.h"
#include "proc/remote_file.h"

namespace qp::apply {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(5);

bool is_blank(const proc::Process& process, const FoundRegistry& found) {
  Bytes header(kRegistryHeader);
  return found.at.value == 0 ||
         (process.memory().try_read(found.at, header) &&
          std::all_of(header.begin(), header.end(), [](std::byte b) { return b == std::byte{0}; }));
}

// e9 rel32 with a target in `image`, anywhere in the code of a module.
std::optional<LiveAddr> find_jump_into(const proc::Process& process, LiveRange image) {
  constexpr uint64_t kJump = 5, kChunk = uint64_t{1} << 20;
  Bytes code;
  for (const proc::Module& module : process.modules()) {
    for (LiveRange range : module.executable) {
      for (LiveAddr at = range.start; !range.overlaps(image) && at < range.end;
           at += kChunk - kJump + 1) {
        code.resize(std::min<uint64_t>(kChunk, static_cast<uint64_t>(range.end - at)));
        code.resize(process.memory().read_some(at, code));
        for (size_t i = 0; i + kJump <= code.size(); ++i) {
          auto distance = code[i] == std::byte{0xe9} ? load<int32_t>(code, i + 1) : 0;
          LiveAddr to = at + i + kJump + static_cast<uint64_t>(static_cast<int64_t>(distance));
          if (code[i] == std::byte{0xe9} && image.contains(to)) {
            return at + i;
          }
        }
      }
    }
  }
  return std::nullopt;
}

// Applied once, to code that is not there any more, or that was mapped anew since.
bool is_unloaded(const proc::Process& process, const Registry& r) {
  std::vector<proc::Module> modules = process.modules();
  const proc::Module* module = find_module(modules, r);
  return module == nullptr ||
         (!r.detours.empty() && find_faults(process, module, r, true).empty() &&
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
void demand_whole(const proc::Process& process, const Group& group,
                  const std::vector<FoundRegistry>& registries) {
  for (const FoundRegistry& found : registries) {
    if (!found.registry && found.named_id == group.front().registry->patch_id &&
        !is_blank(process, found)) {
      throw Refused({{"registry-damaged", found.named_id, found.fault}});
    }
  }
}

// What has to be done to images that go together.
struct Undo {
  std::vector<CodeWrite> writes;
  std::vector<RegistryState> registries;
  std::vector<LiveRange> images;
  std::vector<LiveRange> closed;  // besides the images: islands that lead there
  bool may_escape = false;
};

void perform(const proc::Process& process, const Undo& undo, const Options& options,
             Outcome& outcome) {
  outcome.functions += undo.writes.size();
  std::vector<LiveRange> closed = undo.closed;
  closed.insert(closed.end(), undo.images.begin(), undo.images.end());
  Switched switched =
      switch_over(process, {normalise(std::move(closed))}, options, outcome, [&](const auto&) {
        change_together(process.memory(), undo.registries, undo.writes, kRevert);
      });
  switch (switched) {
    case Switched::Done:
      outcome.verdict = Verdict::Recovered;
      release_images(process, undo.images, undo.may_escape, outcome);
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
  // All staged: none of it ever ran, but for hooks.
  const bool ran = std::any_of(group.begin(), group.end(), [](const FoundRegistry& found) {
    return found.registry->state != State::Staged || !found.registry->hooks.empty();
  });
  Undo undo;
  for (const FoundRegistry& found : group) {
    const Registry& r = *found.registry;
    if (const proc::Module* module = find_module(modules, r)) {
      if (auto faults = find_faults(process, module, r, true); !faults.empty()) {
        throw Refused({{"registry-damaged", r.patch_id, faults.front()}});
      }
      for (CodeWrite& write : undo_writes(process, r)) {
        undo.writes.push_back(std::move(write));
      }
    } else {  // unloaded since
      demand_no_jump_into(process, found);
    }
    undo.registries.push_back({found.at, r.state});
    undo.images.push_back(found.image);
    add_new_code_ranges(r, undo.closed);
    undo.may_escape |= r.may_escape && ran;
  }
  perform(process, undo, options, outcome);
}

// Nothing leads into the image: it was mapped and no more, or its library was unloaded.
void remove_image(const proc::Process& process, const FoundRegistry& found, const Options& options,
                  Outcome& outcome) {
  demand_no_jump_into(process, found);
  Undo undo;
  undo.images = {found.image};
  if (found.registry) {
    undo.registries = {{found.at, found.registry->state}};
    undo.may_escape = found.registry->may_escape;
  }
  perform(process, undo, options, outcome);
}

// Reverted images stay while something may refer to them, or because the run that reverted them was
// killed before it could look. True if they are gone now.
bool release_reverted(const proc::Process& process, const Group& group) {
  std::vector<LiveRange> images;
  bool may_escape = false;
  for (const FoundRegistry& found : group) {
    if (found.registry->state == State::Reverted) {
      images.push_back(found.image);
      may_escape |= found.registry->may_escape;
    }
  }
  Outcome ignored;
  release_images(process, images, may_escape, ignored);
  return !images.empty() && ignored.notes.empty();
}

// The stacks of hooks that an interrupted run left, when the threads on them have gone home. Nullopt:
// there were none; false: a hook still runs.
std::optional<bool> wait_for_hooks(const proc::Process& process, const Options& options) {
  const auto deadline = std::chrono::steady_clock::now() + options.timeout;
  for (;;) {
    auto gone = remove_left_stacks(process);
    if (!gone || *gone || std::chrono::steady_clock::now() >= deadline) {
      return gone;
    }
    std::this_thread::sleep_for(kPoll);
  }
}

// An image is open only while it is being mapped. True if there was one.
bool close_images(const proc::Process& process) {
  std::vector<uint64_t> open;
  for (const proc::RemoteFile& file : proc::remote_files(process)) {
    if (is_image_name(file.name) || is_hook_stack_name(file.name)) {
      open.push_back(static_cast<uint64_t>(file.fd));
    }
  }
  if (open.empty()) {
    return false;
  }
  auto thread = proc::Borrowed::take(process);
  if (!thread) {
    throw Error("no-thread", "borrowing a thread of", std::to_string(process.pid()),
                "none of its threads can run a system call for us now", ExitCode::Busy);
  }
  for (uint64_t fd : open) {
    thread->call(SYS_close, fd);
  }
  return true;
}

void recover_in(const proc::Process& process, const Options& options, Outcome& outcome) {
  const std::vector<FoundRegistry> registries = find_registries(process);
  const std::vector<Group> groups = group_registries(registries);
  const auto go_on = [&] {
    return outcome.verdict == Verdict::NothingToRecover || outcome.verdict == Verdict::Recovered;
  };
  for (const Group& group : groups) {
    if (go_on() && is_interrupted(group)) {
      outcome.patch_id = group.front().registry->patch_id;
      demand_whole(process, group, registries);
      undo_group(process, group, options, outcome);
    }
  }
  for (const FoundRegistry& found : registries) {
    if (go_on() && !found.registry) {
      outcome.patch_id = found.named_id;
      if (!is_blank(process, found)) {
        throw Refused({{"registry-damaged", found.named_id, found.fault}});
      }
      remove_image(process, found, options, outcome);
    }
  }
  for (const Group& group : groups) {
    if (is_interrupted(group)) {
      continue;
    }
    for (const FoundRegistry& found : group) {
      if (go_on() && found.registry->state == State::Applied &&
          is_unloaded(process, *found.registry)) {
        outcome.patch_id = found.registry->patch_id;
        remove_image(process, found, options, outcome);
      }
    }
    if (go_on() && release_reverted(process, group)) {
      outcome.verdict = Verdict::Recovered;
    }
  }
}

}  // namespace

Outcome recover(pid_t pid, const Options& options) {
  proc::Process process = proc::Process::open(pid);
  Outcome outcome{.pid = pid, .program = process.program()};
  outcome.verdict = Verdict::NothingToRecover;
  try {
    ProcessLock lock(process, options.timeout);
    if (close_images(process)) {
      outcome.verdict = Verdict::Recovered;
    }
    if (auto gone = wait_for_hooks(process, options)) {
      if (!*gone) {
        throw Refused({{"hook-timeout", outcome.program,
                        "a hook of an interrupted run has not come to its end"}});
      }
      outcome.verdict = Verdict::Recovered;
    }
    recover_in(process, options, outcome);
  } catch (const Refused& r) {
    outcome.verdict = Verdict::Unpatchable;
    outcome.refusals = r.findings();
  } catch (const Error&) {
    if (process.alive()) {
      throw;
    }
    outcome.verdict = Verdict::Gone;
  }
  return outcome;
}

}  // namespace qp::apply
