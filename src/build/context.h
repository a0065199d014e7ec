// Units that no diff touches, compiled because they know where something is in a target without
// names.
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

// For units whose match left something open because the target has no names: finds other units of
// the database whose source mentions the globals in question, compiles their original, and matches
// all together. Replaces `matched` and the findings of units for which that helps. Returns what is
// known of globals then; empty for a target with names. What can't be compiled is left out, with a
// warning.
KnownGlobals match_in_context(std::vector<Analysis>& units, const TargetFile& target,
                              const ContextRequest& request, std::vector<std::string>& warnings);

}  // namespace qp::build
