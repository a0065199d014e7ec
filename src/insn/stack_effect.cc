// Compilers move the stack pointer in a handful of ways: push and pop, add, sub and lea with a
// constant, leave, and mov or lea from the frame pointer. Everything else that writes to it
// (alignment to more than 16 bytes, alloca, a switch of stacks) is said to be unknown, and whoever
// follows the code stops there.
//
// Of the other registers it matters only whether they change, and whether one gets back what was
// saved on the stack. The number in rax says which system call a `syscall` is: some never return.

#include "insn/stack_effect.h"

#include <array>

#include "insn/decoded.h"

namespace qp::insn {
namespace {

constexpr uint8_t kNone = 0xff, kRsp = 7, kRbp = 6, kRax = 0;

// DWARF number of the register that this one is, or is a part of.
uint8_t number_of(ZydisRegister reg) {
  constexpr std::array<uint8_t, 16> kByCode = {0, 2, 1,  3,  7,  6,  4,  5,
                                               8, 9, 10, 11, 12, 13, 14, 15};
  const ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
  if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15) {
    return kNone;
  }
  return kByCode[static_cast<size_t>(whole - ZYDIS_REGISTER_RAX)];
}

bool is_whole(ZydisRegister reg) {
  return reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15;
}

// disp(%rsp) or disp(%rbp), nothing else.
bool is_on_stack(const ZydisDecodedOperand& op) {
  return op.type == ZYDIS_OPERAND_TYPE_MEMORY && op.mem.index == ZYDIS_REGISTER_NONE &&
         (op.mem.segment == ZYDIS_REGISTER_SS) &&
         (op.mem.base == ZYDIS_REGISTER_RSP || op.mem.base == ZYDIS_REGISTER_RBP);
}

class Reading {
 public:
  Reading(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands)
      : i_(instruction), ops_(operands) {}

  StackEffect read() {
    bool moves = false;
    for (size_t n = 0; n < i_.operand_count; ++n) {
      const ZydisDecodedOperand& op = ops_[n];
      if (op.type != ZYDIS_OPERAND_TYPE_REGISTER ||
          (op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) == 0) {
        continue;
      }
      const uint8_t number = number_of(op.reg.value);
      moves |= number == kRsp;
      if (number != kNone && number != kRsp) {
        out_.written |= uint32_t{1} << number;
      }
    }
    if (moves) {
      read_move();
    }
    read_load();
    read_store();
    read_number();
    out_.is_syscall = i_.mnemonic == ZYDIS_MNEMONIC_SYSCALL;
    const bool jumps = i_.mnemonic == ZYDIS_MNEMONIC_JMP || i_.mnemonic == ZYDIS_MNEMONIC_CALL;
    if (jumps && ops_[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
        ops_[0].mem.base == ZYDIS_REGISTER_RIP) {
      out_.through = i_.length + ops_[0].mem.disp.value;
    }
    return out_;
  }

 private:
  bool is_immediate(size_t n) const { return ops_[n].type == ZYDIS_OPERAND_TYPE_IMMEDIATE; }
  bool is_register(size_t n, ZydisRegister reg) const {
    return ops_[n].type == ZYDIS_OPERAND_TYPE_REGISTER && ops_[n].reg.value == reg;
  }

  void read_move() {
    const bool whole = i_.operand_width == 64;
    switch (i_.mnemonic) {
      case ZYDIS_MNEMONIC_CALL:
      case ZYDIS_MNEMONIC_RET:
        return;
      case ZYDIS_MNEMONIC_PUSH:
      case ZYDIS_MNEMONIC_PUSHFQ:
        out_.known = whole;
        out_.delta = -8;
        return;
      case ZYDIS_MNEMONIC_POP:
      case ZYDIS_MNEMONIC_POPFQ:
        out_.known = whole && !is_register(0, ZYDIS_REGISTER_RSP);
        out_.delta = 8;
        return;
      case ZYDIS_MNEMONIC_LEAVE:
        out_.known = whole;
        out_.from_frame = true;
        out_.delta = 8;
        return;
      case ZYDIS_MNEMONIC_ADD:
      case ZYDIS_MNEMONIC_SUB:
        out_.known = is_register(0, ZYDIS_REGISTER_RSP) && is_immediate(1);
        out_.delta = i_.mnemonic == ZYDIS_MNEMONIC_ADD ? ops_[1].imm.value.s : -ops_[1].imm.value.s;
        return;
      case ZYDIS_MNEMONIC_LEA:
        out_.known = is_register(0, ZYDIS_REGISTER_RSP) && is_frame_address(ops_[1]);
        out_.from_frame = ops_[1].mem.base == ZYDIS_REGISTER_RBP;
        out_.delta = ops_[1].mem.disp.value;
        return;
      case ZYDIS_MNEMONIC_MOV:
        out_.known = is_register(0, ZYDIS_REGISTER_RSP) && is_register(1, ZYDIS_REGISTER_RBP);
        out_.from_frame = true;
        return;
      default:
        out_.known = false;
    }
  }

  static bool is_frame_address(const ZydisDecodedOperand& op) {
    return op.mem.index == ZYDIS_REGISTER_NONE &&
           (op.mem.base == ZYDIS_REGISTER_RSP || op.mem.base == ZYDIS_REGISTER_RBP);
  }

  void read_load() {
    if (i_.mnemonic == ZYDIS_MNEMONIC_LEAVE) {
      out_.load = {kRbp, true, 0};
    } else if (ops_[0].type != ZYDIS_OPERAND_TYPE_REGISTER || !is_whole(ops_[0].reg.value) ||
               is_register(0, ZYDIS_REGISTER_RSP)) {
      return;
    } else if (i_.mnemonic == ZYDIS_MNEMONIC_POP) {
      out_.load = {number_of(ops_[0].reg.value), false, 0};
    } else if (i_.mnemonic == ZYDIS_MNEMONIC_MOV && is_on_stack(ops_[1])) {
      out_.load = {number_of(ops_[0].reg.value), ops_[1].mem.base == ZYDIS_REGISTER_RBP,
                   ops_[1].mem.disp.value};
    }
  }

  void read_store() {
    if (i_.mnemonic == ZYDIS_MNEMONIC_PUSH) {
      out_.store = {false, -8, 8};
      return;
    }
    for (size_t n = 0; n < i_.operand_count; ++n) {
      if (is_on_stack(ops_[n]) && (ops_[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0) {
        out_.store = {ops_[n].mem.base == ZYDIS_REGISTER_RBP, ops_[n].mem.disp.value,
                      uint64_t{ops_[n].size} / 8};
      }
    }
    if (!is_register(0, ZYDIS_REGISTER_RBP)) {
      return;
    }
    if (i_.mnemonic == ZYDIS_MNEMONIC_MOV && is_register(1, ZYDIS_REGISTER_RSP)) {
      out_.frame_at = 0;
    } else if (i_.mnemonic == ZYDIS_MNEMONIC_LEA && is_frame_address(ops_[1]) &&
               ops_[1].mem.base == ZYDIS_REGISTER_RSP) {
      out_.frame_at = ops_[1].mem.disp.value;
    }
  }

  void read_number() {
    if (ops_[0].type != ZYDIS_OPERAND_TYPE_REGISTER || number_of(ops_[0].reg.value) != kRax) {
      return;
    }
    const unsigned width = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, ops_[0].reg.value);
    if (i_.mnemonic == ZYDIS_MNEMONIC_MOV && is_immediate(1)) {
      if (width >= 32) {
        out_.rax = width == 32 ? ops_[1].imm.value.u & 0xffffffff : ops_[1].imm.value.u;
      } else if (is_register(0, ZYDIS_REGISTER_AL)) {
        out_.al = ops_[1].imm.value.u & 0xff;
      }
    } else if (i_.mnemonic == ZYDIS_MNEMONIC_XOR && width >= 32 &&
               is_register(1, ops_[0].reg.value)) {
      out_.rax = 0;
    }
  }

  const ZydisDecodedInstruction& i_;
  const ZydisDecodedOperand* ops_;
  StackEffect out_;
};

}  // namespace

std::optional<StackEffect> stack_effect(ByteView code, uint64_t offset) {
  Decoded decoded;
  if (!decode_raw(code, offset, decoded)) {
    return std::nullopt;
  }
  return Reading(decoded.instruction, decoded.operands.data()).read();
}

}  // namespace qp::insn
