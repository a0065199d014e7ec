// Can something outside of the image come to hold an address of it?
#pragma once

#include <set>

#include "elf/atom.h"

namespace qp::apply {

// The functions and variables of the new code and data whose addresses these hand out: by lea or an
// immediate in code, or by a pointer in data. Direct calls, jumps, loads and stores do not; addresses of
// read-only data (strings) do not count either, since a scan of memory finds those that matter. What
// can't be decoded hands out all that it refers to.
std::set<elf::AtomId> handed_out(const elf::AtomGraph& fresh);

}  // namespace qp::apply
