// Whether code still looks at what a register holds.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace qp::insn {

// `reg`: 8 to 15, one of r8 to r15 that a function need not preserve. True if on every way from
// `offset` on the register is written whole before it is read, or the function returns. False where
// that is not seen: a way leaves `code`, jumps through a register, or makes a system call.
bool is_never_read(ByteView code, uint64_t offset, unsigned reg);

}  // namespace qp::insn
