// P1 in the process: the live code of what is replaced is the original's.
#pragma once

#include "base/report.h"
#include "format/patch.h"
#include "match/proof.h"
#include "proc/process.h"

namespace qp::apply {

// Proves each replaced function on live memory, and that everything it refers to is where the patch
// has it. `target`: the module as match sees it. Findings: code-differs, binding-conflict,
// text-modified, text-not-private.
void prove_live(const proc::Process& process, const proc::Module& module,
                const match::Target& target, const format::Patch& patch, Report& report);

}  // namespace qp::apply
