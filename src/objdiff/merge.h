// Several objects that the linker will join, as one graph.
#pragma once

#include <vector>

#include "elf/atom.h"

namespace qp::objdiff {

// Globals that one defines and another refers to become one symbol; the sources' names are dropped.
// For the objects of one link, where each global is defined once.
elf::AtomGraph merge(std::vector<elf::AtomGraph> graphs);

}  // namespace qp::objdiff
