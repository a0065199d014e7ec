// One operation on many processes, until no new one appears.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "apply/apply.h"
#include "base/error.h"
#include "proc/process.h"

namespace qp::cli {

struct ProcessResult {
  apply::Outcome outcome;
  std::optional<Error> failure;  // instead of a verdict
};

struct Results {
  std::vector<ProcessResult> processes;  // by PID
  // Processes of the target that the last pass found, because new ones kept appearing; more may be
  // there. Empty: settled.
  std::vector<pid_t> unsettled;
};

// UntilSettled: again and again, until a look finds no process that is not as wanted already.
enum class Looks : uint8_t { UntilSettled, Once };

// Whether the process has anything to do with the target, or the patch.
bool uses_target(const ProcessResult& result);

// `find` lists the candidates, given those that were worked on; `work` throws as apply::apply().
// A failure of one process does not stop the others. Processes that do not use the target are left
// out.
Results work_until_settled(
    const std::function<std::vector<proc::Running>(const std::set<proc::Running>& done)>& find,
    const std::function<apply::Outcome(pid_t)>& work, Looks looks = Looks::UntilSettled);

// The same for one process.
ProcessResult work_on(pid_t pid, const std::function<apply::Outcome(pid_t)>& work);

}  // namespace qp::cli
