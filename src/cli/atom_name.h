// How an atom is called in output.
#pragma once

#include <string>

#include "elf/atom.h"

namespace qp::cli {

// Its name; of a string, the beginning of its text in quotes, control characters escaped.
std::string display_name(const elf::AtomGraph& graph, elf::AtomId id);

}  // namespace qp::cli
