// The table of results, after the form that operators liked most in other systems: a line per
// process with what happened to it and the command that tells more, then one line of sums. Whoever
// is not patched is named with the reason; whoever has nothing to do with the target is not.

#include "cli/outcomes.h"

#include <algorithm>
#include <iostream>
#include <map>

#include <fmt/format.h>

#include "cli/duration.h"
#include "cli/messages.h"

namespace qp::cli {
namespace {

using apply::Outcome;
using apply::Verdict;

struct Told {
  std::string result, detail;
  ExitCode code = ExitCode::Done;
};

std::string functions(size_t n) {
  return fmt::format("{} function{}", n, n == 1 ? "" : "s");
}

Told tell_busy(const Outcome& o) {
  if (o.busy.empty()) {
    return {"busy", "a thread is inside", ExitCode::Busy};
  }
  const apply::BusyThread& b = o.busy.front();
  std::string more = o.busy.size() > 1 ? fmt::format(" and {} more", o.busy.size() - 1) : "";
  if (b.tid == 0) {  // a suspended context
    return {"busy", fmt::format("suspended inside {}: {}{}", b.function, b.reason, more),
            ExitCode::Busy};
  }
  return {"busy",
          fmt::format("thread {} ({}) in {}{}   qpatch stacks {} --pid {}", b.tid, b.name,
                      b.function, more, o.patch_id, o.pid),
          ExitCode::Busy};
}

Told tell_refused(const Outcome& o) {
  const Refusal& r = o.refusals.front();
  const RefusalKind& kind = refusal_kind(r.id);
  std::string more =
      o.refusals.size() > 1 ? fmt::format(" and {} more", o.refusals.size() - 1) : "";
  return {kind.exit_code == ExitCode::Busy ? "busy" : "unpatchable",
          fmt::format("{}: {}: {}{}   qpatch explain {}", r.id, r.where, r.detail, more, r.id),
          kind.exit_code};
}

// Applied or reverted as asked for; but a hook behind the switch did not do its part.
Told with_hooks(const Outcome& o, const std::string& result, const std::string& pause) {
  if (o.failed_hooks.empty()) {
    return {result, pause};
  }
  const Refusal& r = o.failed_hooks.front();
  return {result + ", hook failed",
          fmt::format("{}: {}: {}   qpatch explain {}", r.id, r.where, r.detail, r.id),
          ExitCode::Mixed};
}

Told tell(const ProcessResult& r) {
  if (r.failure) {
    return {"failed", fmt::format("{}: {}", r.failure->code(), r.failure->what()),
            r.failure->exit_code()};
  }
  const Outcome& o = r.outcome;
  const std::string place =
      o.superseded.empty() ? "" : fmt::format(", in place of {}", fmt::join(o.superseded, ", "));
  const std::string pause =
      fmt::format("{}, pause {}{}", functions(o.functions), format_duration(o.pause), place);
  switch (o.verdict) {
    case Verdict::Patched:
      return with_hooks(o, "patched", pause);
    case Verdict::Reverted:
      return with_hooks(o, "reverted", pause);
    case Verdict::Recovered:
      return {"recovered", o.functions == 0
                               ? "what an interrupted run left was removed"
                               : fmt::format("{} brought back", functions(o.functions))};
    case Verdict::NothingToRecover:
      return {"well", "nothing to recover"};
    case Verdict::AlreadyApplied:
      return {"applied already", functions(o.functions)};
    case Verdict::Patchable:
      return {"patchable", functions(o.functions) + place};
    case Verdict::Gone:
      return {"gone", "the process exited meanwhile, or became another program"};
    case Verdict::NotApplied:
      return {"not applied", "nothing to revert", refusal_kind("not-applied").exit_code};
    case Verdict::Busy:
      return tell_busy(o);
    case Verdict::Unpatchable:
      return tell_refused(o);
  }
  return {};
}

nlohmann::json busy_json(const std::vector<apply::BusyThread>& busy) {
  auto out = nlohmann::json::array();
  for (const apply::BusyThread& b : busy) {
    out.push_back({{"tid", b.tid},
                   {"name", b.name},
                   {"function", b.function},
                   {"reason", b.reason},
                   {"waits_for", b.waits_for},
                   {"seen", b.seen},
                   {"frames", b.frames}});
  }
  return out;
}

void print_details(const ProcessResult& r) {
  for (const std::string& note : r.outcome.notes) {
    std::cerr << fmt::format("qpatch: {}: {}\n", r.outcome.pid, note);
  }
  for (const auto* findings : {&r.outcome.refusals, &r.outcome.failed_hooks}) {
    if (!findings->empty()) {
      print_refusals(*findings);
    }
  }
  for (const apply::BusyThread& b : r.outcome.busy) {
    if (b.tid == 0) {
      std::cerr << fmt::format(
          "qpatch: {}: a suspended context in {}: {} (--consistency thread lets "
          "it finish old code)\n",
          r.outcome.pid, b.function, b.reason);
      continue;
    }
    std::cerr << fmt::format("qpatch: {}: thread {} ({}) in {}: {}; {} (seen {} time{})\n",
                             r.outcome.pid, b.tid, b.name, b.function, b.reason, tell_wait(b),
                             b.seen, b.seen == 1 ? "" : "s");
    for (const std::string& f : b.frames) {
      std::cerr << "    " << f << '\n';
    }
  }
}

void print_table(const std::vector<ProcessResult>& results) {
  size_t program = 7;
  size_t result = 6;
  for (const ProcessResult& r : results) {
    program = std::max(program, r.outcome.program.size());
    result = std::max(result, tell(r).result.size());
  }
  std::cout << fmt::format("{:<8}{:<{}}  {:<{}}  DETAIL\n", "PID", "PROGRAM", program, "RESULT",
                           result);
  std::map<std::string, int> sums;
  for (const ProcessResult& r : results) {
    Told told = tell(r);
    sums[told.result] += 1;
    std::cout << fmt::format("{:<8}{:<{}}  {:<{}}  {}\n", r.outcome.pid, r.outcome.program, program,
                             told.result, result, told.detail);
  }
  if (results.size() > 1) {
    std::string line;
    for (const auto& [name, count] : sums) {
      line += fmt::format("{}{} {}", line.empty() ? "" : ", ", name, count);
    }
    std::cout << line << '\n';
  }
}

void print_results_json(const Results& results) {
  auto processes = nlohmann::json::array();
  for (const ProcessResult& r : results.processes) {
    Told told = tell(r);
    const Outcome& o = r.outcome;
    processes.push_back({{"pid", o.pid},
                         {"program", o.program},
                         {"result", told.result},
                         {"detail", told.detail},
                         {"exit_code", static_cast<int>(told.code)},
                         {"patch", o.patch_id},
                         {"superseded", o.superseded},
                         {"functions", o.functions},
                         {"pause_ns", o.pause.count()},
                         {"longest_pause_ns", o.longest_pause.count()},
                         {"attempts", o.attempts},
                         {"refusals", to_json(o.refusals)},
                         {"failed_hooks", to_json(o.failed_hooks)},
                         {"busy", busy_json(o.busy)},
                         {"notes", o.notes}});
  }
  print_json({{"processes", std::move(processes)}, {"unsettled", results.unsettled}});
}

ExitCode combined_code(const std::vector<ProcessResult>& results) {
  ExitCode first = ExitCode::Done;
  bool some_well = false;
  bool differ = false;
  for (const ProcessResult& r : results) {
    ExitCode code = tell(r).code;
    if (code == ExitCode::Done) {
      some_well = true;
    } else if (first == ExitCode::Done) {
      first = code;
    } else if (code != first) {
      differ = true;
    }
  }
  return first != ExitCode::Done && (some_well || differ) ? ExitCode::Mixed : first;
}

}  // namespace

std::string tell_wait(const apply::BusyThread& thread) {
  return thread.waits_for.empty() ? "runs" : "waits in " + thread.waits_for;
}

Results for_each_process(const ProcessSelection& selection,
                         const std::function<Outcome(pid_t)>& work, Looks looks) {
  if (selection.by_search()) {
    selection.check_named();
    return work_until_settled([&](const auto& done) { return selection.search(done); }, work,
                              looks);
  }
  Results out;
  for (pid_t pid : selection.named()) {
    out.processes.push_back(work_on(pid, work));
  }
  return out;
}

ExitCode report_results(const Results& results, bool json) {
  ExitCode code = combined_code(results.processes);
  if (!results.unsettled.empty() && code == ExitCode::Done) {
    code = ExitCode::Busy;
  }
  if (json) {
    print_results_json(results);
    return code;
  }
  if (results.processes.empty()) {
    std::cerr << "qpatch: no process uses the target\n";
    return code;
  }
  print_table(results.processes);
  std::cout.flush();
  for (const ProcessResult& r : results.processes) {
    print_details(r);
  }
  if (!results.unsettled.empty()) {
    std::cerr << fmt::format(
        "qpatch: processes of the target kept appearing; the last look found {}. There may be "
        "more: "
        "run the command again.\n",
        fmt::join(results.unsettled, ", "));
  }
  return code;
}

}  // namespace qp::cli
