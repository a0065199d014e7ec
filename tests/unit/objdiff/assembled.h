// Objects from assembly, so that a test says exactly which bytes and relocations it is about.
#pragma once

#include <string>

#include "base/report.h"
#include "elf/atom.h"
#include "elf/file.h"

namespace qp::objdiff {

elf::File assemble(const std::string& text);  // GNU as, local labels kept
elf::AtomGraph split_text(const std::string& text, Report& report);
elf::AtomId find(const elf::AtomGraph& graph, const std::string& name);  // Bug if there is none

}  // namespace qp::objdiff
