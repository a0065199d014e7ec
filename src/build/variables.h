// The variables that a patch adds, as a later patch that supersedes it will look for them.
#pragma once

#include <string>
#include <vector>

#include "base/report.h"
#include "elf/types_dwarf.h"
#include "format/patch.h"

namespace qp::build {

// The named writable ones of new code, without their types. Static locals by `declared_in`.
std::vector<format::Variable> find_variables(const elf::AtomGraph& fresh);

// What the debug information of a unit says of its types.
struct UnitTypes {
  std::string source;  // as in FILE symbols; "" for several units together
  elf::TypeTable table;
};

// Fills the types. `units`: those that the patch is made of.
void add_types(format::Patch& patch, const std::vector<UnitTypes>& units);

// Whether a process that has `superseded` can go over to `patch`. Finding: variable-changed.
void check_variables(const format::PatchFile& patch, const format::PatchFile& superseded,
                     Report& report);

}  // namespace qp::build
