// `revert`, and what reads registries: list and stacks.
//
// A registry lies where the process can write, so revert believes nothing of it that it can't check
// (P5, P9): every detour must lie in executable memory of the module that the registry names by
// build-id; the live bytes there must be the jump that the registry has, and the saved bytes must be
// the ones in the module's own file. So a forged registry can make us restore original code, and
// nothing else.
//
// Nobody may be inside the image at the switch, all of it. Afterwards the image is unmapped if it is
// provably unreachable; otherwise it stays mapped, in state `reverted`, and the outcome says so.

#include <algorithm>

#include <fmt/format.h>

#include "apply/apply.h"
#include "apply/plan.h"
#include "apply/reach.h"
#include "apply/registries.h"
#include "apply/stage.h"
#include "apply/switch.h"
#include "base/fault.h"

namespace qp::apply {
namespace {

// What may be scanned while the process stands still: about half a millisecond.
constexpr uint64_t kScanLimit = uint64_t{1} << 20;

Bytes read_live(const proc::Process& process, LiveAddr at, size_t size) {
  Bytes bytes(size);
  bytes.resize(process.memory().read_some(at, bytes));
  return bytes;
}

const proc::Module* find_module(const std::vector<proc::Module>& modules, const Registry& r) {
  for (const proc::Module& m : modules) {
    if (m.build_id == r.target_build_id && m.bias == r.bias) {
      return &m;
    }
  }
  return nullptr;
}

// What the registry says against what is there.
std::vector<std::string> find_faults(const proc::Process& process, const proc::Module* module,
                                     const Registry& r) {
  std::vector<std::string> faults;
  if (module == nullptr || !module->file) {
    return {fmt::format("{} (build-id {}) is not mapped at the place that it names", r.target_name,
                        r.target_build_id)};
  }
  elf::FileReader file(*module->file);
  for (const RegistryDetour& d : r.detours) {
    bool in_text = std::any_of(
        module->executable.begin(), module->executable.end(),
        [&](LiveRange range) { return range.contains(d.at) && range.contains(d.at + 4); });
    Bytes original(d.saved.size());
    if (!in_text || !r.image.contains(d.new_code.start)) {
      faults.push_back(fmt::format("the detour of {} at {:#x} is not in the target's text",
                                   d.function, d.at.value));
    } else if (!file.try_read(module->bias(d.at), original) || original != d.saved) {
      faults.push_back(
          fmt::format("the saved bytes of {} are not those of the target's file", d.function));
    } else if (Bytes have = read_live(process, d.at, d.jump.size()); have != d.jump) {
      faults.push_back(fmt::format("{} at {:#x} holds {}, not the detour {}", d.function,
                                   d.at.value, hex(have), hex(d.jump)));
    }
  }
  return faults;
}

struct Located {
  FoundRegistry found;
  Registry registry;
};

Located find_applied(const proc::Process& process, const std::string& patch_id) {
  for (FoundRegistry& found : find_registries(process)) {
    if (!found.registry) {
      if (found.named_id == patch_id) {
        throw Refused({{"registry-damaged", patch_id, found.fault}});
      }
      continue;
    }
    Registry& r = *found.registry;
    bool named = r.patch_id == patch_id && r.state != State::Reverted;
    if (!named) {
      continue;
    }
    if (r.state != State::Applied) {
      throw Refused(
          {{"interrupted", r.patch_id, fmt::format("its registry says {}", state_name(r.state))}});
    }
    Registry registry = r;
    return {std::move(found), std::move(registry)};
  }
  throw Refused({{"not-applied", patch_id, "no registry in the process has it as applied"}});
}

void restore(const proc::Memory& memory, const Located& located,
             const std::vector<CodeWrite>& writes) {
  write_state(memory, located.found.at, State::Reverting);
  try {
    fault_point("revert.begun");
    write_code(memory, writes, "revert.detour");
  } catch (...) {
    write_state(memory, located.found.at, State::Applied);
    throw;
  }
  write_state(memory, located.found.at, State::Reverted);
}

// Second look, after the switch: is the image unreachable?
std::string why_reachable(const proc::Process& process, const Registry& registry) {
  if (registry.may_escape) {
    return "its code hands out addresses of its own functions or variables";
  }
  ReachScan scan(process, registry.image, kScanLimit);
  if (std::string obstacle = scan.obstacle(); !obstacle.empty()) {
    return obstacle;
  }
  proc::Frozen frozen = proc::Frozen::freeze(process);
  std::string reach = frozen.gone() ? "" : scan.look(frozen);
  frozen.thaw();
  return reach;
}

void release_image(const proc::Process& process, const Registry& registry, Outcome& outcome) {
  std::string reach;
  // The old code is back already. What fails from here on keeps the image, and is no failure of
  // the revert.
  try {
    reach = why_reachable(process, registry);
    if (reach.empty() && !unmap_image(process, registry.image)) {
      reach = "no thread could be borrowed to unmap it";
    }
  } catch (const Error& e) {
    reach = e.what();
  }
  if (!reach.empty()) {
    outcome.notes.push_back(fmt::format("image kept mapped ({} KiB at {:#x}): {}",
                                        registry.image.size() / 1024, registry.image.start.value,
                                        reach));
  }
}

void revert_in(const proc::Process& process, const std::string& patch_id, const Options& options,
               Outcome& outcome) {
  Located located = find_applied(process, patch_id);
  outcome.functions = located.registry.detours.size();
  std::vector<proc::Module> modules = process.modules();
  const proc::Module* module = find_module(modules, located.registry);
  if (auto faults = find_faults(process, module, located.registry); !faults.empty()) {
    throw Refused({{"registry-damaged", patch_id, faults.front()}});
  }
  std::vector<CodeWrite> writes;
  for (const RegistryDetour& d : located.registry.detours) {
    writes.push_back({d.function, d.at, d.jump, d.saved});
  }
  Switched switched =
      switch_over(process, {located.found.image}, options, outcome,
                  [&](const proc::Frozen&) { restore(process.memory(), located, writes); });
  switch (switched) {
    case Switched::Done:
      outcome.verdict = Verdict::Reverted;
      release_image(process, located.registry, outcome);
      break;
    case Switched::Busy:
      outcome.verdict = Verdict::Busy;
      break;
    case Switched::Gone:
      outcome.verdict = Verdict::Gone;
      break;
  }
}

}  // namespace

Outcome revert(pid_t pid, const std::string& patch_id, const Options& options) {
  proc::Process process = proc::Process::open(pid);
  Outcome outcome{.pid = pid, .program = process.program(), .patch_id = patch_id};
  try {
    revert_in(process, patch_id, options, outcome);
  } catch (const Refused& r) {
    bool absent = r.findings().front().id == "not-applied";
    outcome.verdict = absent ? Verdict::NotApplied : Verdict::Unpatchable;
    outcome.refusals = r.findings();
  } catch (const Error&) {
    if (process.alive()) {
      throw;
    }
    outcome.verdict = Verdict::Gone;
  }
  return outcome;
}

std::vector<Applied> list(const proc::Process& process) {
  std::vector<Applied> all;
  std::optional<std::vector<proc::Module>> modules;  // read only if there is something to list
  for (const FoundRegistry& found : find_registries(process)) {
    if (!found.registry) {
      Applied damaged;
      damaged.intact = false;
      damaged.registry.patch_id = found.named_id;
      damaged.registry.image = found.image;
      damaged.faults.push_back(fmt::format("{}: {}", found.where, found.fault));
      all.push_back(std::move(damaged));
      continue;
    }
    if (found.registry->state == State::Reverted) {
      continue;
    }
    if (!modules) {
      modules = process.modules();
    }
    Applied a{.registry = *found.registry};
    a.faults = found.registry->state == State::Applied
                   ? find_faults(process, find_module(*modules, a.registry), a.registry)
                   : std::vector<std::string>{fmt::format("an interrupted run left it {}",
                                                          state_name(found.registry->state))};
    a.intact = a.faults.empty();
    all.push_back(std::move(a));
  }
  return all;
}

std::vector<BusyThread> stacks(pid_t pid, const std::vector<LiveRange>& ranges) {
  proc::Process process = proc::Process::open(pid);
  StackCheck check(process, normalise(ranges));
  check.prepare_unwinding();
  check.prepare();
  proc::Frozen frozen = proc::Frozen::freeze(process);
  if (frozen.gone()) {
    return {};
  }
  check.look(frozen);
  frozen.thaw();
  return describe(process, check.inside(), process.modules());
}

}  // namespace qp::apply
