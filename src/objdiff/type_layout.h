// Do existing objects still look the way new code expects?
#pragma once

#include "base/report.h"
#include "elf/file.h"

namespace qp::objdiff {

// Refuses "type-layout" for each type that both objects know with another layout (where: its name),
// and "prototype-changed" for each external function whose parameters or result changed. A type
// that is new or gone is fine. Warns if an object has no debug information.
void compare_types(const elf::File& original, const elf::File& patched, Report& report);

}  // namespace qp::objdiff
