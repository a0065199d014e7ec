// `recover`: undoes what an interrupted run of qpatch began.
//
// A run that was killed leaves the registry in the state that it was about to leave: `staged` (no
// byte of the program was changed), `committing` or `reverting` (some detours are there, some not).
// In each case the way out is back: the saved bytes are written over the detours that are there,
// with nobody inside the new code, and the image goes. Forward would be possible too, but back needs
// nothing that was only in the dead run's memory, and it is what "the command failed" means.
//
// A library that was patched can be unloaded, and loaded again without the patch. Its registry says
// `applied` and no detour is there: nothing leads into the image any more, which can go.
//
// A run that was killed while it mapped the image leaves one without a registry, perhaps still open. Its detours come
// after the registry, so there are none; but since the process can clear a registry as well, its
// code is searched for jumps into the image before that is believed.

#include <sys/syscall.h>

#include <algorithm>

#include <fmt/format.h>

#include "apply/apply.h"
#include "apply/lock.h"
#include "apply/registries.h"
#include "apply/switch.h"
#include "apply/undo.h"
#include "base/error.h"
#include "proc/borrow.h"
#include "proc/remote_file.h"

namespace qp::apply {
namespace {

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
         (find_faults(process, module, r, true).empty() && undo_writes(process, r).empty());
}

void recover_one(const proc::Process& process, const FoundRegistry& found, const Options& options,
                 Outcome& outcome) {
  std::vector<CodeWrite> writes;
  bool may_escape = false;
  const bool unloaded = found.registry && found.registry->state == State::Applied;
  if (unloaded) {
    may_escape = found.registry->may_escape;
  }
  if (found.registry && !unloaded) {
    const Registry& r = *found.registry;
    std::vector<proc::Module> modules = process.modules();
    auto faults = find_faults(process, find_module(modules, r), r, true);
    if (!faults.empty()) {
      throw Refused({{"registry-damaged", r.patch_id, faults.front()}});
    }
    writes = undo_writes(process, r);
    may_escape = r.may_escape && r.state != State::Staged;  // staged: it never ran
  } else if (auto jump = find_jump_into(process, found.image)) {
    throw Refused({{"registry-damaged", found.named_id,
                    fmt::format("it names no detour that is there, but {:#x} jumps into its image",
                                jump->value)}});
  }
  outcome.functions += writes.size();
  const Closed closed{
      found.registry ? new_code_ranges(*found.registry) : std::vector<LiveRange>{found.image}, {}};
  Switched switched = switch_over(process, closed, options, outcome, [&](const auto&) {
    if (found.registry) {
      restore(process.memory(), found.at, writes, found.registry->state);
    }
  });
  switch (switched) {
    case Switched::Done:
      outcome.verdict = Verdict::Recovered;
      release_image(process, found.image, may_escape, outcome);
      break;
    case Switched::Busy:
      outcome.verdict = Verdict::Busy;
      break;
    case Switched::Gone:
      outcome.verdict = Verdict::Gone;
      break;
  }
}

// A reverted image stays while something may refer to it, or because the run that reverted it was
// killed before it could look. True if it is gone now.
bool release_reverted(const proc::Process& process, const FoundRegistry& found) {
  Outcome ignored;
  release_image(process, found.image, found.registry->may_escape, ignored);
  return ignored.notes.empty();
}

// An image is open only while it is being mapped. True if there was one.
bool close_images(const proc::Process& process) {
  std::vector<uint64_t> open;
  for (const proc::RemoteFile& file : proc::remote_files(process)) {
    if (is_image_name(file.name)) {
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
    for (const FoundRegistry& found : find_registries(process)) {
      if (found.registry && found.registry->state == State::Applied &&
          !is_unloaded(process, *found.registry)) {
        continue;
      }
      if (found.registry && found.registry->state == State::Reverted) {
        if (release_reverted(process, found)) {
          outcome.verdict = Verdict::Recovered;
        }
        continue;
      }
      outcome.patch_id = found.named_id;
      if (!found.registry && !is_blank(process, found)) {
        throw Refused({{"registry-damaged", found.named_id, found.fault}});
      }
      recover_one(process, found, options, outcome);
      if (outcome.verdict != Verdict::Recovered) {
        break;
      }
    }
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
