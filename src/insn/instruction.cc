// Instructions, reduced to a shape and a few fields.
//
// The diff and the proof both ask one question: do these two instructions do the same, apart from
// numbers that a relocation or the layout of the function decides? Comparing bytes under a mask
// would answer it wrongly in both directions. The assembler picks rel8 or rel32 by distance and
// disp8 or disp32 by value, so equal instructions have different bytes; and AVX-512 stores
// displacements divided by the operand size, so equal displacement bytes mean different addresses.
//
// So an instruction is taken apart once. Its displacement, immediates and branch distance become
// Fields: where they are, how wide they are, and what they mean (sign-extended, displacement
// scaled). Everything else becomes a Shape, a short canonical byte string:
//
//   encoding, opcode map, opcode, prefixes as a set, REX or VEX/EVEX/XOP payload, then either the
//   registers of ModRM or the form of the memory operand with ModRM.mod and the width of the
//   displacement taken out.
//
// Promise: equal shapes and equal field values mean equal behaviour. The other way round it is
// only promised for what one assembler does with one instruction in two places: widths of jumps,
// displacements and sign-extended immediates. Encodings that no assembler mixes (VEX2 and VEX3,
// `add %eax,%ebx` in its two forms) may come out as different; that costs a needless replacement,
// never a missed one.
//
// Sources: Intel SDM volume 2, chapter 2 (formats, disp8*N in 2.7.5); Zydis 4.0 DecoderTypes.h.

#include "insn/instruction.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>

#include "base/error.h"
#include "insn/decoded.h"

namespace qp::insn {
namespace {

// A conditional or unconditional jump whose distance is an immediate.
Flow flow_of(const ZydisDecodedInstruction& i, bool relative) {
  switch (i.mnemonic) {
    case ZYDIS_MNEMONIC_CALL:
      return Flow::Call;
    case ZYDIS_MNEMONIC_JMP:
      return relative ? Flow::Jump : Flow::IndirectJump;
    case ZYDIS_MNEMONIC_RET:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_SYSRET:
    case ZYDIS_MNEMONIC_SYSEXIT:
    case ZYDIS_MNEMONIC_UIRET:
      return Flow::Return;
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_INT3:
      return Flow::Stop;
    default:
      return relative ? Flow::Branch : Flow::Next;
  }
}

// 0f 1f /0 and 90 with any prefixes but REP (pause). The other hint NOPs (0f 18 – 0f 1e) carry
// meaning for some processors (prefetch, endbr, rdssp) and are compared like real instructions.
bool is_nop(const ZydisDecodedInstruction& i) {
  if (i.mnemonic != ZYDIS_MNEMONIC_NOP) {
    return false;
  }
  return i.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT ||
         (i.opcode_map == ZYDIS_OPCODE_MAP_0F && i.opcode == 0x1f);
}

int64_t sign_extend(uint64_t value, unsigned bytes) {
  unsigned shift = 64 - 8 * bytes;
  return static_cast<int64_t>(value << shift) >> shift;
}

// The displacement as it takes part in the address: disp8*N is scaled by now.
int64_t displacement_value(const Decoded& d) {
  for (size_t n = 0; n < d.instruction.operand_count; ++n) {
    const ZydisDecodedOperand& op = d.operands[n];
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY && op.visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
        op.mem.disp.has_displacement) {
      return op.mem.disp.value;
    }
  }
  return d.instruction.raw.disp.value;
}

bool is_rip_relative(const Decoded& d) {
  for (size_t n = 0; n < d.instruction.operand_count; ++n) {
    const ZydisDecodedOperand& op = d.operands[n];
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY &&
        (op.mem.base == ZYDIS_REGISTER_RIP || op.mem.base == ZYDIS_REGISTER_EIP)) {
      return true;
    }
  }
  return false;
}

// A load or store at one fixed place. LEA only makes an address, which can be the end of something
// or be indexed later.
bool is_direct_access(const Decoded& d) {
  for (size_t n = 0; n < d.instruction.operand_count; ++n) {
    const ZydisDecodedOperand& op = d.operands[n];
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY && op.visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
        op.mem.type == ZYDIS_MEMOP_TYPE_MEM && op.mem.disp.has_displacement) {
      bool fixed = op.mem.base == ZYDIS_REGISTER_RIP || op.mem.base == ZYDIS_REGISTER_NONE;
      return fixed && op.mem.index == ZYDIS_REGISTER_NONE;
    }
  }
  return false;
}

Instruction reduce(const Decoded& d) {
  const ZydisDecodedInstruction& i = d.instruction;
  Instruction out;
  out.length = i.length;
  out.operation = static_cast<uint16_t>(i.mnemonic);
  if (i.raw.disp.size != 0) {
    out.displacement = {i.raw.disp.offset, static_cast<uint8_t>(i.raw.disp.size / 8),
                        displacement_value(d)};
  }
  for (const auto& imm : i.raw.imm) {
    if (imm.size == 0) {
      continue;
    }
    auto size = static_cast<uint8_t>(imm.size / 8);
    Field field{imm.offset, size, sign_extend(imm.value.u, size)};
    if (imm.is_relative) {
      out.branch = field;
    } else if (out.immediate.size == 0) {
      out.immediate = field;
    } else {
      out.immediate2 = field;
    }
  }
  out.flow = flow_of(i, out.branch.size != 0);
  out.is_nop = is_nop(i);
  out.is_endbr64 = i.mnemonic == ZYDIS_MNEMONIC_ENDBR64;
  out.is_call = i.mnemonic == ZYDIS_MNEMONIC_CALL;
  out.rip_relative = is_rip_relative(d);
  out.direct_access = is_direct_access(d);
  return out;
}

class ShapeWriter {
 public:
  void put(std::initializer_list<unsigned> bytes) {
    for (unsigned b : bytes) {
      QP_ASSERT(shape_.size < sizeof shape_.bytes);
      shape_.bytes[shape_.size++] = static_cast<uint8_t>(b);
    }
  }
  Shape take() const { return shape_; }

 private:
  Shape shape_;
};

// Legacy prefixes as a set: order and repetition do not matter to the processor, except that of two
// in one group (REP/REPNE, segments) the last one counts. A REX that is not the last prefix is
// ignored by it, and is kept here as one bit.
unsigned prefix_set(const ZydisDecodedInstruction& i) {
  static constexpr std::array<uint8_t, 11> known = {0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e,
                                                    0x26, 0x64, 0x65, 0x66, 0x67};
  unsigned set = 0, last_rep = 0, last_segment = 0;
  for (unsigned n = 0; n < i.raw.prefix_count; ++n) {
    uint8_t value = i.raw.prefixes[n].value;
    auto it = std::find(known.begin(), known.end(), value);
    if (it != known.end()) {
      auto index = static_cast<unsigned>(it - known.begin());
      set |= 1u << index;
      if (index == 1 || index == 2) {
        last_rep = index - 1;
      } else if (index >= 3 && index <= 8) {
        last_segment = index - 2;
      }
    } else if (n + 1u < i.raw.prefix_count) {
      set |= 1u << known.size();
    }
  }
  return set | last_rep << 12 | last_segment << 13;
}

void put_extension(ShapeWriter& out, const ZydisDecodedInstruction& i) {
  switch (i.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_VEX: {
      const auto& v = i.raw.vex;
      out.put({static_cast<unsigned>(v.R << 4 | v.X << 3 | v.B << 2 | v.W << 1 | v.L),
               static_cast<unsigned>(v.vvvv << 2 | v.pp), v.m_mmmm});
      break;
    }
    case ZYDIS_INSTRUCTION_ENCODING_XOP: {
      const auto& v = i.raw.xop;
      out.put({static_cast<unsigned>(v.R << 4 | v.X << 3 | v.B << 2 | v.W << 1 | v.L),
               static_cast<unsigned>(v.vvvv << 2 | v.pp), v.m_mmmm});
      break;
    }
    case ZYDIS_INSTRUCTION_ENCODING_EVEX: {
      const auto& v = i.raw.evex;
      out.put({static_cast<unsigned>(v.R << 5 | v.X << 4 | v.B << 3 | v.R2 << 2 | v.W << 1 | v.z),
               static_cast<unsigned>(v.vvvv << 3 | v.V2 << 2 | v.pp), v.mmm,
               static_cast<unsigned>(v.L2 << 5 | v.L << 4 | v.b << 3 | v.aaa)});
      break;
    }
    default: {
      // 0x40 (REX without a bit set) is not the same as no REX: it selects %spl over %ah.
      const auto& r = i.raw.rex;
      bool present = (i.attributes & ZYDIS_ATTRIB_HAS_REX) != 0;
      out.put({static_cast<unsigned>(present << 4 | r.W << 3 | r.R << 2 | r.X << 1 | r.B)});
      break;
    }
  }
}

enum AddressForm : uint8_t { kRegister, kBase, kRip, kSib, kSibNoBase };

void put_operand_form(ShapeWriter& out, const ZydisDecodedInstruction& i) {
  const auto& m = i.raw.modrm;
  if (m.mod == 3) {
    out.put({kRegister, static_cast<unsigned>(m.reg << 3 | m.rm)});
    return;
  }
  if (m.rm != 4) {
    unsigned form = m.mod == 0 && m.rm == 5 ? kRip : kBase;
    out.put({form, static_cast<unsigned>(m.reg << 3 | m.rm)});
    return;
  }
  const auto& s = i.raw.sib;
  unsigned form = m.mod == 0 && s.base == 5 ? kSibNoBase : kSib;
  out.put({form, static_cast<unsigned>(m.reg << 3 | m.rm),
           static_cast<unsigned>(s.scale << 6 | s.index << 3 | s.base)});
}

// Forms whose only difference is that the immediate is a sign-extended byte.
unsigned wide_opcode(const ZydisDecodedInstruction& i) {
  if (i.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && i.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) {
    switch (i.opcode) {
      case 0x83:  // op $imm8,r/m  →  81
        return 0x81;
      case 0x6b:  // imul $imm8,r/m,r  →  69
        return 0x69;
      case 0x6a:  // push $imm8  →  68
        return 0x68;
      default:
        break;
    }
  }
  return i.opcode;
}

Shape shape(const Decoded& d, const Instruction& reduced) {
  const ZydisDecodedInstruction& i = d.instruction;
  ShapeWriter out;
  unsigned prefixes = prefix_set(i);
  if (reduced.branch.size != 0) {
    // A tag that no encoding has, so that rel8 and rel32 opcodes fall together.
    out.put({0xff, i.mnemonic & 0xffu, static_cast<unsigned>(i.mnemonic) >> 8});
  } else {
    out.put(
        {static_cast<unsigned>(i.encoding), static_cast<unsigned>(i.opcode_map), wide_opcode(i)});
  }
  out.put({prefixes & 0xff, prefixes >> 8});
  put_extension(out, i);
  if ((i.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0) {
    put_operand_form(out, i);
  }
  return out.take();
}

const ZydisFormatter& formatter() {
  static const ZydisFormatter instance = [] {
    ZydisFormatter f;
    QP_ASSERT(ZYAN_SUCCESS(ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_ATT)));
    auto set = [&](ZydisFormatterProperty property, ZyanUPointer value) {
      QP_ASSERT(ZYAN_SUCCESS(ZydisFormatterSetProperty(&f, property, value)));
    };
    set(ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
    set(ZYDIS_FORMATTER_PROP_ADDR_PADDING_ABSOLUTE, ZYDIS_PADDING_DISABLED);
    set(ZYDIS_FORMATTER_PROP_ADDR_PADDING_RELATIVE, ZYDIS_PADDING_DISABLED);
    set(ZYDIS_FORMATTER_PROP_DISP_PADDING, ZYDIS_PADDING_DISABLED);
    set(ZYDIS_FORMATTER_PROP_IMM_PADDING, ZYDIS_PADDING_DISABLED);
    return f;
  }();
  return instance;
}

}  // namespace

std::optional<Instruction> decode(ByteView code, uint64_t offset) {
  Decoded d;
  if (!decode_raw(code, offset, d)) {
    return std::nullopt;
  }
  return reduce(d);
}

uint64_t padding_at(ByteView code, uint64_t offset) {
  if (offset >= code.size()) {
    return 0;
  }
  if (code[offset] == std::byte{0xcc} || code[offset] == std::byte{0}) {
    return 1;
  }
  const auto found = decode(code, offset);
  return found && found->is_nop ? found->length : 0;
}

std::optional<ShapedInstruction> decode_shaped(ByteView code, uint64_t offset) {
  Decoded d;
  if (!decode_raw(code, offset, d)) {
    return std::nullopt;
  }
  ShapedInstruction out;
  out.instruction = reduce(d);
  out.shape = shape(d, out.instruction);
  return out;
}

Shape shape_of(ByteView code, uint64_t offset, const Instruction& instruction) {
  Decoded d;
  QP_ASSERT(decode_raw(code, offset, d));
  QP_ASSERT(d.instruction.length == instruction.length);
  return shape(d, instruction);
}

std::string format(ByteView code, uint64_t offset, uint64_t address) {
  Decoded d;
  char text[256];
  if (!decode_raw(code, offset, d) ||
      !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter(), &d.instruction, d.operands.data(),
                                                    d.instruction.operand_count_visible, text,
                                                    sizeof text, address, nullptr))) {
    return ".byte " + (offset < code.size() ? hex(code.subspan(offset, 1)) : std::string("?"));
  }
  std::string out;
  for (const char* c = text; *c != '\0'; ++c) {
    if (*c == ' ' && !out.empty() && out.back() == ',') {
      continue;  // "mov $0x1,%eax", as objdump writes it
    }
    out += *c;
  }
  return out;
}

}  // namespace qp::insn
