// `revert`, and what reads registries: list and stacks.
//
// Nobody may be inside the image at the switch, all of it. Afterwards the image is unmapped if it is
// provably unreachable; otherwise it stays mapped, in state `reverted`, and the outcome says so
// (undo.cc).

#include <algorithm>

#include <fmt/format.h>

#include "apply/apply.h"
#include "apply/lock.h"
#include "apply/plan.h"
#include "apply/registries.h"
#include "apply/switch.h"
#include "apply/undo.h"

namespace qp::apply {
namespace {

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

std::vector<NamedCode> new_code(const Registry& registry) {
  std::vector<NamedCode> out;
  for (const RegistryDetour& d : registry.detours) {
    out.push_back({d.new_code, d.function});
  }
  return out;
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
  std::vector<CodeWrite> writes = undo_writes(process, located.registry);
  Switched switched =
      switch_over(process, {new_code_ranges(located.registry), new_code(located.registry)}, options,
                  outcome, [&](const proc::Frozen&) {
                    restore(process.memory(), located.found.at, writes, State::Applied);
                  });
  switch (switched) {
    case Switched::Done:
      outcome.verdict = Verdict::Reverted;
      release_image(process, located.registry.image, located.registry.may_escape, outcome);
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
    ProcessLock lock(process, options.timeout);
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

std::vector<BusyThread> stacks(pid_t pid, const std::vector<NamedCode>& code) {
  proc::Process process = proc::Process::open(pid);
  std::vector<LiveRange> ranges;
  for (const NamedCode& c : code) {
    ranges.push_back(c.range);
  }
  StackCheck check(process, normalise(std::move(ranges)));
  check.prepare_unwinding();
  check.prepare();
  proc::Frozen frozen = proc::Frozen::freeze(process);
  if (frozen.gone()) {
    return {};
  }
  check.look(frozen);
  frozen.thaw();
  return describe(process, check.inside(), process.modules(), code);
}

}  // namespace qp::apply
