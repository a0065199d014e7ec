// Are two versions of a function the same?
#pragma once

#include <optional>

#include "objdiff/contents.h"
#include "objdiff/diff.h"
#include "objdiff/sides.h"

namespace qp::objdiff {

// Nullopt: they do the same, whatever the width of their jumps and their padding.
std::optional<Difference> compare_code(const Sides& sides, Contents& contents, elf::AtomId original,
                                       elf::AtomId patched);

// Same for unwind entries, given that the code is the same.
std::optional<Difference> compare_frames(const Sides& sides, Contents& contents,
                                         elf::AtomId original, elf::AtomId patched);

}  // namespace qp::objdiff
