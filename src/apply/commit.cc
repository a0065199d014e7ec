// `apply` as one straight line: plan, stage, freeze, check, commit.
//
// Up to the commit the process is as it was, but for images that nothing refers to; a Staged that is
// not kept unmaps them. The commit itself is a few writes of 5 bytes while every thread stands still:
// registries to `committing`, detours, read back, registries to `applied`. What can fail there (a
// write that the kernel refuses) is undone before the threads run again. A patch with several images
// (another for each target) makes no difference: nobody may be in old code of any of them, and their
// registries change together, so that a run that dies in between is seen to have.

#include <algorithm>
#include <ctime>

#include <fmt/format.h>

#include "apply/alone.h"
#include "apply/apply.h"
#include "apply/conclude.h"
#include "apply/endless.h"
#include "apply/hooks.h"
#include "apply/lock.h"
#include "apply/plan.h"
#include "apply/recover.h"
#include "apply/registries.h"
#include "apply/stage.h"
#include "apply/switch.h"
#include "apply/undo.h"
#include "base/fault.h"
#include "proc/cgroup.h"
#include "proc/priority.h"

namespace qp::apply {
namespace {

std::vector<CodeWrite> detour_writes(const Plan& plan) {
  std::vector<CodeWrite> writes;
  for (const PartPlan& part : plan.parts) {
    for (CodeWrite& write : writes_of(part.registry)) {
      writes.push_back(std::move(write));
    }
  }
  return exchange(plan.superseded.writes(), writes);
}

// The patch first: as long as one of its registries says that it is under way, the superseded ones are
// what is applied (recover.cc).
std::vector<RegistryChange> forth(const Plan& plan) {
  std::vector<RegistryChange> out;
  for (const PartPlan& part : plan.parts) {
    out.push_back(committing(part.registry_at));
  }
  for (const FoundRegistry& found : plan.superseded.registries()) {
    out.push_back(yielding(found.at));
  }
  return out;
}

// The same the other way round.
std::vector<RegistryChange> back(const Plan& plan) {
  std::vector<RegistryChange> out;
  for (const FoundRegistry& found : plan.superseded.registries()) {
    out.push_back(returning(found.at, State::Reverted));
  }
  for (const PartPlan& part : plan.parts) {
    out.push_back(reverting(part.registry_at, State::Applied));
  }
  return out;
}

void commit(const proc::Memory& memory, const Plan& plan,
            const std::vector<RegistryChange>& changes, const std::vector<CodeWrite>& writes) {
  Bytes now;
  append(now, static_cast<int64_t>(std::time(nullptr)));
  for (const PartPlan& part : plan.parts) {
    memory.write(part.registry_at + kAppliedAtOffset, now);
  }
  change_together(memory, changes, writes, kCommit);
}

std::vector<const Registry*> records_of(const Plan& plan) {
  std::vector<const Registry*> out;
  for (const PartPlan& part : plan.parts) {
    out.push_back(&part.registry);
  }
  return out;
}

std::vector<MappedImage> images_of(const Plan& plan) {
  std::vector<MappedImage> out;
  for (const PartPlan& part : plan.parts) {
    out.push_back({part.registry.image, part.registry.may_escape});
  }
  return out;
}

std::vector<LiveRange> no_thread_in(const Plan& plan, const Options& options) {
  if (options.consistency == Consistency::None) {
    return plan.unsafe;
  }
  std::vector<LiveRange> out = plan.old_code;
  out.insert(out.end(), plan.leaving.begin(), plan.leaving.end());
  return normalise(std::move(out));
}
std::vector<LiveRange> no_context_in(const Plan& plan, const Options& options) {
  return options.consistency == Consistency::Process ? plan.old_code : plan.unsafe;
}

std::vector<NamedCode> old_code(const Plan& plan) {
  std::vector<NamedCode> out;
  for (const PartPlan& part : plan.parts) {
    for (const RegistryDetour& d : part.registry.detours) {
      for (const LiveRange range : d.old_code) {
        out.push_back({range, d.function});
      }
    }
  }
  for (const FoundRegistry& found : plan.superseded.registries()) {
    for (const RegistryDetour& d : found.registry->detours) {
      out.push_back({d.new_code, d.function});
    }
  }
  return out;
}

using When = format::Hook::When;

// A context that was suspended inside between the look before the switch and the switch: it goes on
// in old code, so the switch is taken back. If somebody is in the new code by now, it stays. The
// patch is applied whatever fails in here.
void look_once_more(const proc::Process& process, const Plan& plan, ContextScan& contexts,
                    Hooks& hooks, const Options& options, Outcome& outcome) {
  try {
    fault_point("commit.done");
    const auto context = contexts.is_wanted() ? contexts.look() : std::nullopt;
    if (!context) {
      return;
    }
    const std::vector<BusyThread> busy =
        describe(*context, process, process.modules(), old_code(plan));
    Options at_once = options;
    at_once.timeout = std::chrono::milliseconds(0);
    const std::vector<CodeWrite> writes = backwards(detour_writes(plan));
    const std::vector<RegistryChange> changes = back(plan);
    std::vector<LiveRange> closed;
    for (const PartPlan& part : plan.parts) {
      add_new_code_ranges(part.registry, closed);
    }
    for (const NamedCode& code :
         code_laid_bare(records_of(plan.superseded.registries()), records_of(plan))) {
      closed.push_back(code.range);
    }
    Outcome undone = outcome;
    hooks.prepare({When::PreRevert, When::PostRevert});
    hooks.run(When::PreRevert);
    const Closed no_thread{.ranges = normalise(closed),
                           .lends_thread = hooks.has_stopped({When::PreRevert, When::PostRevert})};
    const Switched switched =
        switch_over(process, no_thread, at_once, undone, [&](proc::Frozen& frozen) {
          hooks.run(When::PreRevert, frozen);
          change_together(process.memory(), changes, writes, kRevert);
          hooks.run_after(When::PostRevert, &frozen);
        });
    switch (switched) {
      case Switched::Done:
        hooks.run_after(When::PostRevert, nullptr);
        hooks.remove_stack(outcome);
        outcome.verdict = Verdict::Busy;
        outcome.busy = busy;
        if (hooks.stuck()) {
          outcome.notes.push_back(kHookStuck);
          break;
        }
        release_images(process, images_of(plan), outcome);
        break;
      case Switched::Busy:
        outcome.notes.push_back(
            fmt::format("a context that was suspended at the last moment goes on in old code of {} "
                        "({})",
                        busy.front().function, busy.front().reason));
        break;
      case Switched::Gone:
        outcome.verdict = Verdict::Gone;
        break;
    }
  } catch (const HookFailed&) {
    outcome.notes.push_back(
        "a context was suspended in old code at the last moment, and a pre-revert hook refuses to "
        "take the patch back");
  } catch (const std::runtime_error& e) {  // Error, Refused
    outcome.notes.push_back(
        fmt::format("suspended contexts could not be looked for once more: {}", e.what()));
  }
}

// The way out before the commit. An image of which nothing has run is unmapped by its destructor. One
// that a hook has run in may be reachable, as after a revert; where a hook still runs, all stays.
void take_back(const proc::Process& process, const Plan& plan, Hooks& hooks, Staged& staged,
               Outcome& outcome) {
  if (!hooks.ran() || !process.alive()) {
    return;
  }
  staged.keep();
  if (hooks.stuck()) {
    outcome.notes.push_back(kHookStuck);
    return;
  }
  hooks.remove_stack(outcome);
  for (const PartPlan& part : plan.parts) {
    write_state(process.memory(), part.registry_at, State::Reverted);
  }
  release_images(process, images_of(plan), outcome);
}

void apply_plan(const proc::Process& process, const Plan& plan, const Options& options,
                Outcome& outcome) {
  const std::vector<CodeWrite> writes = detour_writes(plan);
  const std::vector<RegistryChange> changes = forth(plan);
  fault_point("plan.done");
  Staged staged = Staged::stage(process, plan, options);
  fault_point("stage.done");
  Hooks hooks(process, plan.patch_id, records_of(plan), options);
  try {
    hooks.prepare({When::PreApply, When::PostApply});
    hooks.run(When::PreApply);
    ContextScan contexts(process, no_context_in(plan, options), plan.starts);
    const Closed closed{no_thread_in(plan, options), old_code(plan), &contexts,
                        hooks.has_stopped({When::PreApply, When::PostApply})};
    Switched switched = switch_over(process, closed, options, outcome, [&](proc::Frozen& frozen) {
      hooks.run(When::PreApply, frozen);
      fault_point("hook.stopped");
      commit(process.memory(), plan, changes, writes);
      // Code leads to the images from here on, whatever else becomes of this.
      staged.keep();
      outcome.verdict = Verdict::Patched;
      hooks.run_after(When::PostApply, &frozen);
    });
    switch (switched) {
      case Switched::Done:
        look_once_more(process, plan, contexts, hooks, options, outcome);
        break;
      case Switched::Busy:
        outcome.verdict = Verdict::Busy;
        take_back(process, plan, hooks, staged, outcome);
        break;
      case Switched::Gone:
        staged.keep();
        outcome.verdict = Verdict::Gone;
        break;
    }
  } catch (const HookFailed&) {
    const std::vector<Refusal> findings = hooks.findings();  // as long as the image has its names
    take_back(process, plan, hooks, staged, outcome);
    throw Refused(findings);
  } catch (...) {
    if (outcome.verdict != Verdict::Patched) {
      take_back(process, plan, hooks, staged, outcome);
    }
    throw;
  }
  if (outcome.verdict == Verdict::Patched) {
    hooks.run_after(When::PostApply, nullptr);
  }
  hooks.remove_stack(outcome);
  outcome.failed_hooks = hooks.findings();
  if (outcome.verdict == Verdict::Patched) {
    release_images(process, images_of(plan.superseded.registries()), outcome);
  }
}

// Who waits for a function that nobody leaves should hear it.
void note_endless(const format::PatchFile& patch, Outcome& outcome) {
  if (outcome.verdict != Verdict::Busy) {
    return;
  }
  for (const format::Patch& part : patch.parts) {
    for (const Endless& endless : find_endless(part)) {
      if (std::any_of(outcome.busy.begin(), outcome.busy.end(),
                      [&](const BusyThread& b) { return b.function == endless.function; })) {
        outcome.notes.push_back(explain(endless));
      }
    }
  }
}

enum class Leftovers : uint8_t { Refuse, Undo };  // of an interrupted run

// Plans, and does `work` if there is something to do. A failure against a process that is gone is
// not a failure.
template <class Work>
Outcome with_plan(pid_t pid, const format::PatchFile& patch, const Options& options,
                  Leftovers leftovers, Work work) {
  std::optional<proc::Process> process;
  Outcome outcome{.pid = pid, .patch_id = patch.id()};
  for (const format::Patch& part : patch.parts) {
    outcome.functions += part.replaced.size();
  }
  try {
    outcome.program = proc::Process::open(pid).program();
    wait_until_alone(pid, options.timeout);
    process = proc::Process::open(pid);
    ProcessLock lock(*process, options.timeout);
    const proc::BetterNice better;
    proc::demand_not_frozen(pid);
    if (leftovers == Leftovers::Undo &&
        !recover_first(*process, outcome.patch_id, options, outcome)) {
      return outcome;
    }
    Report report;
    const std::optional<Plan> plan = make_plan(*process, patch, options.replaces, report);
    report.checkpoint();
    outcome.notes.insert(outcome.notes.end(), report.warnings().begin(), report.warnings().end());
    outcome.functions = plan->parts.empty() ? plan->functions_there : plan->functions();
    if (plan->parts.empty()) {
      outcome.verdict = Verdict::AlreadyApplied;
    } else {
      for (const FoundRegistry& found : plan->superseded.registries()) {
        if (outcome.superseded.empty() || outcome.superseded.back() != found.registry->patch_id) {
          outcome.superseded.push_back(found.registry->patch_id);
        }
      }
      work(*process, *plan, outcome);
      note_endless(patch, outcome);
    }
  } catch (const std::exception&) {
    conclude(process, outcome);
  }
  return outcome;
}

}  // namespace

Outcome apply(pid_t pid, const format::PatchFile& patch, const Options& options) {
  return with_plan(pid, patch, options, Leftovers::Undo,
                   [&](const auto& process, const Plan& plan, auto& outcome) {
                     apply_plan(process, plan, options, outcome);
                   });
}

Outcome check(pid_t pid, const format::PatchFile& patch, const Options& options) {
  const auto work = [&](const auto& process, const Plan& plan, auto& outcome) {
    ContextScan contexts(process, no_context_in(plan, options), plan.starts);
    Switched switched =
        switch_over(process, {no_thread_in(plan, options), old_code(plan), &contexts}, options,
                    outcome, [](proc::Frozen&) {});
    outcome.verdict = switched == Switched::Done   ? Verdict::Patchable
                      : switched == Switched::Busy ? Verdict::Busy
                                                   : Verdict::Gone;
  };
  return with_plan(pid, patch, options, Leftovers::Refuse, work);
}

}  // namespace qp::apply
