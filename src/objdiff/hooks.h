// Hooks: functions of the patch that qpatch runs in the process.
#pragma once

#include "base/report.h"
#include "objdiff/diff.h"
#include "objdiff/sides.h"

namespace qp::objdiff {

// Fills diff.hooks; the units are known. Finding: hook-invalid.
void read_hooks(const Sides& sides, Diff& diff, Report& report);

}  // namespace qp::objdiff
