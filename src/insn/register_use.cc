// An instruction that gets a neighbour needs a register for it: one that it neither reads nor writes,
// also not silently (mul writes rdx, cmpxchg reads rax). A register of which a part is written keeps
// the rest, and so is read as well; one that is written under a condition too. A 32-bit part is an
// exception, since its upper half becomes zero (Intel SDM volume 1, 3.4.1.1).

#include "insn/register_use.h"

#include "insn/decoded.h"

namespace qp::insn {
namespace {

std::optional<uint8_t> number_of(ZydisRegister reg) {
  const ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
  if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15) {
    return std::nullopt;
  }
  return static_cast<uint8_t>(whole - ZYDIS_REGISTER_RAX);
}

bool is_whole(ZydisRegister reg) {
  return (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D) ||
         (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15);
}

bool is_load(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_MOV || mnemonic == ZYDIS_MNEMONIC_MOVZX ||
         mnemonic == ZYDIS_MNEMONIC_MOVSX || mnemonic == ZYDIS_MNEMONIC_MOVSXD;
}

}  // namespace

std::optional<RegisterUse> find_register_use(ByteView code, uint64_t offset) {
  Decoded decoded;
  if (!decode_raw(code, offset, decoded)) {
    return std::nullopt;
  }
  const auto& [instruction, operands] = decoded;
  RegisterUse out;
  const auto reads = [&](ZydisRegister reg) {
    if (const auto number = number_of(reg)) {
      out.read |= uint32_t{1} << *number;
    }
  };
  for (size_t i = 0; i < instruction.operand_count; ++i) {
    const ZydisDecodedOperand& op = operands[i];
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      reads(op.mem.base);
      reads(op.mem.index);
    } else if (op.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      const bool written = (op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
      const auto number = number_of(op.reg.value);
      if (written && number) {
        out.written |= uint32_t{1} << *number;
      }
      if (!written || !is_whole(op.reg.value) || op.actions != ZYDIS_OPERAND_ACTION_WRITE) {
        reads(op.reg.value);
      }
    }
  }
  if (is_load(instruction.mnemonic) && operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
      is_whole(operands[0].reg.value) && operands[1].type == ZYDIS_OPERAND_TYPE_MEMORY) {
    out.loaded = number_of(operands[0].reg.value);
  }
  return out;
}

}  // namespace qp::insn
