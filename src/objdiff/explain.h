// Words for what the diff found.
#pragma once

#include <string>

#include "objdiff/sides.h"

namespace qp::objdiff {

// "f", "f.cold", "\"bad %d\\n\"", "8 bytes of .rodata.cst8": what a user would recognise.
std::string describe_atom(const Side& side, elf::AtomId id);
// "call puts", "lea \"hi\",%rdi": the instruction at `at` of code atom `id`, symbols resolved.
std::string describe_instruction(const Side& side, elf::AtomId id, uint64_t at);
// "g", "tab+8", "\"hi\"": where a reference leads.
std::string describe_target(const Side& side, elf::AtomId container, const elf::Ref& ref);

}  // namespace qp::objdiff
