// `apply` as one straight line: plan, stage, freeze, check, commit.
//
// Up to the commit the process is as it was, but for an image that nothing refers to; a Staged that
// is not kept unmaps it. The commit itself is a few writes of 5 bytes while every thread stands still:
// registry to `committing`, detours, read back, registry to `applied`. What can fail there (a write
// that the kernel refuses) is undone before the threads run again.

#include <ctime>

#include <fmt/format.h>

#include "apply/apply.h"
#include "apply/lock.h"
#include "apply/plan.h"
#include "apply/registries.h"
#include "apply/stage.h"
#include "apply/switch.h"
#include "apply/undo.h"
#include "base/fault.h"
#include "proc/cgroup.h"

namespace qp::apply {
namespace {

std::vector<CodeWrite> detour_writes(const Plan& plan) {
  std::vector<CodeWrite> writes;
  for (const RegistryDetour& d : plan.registry.detours) {
    for (const RegistryDetour::Written& w : d.written()) {
      writes.push_back({d.function, w.at, w.saved, w.jump});
    }
  }
  return writes;
}

void commit(const proc::Memory& memory, const Plan& plan, const std::vector<CodeWrite>& writes) {
  write_state(memory, plan.registry_at, State::Committing);
  try {
    fault_point("commit.begun");
    write_code(memory, writes, "commit.detour");
  } catch (...) {
    write_state(memory, plan.registry_at, plan.reuse ? State::Reverted : State::Staged);
    throw;
  }
  Bytes now;
  append(now, static_cast<int64_t>(std::time(nullptr)));
  memory.write(plan.registry_at + kAppliedAtOffset, now);
  write_state(memory, plan.registry_at, State::Applied);
}

bool is_applied(const proc::Process& process, const std::string& patch_id) {
  for (const Applied& a : list(process)) {
    if (a.registry.patch_id == patch_id && a.registry.state == State::Applied) {
      if (!a.intact) {
        throw Refused({{"registry-damaged", patch_id, a.faults.front()}});
      }
      return true;
    }
  }
  return false;
}

Outcome begin(const proc::Process& process, const format::Patch& patch) {
  Outcome outcome{.pid = process.pid(), .program = process.program(), .patch_id = patch.id()};
  outcome.functions = patch.replaced.size();
  return outcome;
}

std::vector<LiveRange> no_thread_in(const Plan& plan, const Options& options) {
  return options.consistency == Consistency::None ? plan.unsafe : plan.old_code;
}
std::vector<LiveRange> no_context_in(const Plan& plan, const Options& options) {
  return options.consistency == Consistency::Process ? plan.old_code : plan.unsafe;
}

std::vector<NamedCode> old_code(const Plan& plan) {
  std::vector<NamedCode> out;
  for (const RegistryDetour& d : plan.registry.detours) {
    for (const LiveRange range : d.old_code) {
      out.push_back({range, d.function});
    }
  }
  return out;
}

// A context that was suspended inside between the look before the switch and the switch: it goes on
// in old code, so the switch is taken back. If somebody is in the new code by now, it stays. The
// patch is applied whatever fails in here.
void look_once_more(const proc::Process& process, const Plan& plan, ContextScan& contexts,
                    const Options& options, Outcome& outcome) {
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
    const std::vector<CodeWrite> writes = undo_writes(process, plan.registry);
    Outcome undone = outcome;
    const Switched switched = switch_over(
        process, {new_code_ranges(plan.registry)}, at_once, undone, [&](const proc::Frozen&) {
          restore(process.memory(), plan.registry_at, writes, State::Applied);
        });
    switch (switched) {
      case Switched::Done:
        outcome.verdict = Verdict::Busy;
        outcome.busy = busy;
        release_image(process, plan.registry.image, plan.registry.may_escape, outcome);
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
  } catch (const std::runtime_error& e) {  // Error, Refused
    outcome.notes.push_back(
        fmt::format("suspended contexts could not be looked for once more: {}", e.what()));
  }
}

void apply_plan(const proc::Process& process, const Plan& plan, const Options& options,
                Outcome& outcome) {
  std::vector<CodeWrite> writes = detour_writes(plan);
  fault_point("plan.done");
  Staged staged = Staged::stage(process, plan, options);
  fault_point("stage.done");
  ContextScan contexts(process, no_context_in(plan, options), plan.starts);
  Switched switched =
      switch_over(process, {no_thread_in(plan, options), old_code(plan), &contexts}, options,
                  outcome, [&](const proc::Frozen&) { commit(process.memory(), plan, writes); });
  switch (switched) {
    case Switched::Done:
      staged.keep();
      outcome.verdict = Verdict::Patched;
      look_once_more(process, plan, contexts, options, outcome);
      break;
    case Switched::Busy:
      outcome.verdict = Verdict::Busy;
      break;
    case Switched::Gone:
      staged.keep();
      outcome.verdict = Verdict::Gone;
      break;
  }
}

// A failure against a process that is gone is not a failure.
template <class Work>
Outcome guarded(pid_t pid, const std::string& patch_id, Work work) {
  std::optional<proc::Process> process;
  Outcome outcome{.pid = pid, .patch_id = patch_id};
  try {
    process = proc::Process::open(pid);
    outcome.program = process->program();
    work(*process, outcome);
  } catch (const Refused& r) {
    outcome.verdict = Verdict::Unpatchable;
    outcome.refusals = r.findings();
  } catch (const Error&) {
    if (!process || process->alive()) {
      throw;
    }
    outcome.verdict = Verdict::Gone;
  }
  return outcome;
}

}  // namespace

Outcome apply(pid_t pid, const format::Patch& patch, const Options& options) {
  return guarded(pid, patch.id(), [&](const proc::Process& process, Outcome& outcome) {
    outcome = begin(process, patch);
    ProcessLock lock(process, options.timeout);
    proc::demand_not_frozen(pid);
    if (is_applied(process, outcome.patch_id)) {
      outcome.verdict = Verdict::AlreadyApplied;
      return;
    }
    Report report;
    std::optional<Plan> plan = make_plan(process, patch, report);
    report.checkpoint();
    outcome.notes = report.warnings();
    apply_plan(process, *plan, options, outcome);
  });
}

Outcome check(pid_t pid, const format::Patch& patch, const Options& options) {
  return guarded(pid, patch.id(), [&](const proc::Process& process, Outcome& outcome) {
    outcome = begin(process, patch);
    ProcessLock lock(process, options.timeout);
    proc::demand_not_frozen(pid);
    if (is_applied(process, outcome.patch_id)) {
      outcome.verdict = Verdict::AlreadyApplied;
      return;
    }
    Report report;
    std::optional<Plan> plan = make_plan(process, patch, report);
    report.checkpoint();
    outcome.notes = report.warnings();
    ContextScan contexts(process, no_context_in(*plan, options), plan->starts);
    Switched switched =
        switch_over(process, {no_thread_in(*plan, options), old_code(*plan), &contexts}, options,
                    outcome, [](const proc::Frozen&) {});
    outcome.verdict = switched == Switched::Done   ? Verdict::Patchable
                      : switched == Switched::Busy ? Verdict::Busy
                                                   : Verdict::Gone;
  });
}

}  // namespace qp::apply
