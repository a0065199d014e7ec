// Units that no diff touches, compiled because they know where something is in the target, where its
// names don't tell.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "build/analysis.h"
#include "build/compdb.h"
#include "build/patched_tree.h"

namespace qp::build {

struct ContextRequest {
  const std::vector<CompileCommand>& commands;
  const View& original;  // how the compiler sees the unpatched source
  int jobs = 0;
};

// For units whose match left something open because the target has no names, and for names that new
// code mentions first and that the target's symbols don't explain: finds other units of the database
// whose source mentions the globals in question, compiles their original, and matches them. Replaces
// `matched` and the findings of units for which that helps. Returns what is known of those names then.
// What can't be compiled is left out, with a warning. Findings in the units' reports: symbol-ambiguous,
// symbol-missing, for names that may be the target's own and whose place nothing shows.
KnownGlobals match_in_context(std::vector<Analysis>& units, const TargetFile& target,
                              const ContextRequest& request, std::vector<std::string>& warnings);

}  // namespace qp::build
