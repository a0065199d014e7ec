// The question of every register allocator, asked of code that it has left behind: is the value in
// this register still wanted? All ways from one place are followed, in a small window of code, until
// each has an end.
//
// What ends a way: a write of the whole register (a write of 32 bits clears the rest; one of 8 or 16
// bits, a conditional one, and `xor` of it with itself count as reads), a return, and code that ends
// the program. A caller does not expect to find anything in a register that is not preserved and
// hands back no result (psABI figure 3.4). A call is no end: compilers know which registers a
// function of the same file leaves alone, and keep values there (GCC's -fipa-ra). It is no read
// either, since the registers are not those of arguments, or would have to be loaded first.
//
// A system call takes r8, r9 and r10 as arguments, and which of them only its number tells: a read.

#include "insn/liveness.h"

#include <vector>

#include "base/error.h"
#include "insn/decoded.h"
#include "insn/instruction.h"

namespace qp::insn {
namespace {

enum class Use : uint8_t { None, Written, Read };

bool holds(ZydisRegister part, ZydisRegister whole) {
  return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, part) == whole;
}

Use use_of(ByteView code, uint64_t offset, ZydisRegister whole) {
  Decoded decoded;
  if (!decode_raw(code, offset, decoded)) {
    return Use::Read;
  }
  const ZydisDecodedInstruction& instruction = decoded.instruction;
  if (instruction.mnemonic == ZYDIS_MNEMONIC_SYSCALL ||
      instruction.mnemonic == ZYDIS_MNEMONIC_SYSENTER ||
      instruction.mnemonic == ZYDIS_MNEMONIC_INT) {
    return Use::Read;
  }
  Use use = Use::None;
  for (size_t n = 0; n < instruction.operand_count; ++n) {
    const ZydisDecodedOperand& op = decoded.operands[n];
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY &&
        (holds(op.mem.base, whole) || holds(op.mem.index, whole))) {
      return Use::Read;
    }
    if (op.type != ZYDIS_OPERAND_TYPE_REGISTER || !holds(op.reg.value, whole)) {
      continue;
    }
    if (op.actions != ZYDIS_OPERAND_ACTION_WRITE || op.size < 32) {
      return Use::Read;
    }
    use = Use::Written;
  }
  return use;
}

}  // namespace

bool is_never_read(ByteView code, uint64_t offset, unsigned reg) {
  QP_ASSERT(reg >= 8 && reg <= 15);
  const auto whole = static_cast<ZydisRegister>(ZYDIS_REGISTER_R8 + (reg - 8));
  std::vector<bool> seen(code.size());
  std::vector<uint64_t> ways = {offset};
  while (!ways.empty()) {
    const uint64_t at = ways.back();
    ways.pop_back();
    if (at >= code.size()) {
      return false;
    }
    if (seen[at]) {
      continue;
    }
    seen[at] = true;
    const auto instruction = decode(code, at);
    const Use use = instruction ? use_of(code, at, whole) : Use::Read;
    if (use == Use::Read || instruction->flow == Flow::IndirectJump) {
      return false;
    }
    if (use == Use::Written || instruction->flow == Flow::Return ||
        instruction->flow == Flow::Stop) {
      continue;
    }
    if (instruction->flow == Flow::Jump || instruction->flow == Flow::Branch) {
      // A target before the window is a huge number, and out of it.
      ways.push_back(at + static_cast<uint64_t>(*instruction->branch_target()));
    }
    if (instruction->flow != Flow::Jump) {
      ways.push_back(at + instruction->length);
    }
  }
  return true;
}

}  // namespace qp::insn
