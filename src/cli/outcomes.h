// One operation on many processes: the loop, the table, the exit code.
#pragma once

#include <functional>
#include <string>

#include "base/error.h"
#include "cli/passes.h"
#include "cli/processes.h"

namespace qp::cli {

// "waits in futex at 0x7f…", or "runs".
std::string tell_wait(const apply::BusyThread& thread);

// Runs `work` on each process that is named, or on all that the search finds until no new one
// appears (passes.h).
Results for_each_process(const ProcessSelection& selection,
                         const std::function<apply::Outcome(pid_t)>& work,
                         Looks looks = Looks::UntilSettled);

// Table and summary (or JSON) to stdout, details of what went wrong to stderr. 0 if all went well
// (a process that exited meanwhile did); the common code if all failures have one; else 5. If new
// processes kept appearing, 4 instead of 0.
ExitCode report_results(const Results& results, bool json);

}  // namespace qp::cli
