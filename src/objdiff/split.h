// Splits an object file into atoms.
#pragma once

#include "base/report.h"
#include "elf/atom.h"
#include "elf/file.h"

namespace qp::objdiff {

// Every byte and relocation of every allocated section ends in exactly one atom (or FrameEntry, or
// is known linker metadata such as .note.gnu.property and .comment); what can't be split is refused
// in `report` (unknown relocation, TLS, COMDAT, IFUNC, .init_array, …), never skipped.
// The object must have been compiled with -ffunction-sections -fdata-sections (refusal
// "no-function-sections" where a text section holds more than one function and references between
// them were resolved by the assembler). Symbols whose name begins with ".L" (assembled with
// --keep-locals) bound anonymous data.
elf::AtomGraph split(const elf::File& object, Report& report);

}  // namespace qp::objdiff
