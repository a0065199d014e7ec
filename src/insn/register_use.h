// Which general registers an instruction needs and changes. For putting other instructions around it.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"

namespace qp::insn {

// Registers are numbered as in instructions: 0 rax, 1 rcx, 2 rdx, 3 rbx, 4 rsp, 5 rbp, 6 rsi, 7 rdi, 8
// to 15. A part of a register counts as the register.
struct RegisterUse {
  uint32_t read = 0, written = 0;  // bit masks, whether the instruction names them or not
  // Of a mov, movzx, movsx or movsxd from memory: the register that gets all of its bits from there.
  std::optional<uint8_t> loaded;
};

// Nullopt: not an instruction.
std::optional<RegisterUse> find_register_use(ByteView code, uint64_t offset);

}  // namespace qp::insn
