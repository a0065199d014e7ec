// Processes fork and start while others are worked on. A child that was forked from a patched process
// has the patch, registry included; one that was forked before has not, and one that was forked in
// between has half of it. So there are passes: each looks again for processes, and works on those
// that were not there before.
//
// When a pass changes nothing, all is done: whatever existed when its list was read was worked on, or
// was found to be as wanted; and whoever is made after that by one of these inherits it. Two things
// are not: a program that is started anew from its file, after the last look, and processes of one that
// could not be patched, which is named, and whose children each pass finds and names as well.
//
// Where nothing is changed, nothing settles, and who is made meanwhile is like the one that made it: one
// look is enough (Looks::Once).
//
// A process that calls exec is another one afterwards, though its number stays (proc::Running). What
// "exited meanwhile" may have done just that, and is looked at again.

#include "cli/passes.h"

#include <algorithm>
#include <map>

#include "base/report.h"

namespace qp::cli {
namespace {

using apply::Verdict;

// Programs that make processes faster than they can be patched would keep us for ever.
constexpr int kMostPasses = 16;

// Found as it was wanted: nothing had to be done, and its children are like it.
bool was_settled(const ProcessResult& r) {
  return !r.failure && (r.outcome.verdict == Verdict::AlreadyApplied ||
                        r.outcome.verdict == Verdict::NotApplied ||
                        r.outcome.verdict == Verdict::NothingToRecover);
}

}  // namespace

bool uses_target(const ProcessResult& r) {
  if (r.failure) {
    return true;
  }
  return r.outcome.verdict != Verdict::NotApplied &&
         r.outcome.verdict != Verdict::NothingToRecover &&
         (r.outcome.verdict != Verdict::Unpatchable ||
          r.outcome.refusals.front().id != "not-in-process" ||
          r.outcome.refusals.front().detail.find("another build") != std::string::npos);
}

ProcessResult work_on(pid_t pid, const std::function<apply::Outcome(pid_t)>& work) {
  ProcessResult r;
  r.outcome.pid = pid;
  try {
    r.outcome = work(pid);
  } catch (const Refused& e) {
    r.outcome.verdict = Verdict::Unpatchable;
    r.outcome.refusals = e.findings();
  } catch (const Error& e) {
    r.failure = e;
  } catch (const Bug& e) {  // ours; the other processes are none the worse for it
    r.failure = Error("internal", "working on", std::to_string(pid), e.what());
  }
  return r;
}

Results work_until_settled(
    const std::function<std::vector<proc::Running>(const std::set<proc::Running>& done)>& find,
    const std::function<apply::Outcome(pid_t)>& work, Looks looks) {
  std::set<proc::Running> done;
  std::map<pid_t, ProcessResult> by_pid;
  Results out;
  for (int pass = 0; pass < kMostPasses; ++pass) {
    out.unsettled.clear();
    for (const proc::Running& process : find(done)) {
      if (done.count(process) != 0) {
        continue;
      }
      ProcessResult r = work_on(process.pid, work);
      if (r.failure && r.failure->code() == "no-process") {
        continue;  // it exited between the search and the look
      }
      const bool gone = !r.failure && r.outcome.verdict == Verdict::Gone;
      if (!gone) {
        done.insert(process);
      }
      if (!uses_target(r)) {
        continue;
      }
      if (!was_settled(r)) {
        out.unsettled.push_back(process.pid);
      }
      // A process that exited and is still listed under its number is another one by now.
      by_pid.insert_or_assign(process.pid, std::move(r));
    }
    if (looks == Looks::Once) {
      out.unsettled.clear();
    }
    if (out.unsettled.empty()) {
      break;
    }
  }
  for (auto& [pid, result] : by_pid) {
    out.processes.push_back(std::move(result));
  }
  return out;
}

}  // namespace qp::cli
