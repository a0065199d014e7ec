// The decoder, for this module alone: all others know Instruction and what is derived from it.
#pragma once

#include <array>
#include <cstdint>

#include <Zydis/Zydis.h>

#include "base/bytes.h"

namespace qp::insn {

struct Decoded {
  ZydisDecodedInstruction instruction;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT>
      operands;  // operand_count of them are set
};

// Of 64-bit code. False: there is no whole instruction at `offset`.
bool decode_raw(ByteView code, uint64_t offset, Decoded& out);

}  // namespace qp::insn
