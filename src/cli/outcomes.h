// One operation on many processes: the loop, the table, the exit code.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apply/apply.h"
#include "cli/processes.h"

namespace qp::cli {

struct ProcessResult {
  apply::Outcome outcome;
  std::optional<Error> failure;  // instead of a verdict
};

// Runs `work` on each process; a failure of one does not stop the others. Processes that were found
// by search and do not use the target are left out.
std::vector<ProcessResult> for_each_process(const ProcessSelection& selection,
                                            const std::function<apply::Outcome(pid_t)>& work);

// Table and summary (or JSON) to stdout, details of what went wrong to stderr. 0 if all went well
// (a process that exited meanwhile did); the common code if all failures have one; else 5.
ExitCode report_results(const std::vector<ProcessResult>& results, bool json);

}  // namespace qp::cli
