// Decoded instructions, reduced to what the diff and the proof need. The only user of Zydis; it
// knows AVX-512 and AMX, which Capstone 4 misreads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"

namespace qp::insn {

enum class Flow : uint8_t {
  Next,          // falls through
  Call,          // call rel/indirect: falls through
  Jump,          // unconditional direct jmp
  Branch,        // conditional direct jump, loop, jrcxz, xbegin
  IndirectJump,  // jmp reg/mem
  Return,
  Stop,  // ud2, hlt, int3
};

// A field of the instruction that holds a displacement or an immediate.
struct Field {
  uint8_t offset = 0;  // from the start of the instruction
  uint8_t size = 0;    // bytes; 0: there is none
  int64_t value = 0;   // sign-extended
  bool operator==(const Field&) const = default;
};

struct Instruction {
  uint8_t length = 0;
  Flow flow = Flow::Next;
  bool is_nop = false;  // multi-byte NOP forms; not endbr64, not pause
  bool is_endbr64 = false;
  bool is_call = false;        // direct or indirect call
  bool rip_relative = false;   // memory operand is disp(%rip)
  bool direct_access = false;  // reads or writes memory at disp(%rip) or an absolute address,
                               // without registers: the access starts exactly there. Not LEA.
  uint16_t operation = 0;      // Zydis mnemonic; equal for all widths of a jump
  Field displacement;          // of the memory operand
  Field immediate;             // first immediate that is not a branch distance
  Field immediate2;            // ENTER, EXTRQ, INSERTQ
  Field branch;                // distance of a direct jump/call, relative to the end
  // Direct branches: offset of the target from the start of this instruction.
  std::optional<int64_t> branch_target() const {
    return branch.size == 0 ? std::nullopt : std::optional<int64_t>(length + branch.value);
  }
};

// Decodes one 64-bit mode instruction at `offset`. Nullopt: not an instruction, or cut off.
std::optional<Instruction> decode(ByteView code, uint64_t offset);

// Bytes of padding at `offset`: one NOP, int3 or zero, which nobody executes between functions. 0: it
// is none.
uint64_t padding_at(ByteView code, uint64_t offset);

// "mov $0x1,%eax" in AT&T syntax, addresses of branches/rip operands computed with `address` as the
// address of the instruction.
std::string format(ByteView code, uint64_t offset, uint64_t address);

// What the instruction does, apart from displacement, immediates and branch distance: operation,
// prefixes, registers, addressing form, operand sizes. Two instructions with equal shapes differ at
// most in the values of their fields. disp8 and disp32 encodings of the same address have the same
// shape; jmp rel8 and rel32 too.
struct Shape {
  uint8_t bytes[24] = {};
  uint8_t size = 0;
  bool operator==(const Shape&) const = default;
};
Shape shape_of(ByteView code, uint64_t offset, const Instruction& instruction);

// Both at the price of one decoding.
struct ShapedInstruction {
  Instruction instruction;
  Shape shape;
};
std::optional<ShapedInstruction> decode_shaped(ByteView code, uint64_t offset);

}  // namespace qp::insn
