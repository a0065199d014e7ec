// Can something outside of the image come to hold an address of it?
#pragma once

#include "elf/atom.h"

namespace qp::apply {

// True if the new code or data hands out the address of one of its own functions or variables: by
// lea or an immediate in code, or by a pointer in data. Direct calls, jumps, loads and stores do
// not; addresses of read-only data (strings) do not count either, since a scan of memory finds
// those that matter. Answers true where it can't decode.
bool hands_out_addresses(const elf::AtomGraph& fresh);

}  // namespace qp::apply
