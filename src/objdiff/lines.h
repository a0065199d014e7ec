// Source lines for what the diff found.
#pragma once

#include "elf/file.h"
#include "objdiff/diff.h"

namespace qp::objdiff {

// Fills the lines of every first difference, from the debug information of the two objects that
// `diff` was made from. What is not known stays empty.
void add_lines(Diff& diff, const elf::File& original, const elf::File& patched);

}  // namespace qp::objdiff
