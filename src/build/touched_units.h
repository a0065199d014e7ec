// The translation units whose text the diff changes.
#pragma once

#include <string>
#include <vector>

#include "build/build.h"
#include "build/command.h"
#include "build/patched_tree.h"

namespace qp::build {

struct TouchedUnit {
  Replay replay;
  std::string recorded_file;
};

struct TouchedUnits {
  std::vector<TouchedUnit> units;   // to be compiled; in the database's order
  std::vector<UnitResult> skipped;  // candidates whose text is the same, with the reason
  // Covers precompiled headers in both compilations: they hold the unpatched text.
  std::vector<BindMount> hidden;
  // Sources that the diff changes or adds and that no unit is made of, as the diff names them.
  std::vector<std::string> not_compiled;
};

// Touched headers that no unit reads are named in `warnings`. Throws what the compiler's failures
// throw.
TouchedUnits find_touched_units(const std::vector<CompileCommand>& commands, PatchedTree& tree,
                                int jobs, std::vector<std::string>& warnings);

}  // namespace qp::build
