// What has to go into the patch, what stays bound to the program, and what can't be done.
#pragma once

#include "base/report.h"
#include "objdiff/contents.h"
#include "objdiff/diff.h"
#include "objdiff/sides.h"

namespace qp::objdiff {

// Fills included and bound of `diff`, whose units are known, and refuses what the patch would need
// and can't have.
void close_over(const Sides& sides, const Correlation& correlation, Contents& contents, Diff& diff,
                Report& report);

// State that exists in the process already: initial values, sizes, tables of code addresses. Looks
// at every correlated variable, needed by the patch or not.
void check_state(const Sides& sides, const Correlation& correlation, Contents& contents,
                 const Diff& diff, Report& report);

}  // namespace qp::objdiff
