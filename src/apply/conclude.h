// How a transaction ends that was left by an exception.
#pragma once

#include <optional>

#include "apply/apply.h"
#include "proc/process.h"

namespace qp::apply {

// To be called in a catch clause. What was found out about a process that is gone by now counts for
// nothing, since it was read by number: the verdict is Gone, without refusals. Else findings (Refused)
// end in the outcome as Unpatchable, or NotApplied; anything else is thrown on. `process`: nullopt if it
// was not opened yet; then the failure is that.
void conclude(const std::optional<proc::Process>& process, Outcome& outcome);

}  // namespace qp::apply
