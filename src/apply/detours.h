// The jumps at the entries of the replaced functions of a process.
#pragma once

#include "apply/plan.h"
#include "match/proof.h"

namespace qp::apply {

// Fills `detours`, `old_code`, `starts` and `unsafe` of the plan of a part whose image is linked.
// `target`: its code as it is without `superseded`. Findings: function-short, reloc-range,
// call-at-entry.
void plan_detours(const proc::Process& process, const match::Target& target,
                  const Superseded& superseded, const format::Patch& patch, PartPlan& plan,
                  Report& report);

}  // namespace qp::apply
