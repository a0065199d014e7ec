// Functions that share a section, as in assembly: what the assembler did between them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/report.h"
#include "elf/atom.h"

namespace qp::objdiff {

// Where an atom lies in its section.
struct Placed {
  uint64_t start, end;
  elf::AtomId atom;
};

// `section`: the code atoms of one section, by start. Branches and rip-relative addresses from one
// to another that the assembler resolved become references (PC32, PC8), as if each function had a
// section of its own; atoms at whose end execution runs on are marked (Atom::runs_on). Refuses
// "no-function-sections" for what leads to no atom.
void take_apart(elf::AtomGraph& graph, const std::vector<Placed>& section, std::string_view name,
                Report& report);

}  // namespace qp::objdiff
