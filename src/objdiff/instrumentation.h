// What compilers add to a program for sanitizers, coverage and tracers.
#pragma once

#include "elf/atom.h"
#include "objdiff/sides.h"

namespace qp::objdiff {

// Of a unit compiled with -fsanitize=undefined.
bool is_sanitized(const elf::AtomGraph& graph);
// In such a unit: the description of a place that is checked.
bool describes_checked_place(const elf::Atom& atom, const elf::AtomSymbol& symbol);

// Places that can be patched (-fpatchable-function-entry), GCC's description of a unit for --coverage:
// for tools that look at the program, and no data of it.
bool is_for_tools(const elf::Atom& atom, const elf::AtomSymbol& symbol);

// Takes apart pairs of counters of --coverage that have another size.
void part_resized_counters(const Sides& sides, Correlation& correlation);

}  // namespace qp::objdiff
