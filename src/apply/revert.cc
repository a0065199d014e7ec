// `revert`, and what reads registries: list and stacks.
//
// All images of the patch go together. Nobody may be inside any of them at the switch, nor, unless
// --consistency allows it, be suspended in new code. Afterwards they are unmapped if they are provably
// unreachable; otherwise they stay mapped, in state `reverted`, and the outcome says so (undo.cc).

#include <algorithm>

#include <fmt/format.h>

#include "apply/alone.h"
#include "apply/apply.h"
#include "apply/conclude.h"
#include "apply/hooks.h"
#include "apply/lock.h"
#include "apply/plan.h"
#include "apply/recover.h"
#include "apply/registries.h"
#include "apply/superseded.h"
#include "apply/switch.h"
#include "apply/undo.h"
#include "proc/priority.h"

namespace qp::apply {
namespace {

// Images that were kept for variables of the patch.
std::vector<FoundRegistry> homes_of_variables(const proc::Process& process, const Group& group) {
  std::vector<FoundRegistry> out = find_registries(process);
  std::erase_if(out, [&](const FoundRegistry& home) {
    return !home.registry || home.registry->state != State::Reverted ||
           std::none_of(group.begin(), group.end(), [&](const FoundRegistry& user) {
             const auto& variables = user.registry->variables;
             return std::any_of(variables.begin(), variables.end(),
                                [&](auto& v) { return home.image.contains(v.at); });
           });
  });
  return out;
}

// All that the patch has in the process; may be empty.
Group find_applied(const proc::Process& process, const std::string& patch_id) {
  Group out;
  for (FoundRegistry& found : find_registries(process)) {
    if (!found.registry) {
      if (found.named_id == patch_id) {
        throw Refused({{"registry-damaged", patch_id, found.fault}});
      }
      continue;
    }
    const Registry& r = *found.registry;
    if (r.patch_id != patch_id || r.state == State::Reverted) {
      continue;
    }
    if (r.state != State::Applied) {
      throw Refused(
          {{"interrupted", r.patch_id, fmt::format("its registry says {}", state_name(r.state))}});
    }
    out.push_back(std::move(found));
  }
  return out;
}

void add_new_code(const Registry& registry, std::vector<NamedCode>& out) {
  for (const RegistryDetour& d : registry.detours) {
    out.push_back({d.new_code, d.function});
  }
}

void revert_in(const proc::Process& process, const std::string& patch_id, const Options& options,
               Outcome& outcome) {
  const Group group = find_applied(process, patch_id);
  if (group.empty() && outcome.verdict == Verdict::Recovered) {
    return;  // it was interrupted, and is gone by now
  }
  if (group.empty()) {
    throw Refused({{"not-applied", patch_id, "no registry in the process has it as applied"}});
  }
  const std::vector<proc::Module> modules = process.modules();
  std::vector<CodeWrite> writes;
  std::vector<RegistryChange> registries;
  std::vector<LiveRange> closed;
  std::vector<NamedCode> names;
  for (const FoundRegistry& found : group) {
    const Registry& r = *found.registry;
    if (auto faults = find_faults(process, find_module(modules, r), r); !faults.empty()) {
      throw Refused({{"registry-damaged", patch_id, faults.front()}});
    }
    for (CodeWrite& write : undo_writes(process, r)) {
      writes.push_back(std::move(write));
    }
    registries.push_back(reverting(found.at, State::Applied));
    add_new_code_ranges(r, closed);
    add_new_code(r, names);
  }
  const std::vector<FoundRegistry> homes = homes_of_variables(process, group);
  outcome.functions = names.size();
  std::vector<LiveRange> new_code;
  std::vector<LiveAddr> starts;
  for (const NamedCode& code : names) {
    new_code.push_back(code.range);
    starts.push_back(code.range.start);
  }
  using When = format::Hook::When;
  Hooks hooks(process, patch_id, records_of(group), options);
  Switched switched = Switched::Busy;
  try {
    hooks.prepare({When::PreRevert, When::PostRevert});
    hooks.run(When::PreRevert);
    ContextScan contexts(process, normalise(new_code), starts);
    const Closed no_thread{
        .ranges = normalise(closed),
        .names = names,
        .contexts = options.consistency == Consistency::Process ? &contexts : nullptr,
        .lends_thread = hooks.has_stopped({When::PreRevert, When::PostRevert})};
    switched = switch_over(process, no_thread, options, outcome, [&](proc::Frozen& frozen) {
      hooks.run(When::PreRevert, frozen);
      change_together(process.memory(), registries, writes, kRevert);
      hooks.run_after(When::PostRevert, &frozen);
    });
  } catch (const HookFailed&) {
    throw Refused(hooks.findings());
  }
  switch (switched) {
    case Switched::Done:
      outcome.verdict = Verdict::Reverted;
      hooks.run_after(When::PostRevert, nullptr);
      hooks.remove_stack(outcome);
      outcome.failed_hooks = hooks.findings();
      if (hooks.stuck()) {
        outcome.notes.push_back(kHookStuck);
        break;
      }
      release_images(process, images_of(group), outcome);
      release_images(process, images_of(homes), outcome);
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
  Outcome outcome{.pid = pid, .patch_id = patch_id};
  std::optional<proc::Process> process;
  try {
    outcome.program = proc::Process::open(pid).program();
    wait_until_alone(pid, options.timeout);
    process = proc::Process::open(pid);
    ProcessLock lock(*process, options.timeout);
    const proc::BetterNice better;
    if (recover_first(*process, patch_id, options, outcome)) {
      revert_in(*process, patch_id, options, outcome);
    }
  } catch (const std::exception&) {
    conclude(process, outcome);
  }
  return outcome;
}

std::vector<Applied> list(const proc::Process& process) {
  std::vector<Applied> all;
  std::optional<std::vector<proc::Module>> modules;  // read only if there is something to list
  const std::vector<FoundRegistry> registries = find_registries(process);
  for (const FoundRegistry& found : registries) {
    if (!found.registry) {
      Applied damaged;
      damaged.intact = false;
      damaged.interrupted = look_at(process, found).record == Standing::Record::Blank;
      damaged.registry.patch_id = found.named_id;
      damaged.registry.image = found.image;
      damaged.faults.push_back(
          damaged.interrupted
              ? fmt::format("{}: an interrupted run left it without a registry", found.where)
              : fmt::format("{}: {}", found.where, found.fault));
      all.push_back(std::move(damaged));
    }
  }
  for (const Group& group : group_registries(registries)) {
    const bool interrupted = is_interrupted(group);
    for (const FoundRegistry& found : group) {
      if (found.registry->state == State::Reverted) {
        continue;
      }
      if (!modules) {
        modules = process.modules();
      }
      Applied a{.registry = *found.registry};
      a.interrupted = interrupted;
      if (interrupted) {
        const bool done = found.registry->state == State::Applied;
        a.faults = {fmt::format("an interrupted run left it {}",
                                done ? "half applied" : state_name(found.registry->state))};
      } else {
        a.faults = find_faults(process, find_module(*modules, a.registry), a.registry);
      }
      a.intact = a.faults.empty();
      all.push_back(std::move(a));
    }
  }
  return all;
}

std::vector<BusyThread> stacks(pid_t pid, const std::vector<NamedCode>& code) {
  proc::Process process = proc::Process::open(pid);
  std::vector<LiveRange> ranges;
  for (const NamedCode& c : code) {
    ranges.push_back(c.range);
  }
  ranges = normalise(std::move(ranges));
  StackCheck check(process, ranges, ranges);
  check.prepare_unwinding();
  check.prepare();
  proc::Frozen frozen = proc::Frozen::freeze(process);
  if (frozen.gone()) {
    return {};
  }
  check.look(frozen);
  frozen.thaw();
  if (!check.inside().empty()) {  // once more with what it takes time to find out
    check.rehearse();
    check.prepare();
    proc::Frozen again = proc::Frozen::freeze(process);
    if (again.gone()) {
      return {};
    }
    check.look(again);
    again.thaw();
  }
  return describe(process, check.inside(), process.modules(), code);
}

}  // namespace qp::apply
