// A linker that knows where a symbol ends up needs no GOT slot for it, and says so to the
// processor: it overwrites the instruction. The relocation types GOTPCRELX and REX_GOTPCRELX and
// the TLS types are the compiler's permission to do that, and each permits fixed byte patterns
// only. So the object and the target differ in an instruction that was not changed by anybody, and
// the proof has to know the patterns.
//
//   as compiled                            as linked
//   mov  f@GOTPCREL(%rip),%r               lea f(%rip),%r | mov $f,%r
//   test %r,f@GOTPCREL(%rip)               test $f,%r
//   op   f@GOTPCREL(%rip),%r               op $f,%r           (adc add and cmp or sbb sub xor)
//   call *f@GOTPCREL(%rip)                 addr32 call f | call f; nop | nop; call f
//   jmp  *f@GOTPCREL(%rip)                 jmp f; nop
//   GD   lea x@tlsgd(%rip),%rdi; call      mov %fs:0,%rax; lea x@tpoff(%rax),%rax (mold: add $x,%rax)
//        (16 bytes, direct or -fno-plt)    mov %fs:0,%rax; add x@gottpoff(%rip),%rax
//   LD   lea x@tlsld(%rip),%rdi; call      data16... mov %fs:0,%rax (mold: and subtracts the block's size)
//   IE   mov x@gottpoff(%rip),%r           mov $x@tpoff,%r
//        add x@gottpoff(%rip),%r           lea x@tpoff(%r),%r | add $x@tpoff,%r
//   DESC lea x@tlsdesc(%rip),%r            mov $x@tpoff,%r | mov x@gottpoff(%rip),%r
//        call *(%r)                        data16 nop
//
// Sources: psABI 1.0 sections B.2 and "Thread-Local Storage" (Drepper, ELF Handling For TLS, 5.6);
// binutils 2.40 bfd/elf64-x86-64.c elf_x86_64_convert_load_reloc and relocate_section; lld 14
// ELF/Arch/X86_64.cpp; gold/x86_64.cc. NOPs that stand beside a replacement are padding to the
// comparison and are not matched here. Patterns are strict: every byte that is no field must be
// right, so that a mistake here costs a proof and never grants one.

#include "match/relax.h"

#include <algorithm>
#include <initializer_list>

namespace qp::match {
namespace {

using elf::RelocType;

uint8_t byte_at(ByteView code, uint64_t at) {
  return at < code.size() ? std::to_integer<uint8_t>(code[at]) : 0;
}

bool begins_with(ByteView code, uint64_t at, std::initializer_list<uint8_t> pattern) {
  if (at > code.size() || code.size() - at < pattern.size()) {
    return false;
  }
  return std::equal(pattern.begin(), pattern.end(), code.begin() + static_cast<ptrdiff_t>(at),
                    [](uint8_t a, std::byte b) { return std::byte{a} == b; });
}

std::optional<int32_t> find_field(ByteView code, uint64_t at) {
  if (at > code.size() || code.size() - at < 4) {
    return std::nullopt;
  }
  return load<int32_t>(code, at);
}

LinkAddr relative(LinkAddr end, int32_t distance) {
  return end + static_cast<uint64_t>(int64_t{distance});
}

// The load or operation of the original, taken apart: [rex] opcode modrm field.
struct Load {
  uint64_t start = 0;  // of the REX prefix or the opcode
  uint8_t rex = 0;     // 0: none
  uint8_t opcode = 0;
  uint8_t reg = 0;  // 0..7, without REX.R
};

// Nullopt unless the field at `field` belongs to `[rex] opcode reg, disp32(%rip)` starting at `at`.
std::optional<Load> find_load(ByteView code, uint64_t at, uint64_t field) {
  if (field < at + 2 || (byte_at(code, field - 1) & 0xc7) != 0x05) {
    return std::nullopt;
  }
  Load load;
  load.opcode = byte_at(code, field - 2);
  load.reg = (byte_at(code, field - 1) >> 3) & 7;
  load.start = field - 2;
  if (field - at == 3) {
    load.rex = byte_at(code, at);
    load.start = at;
    if ((load.rex & 0xf0) != 0x40 || (load.rex & 0x03) != 0) {
      return std::nullopt;
    }
  } else if (field - at != 2) {
    return std::nullopt;
  }
  return load;
}

// The register moved from modrm.reg to modrm.rm, so does its fourth bit from REX.R to REX.B.
uint8_t rex_for_rm(uint8_t rex) {
  return static_cast<uint8_t>((rex & 0x48) | ((rex & 4) >> 2));
}

// Reads [rex] opcode modrm and an imm32 from the target. With REX.W the immediate is sign-extended,
// else zero-extended; linkers may drop REX.W from `mov $f,%r` for a positive address.
std::optional<int64_t> find_immediate(ByteView target, const Load& load, uint8_t opcode,
                                      uint8_t modrm, uint64_t& size) {
  const uint8_t rex = rex_for_rm(load.rex);
  for (const uint8_t tried : {rex, static_cast<uint8_t>(rex & ~0x08)}) {
    if (tried != rex && opcode != 0xc7) {
      continue;
    }
    uint64_t at = 0;
    if (load.rex != 0) {
      if (byte_at(target, 0) != tried) {
        continue;
      }
      at = 1;
    }
    if (!begins_with(target, at, {opcode, modrm})) {
      continue;
    }
    const std::optional<int32_t> field = find_field(target, at + 2);
    if (!field) {
      return std::nullopt;
    }
    size = at + 6;
    return (tried & 0x08) != 0 ? int64_t{*field} : int64_t{static_cast<uint32_t>(*field)};
  }
  return std::nullopt;
}

std::optional<Relaxed> find_relaxed_load(const Load& load, const elf::Ref& ref, ByteView target,
                                         LinkAddr address) {
  Relaxed out;
  out.delta = ref.addend + 4;
  const auto modrm_reg = static_cast<uint8_t>(0xc0 | load.reg);
  if (load.opcode == 0x8b) {
    const uint64_t prefix = load.rex != 0 ? 1 : 0;
    if ((prefix == 0 || byte_at(target, 0) == load.rex) &&
        begins_with(target, prefix, {0x8d, static_cast<uint8_t>(0x05 | load.reg << 3)})) {
      if (const auto field = find_field(target, prefix + 2)) {
        out.target_size = prefix + 6;
        out.address = relative(address + out.target_size, *field);
        return out;
      }
    }
    if (const auto value = find_immediate(target, load, 0xc7, modrm_reg, out.target_size)) {
      out.address = LinkAddr(static_cast<uint64_t>(*value));
      return out;
    }
    return std::nullopt;
  }
  std::optional<int64_t> value;
  if (load.opcode == 0x85) {
    value = find_immediate(target, load, 0xf7, modrm_reg, out.target_size);
  } else if ((load.opcode & 0xc7) == 0x03) {  // op r, r/m
    value = find_immediate(target, load, 0x81,
                           static_cast<uint8_t>(modrm_reg | (load.opcode & 0x38)), out.target_size);
  }
  if (!value) {
    return std::nullopt;
  }
  out.address = LinkAddr(static_cast<uint64_t>(*value));
  return out;
}

std::optional<Relaxed> find_relaxed_got(ByteView original, uint64_t at, const elf::Ref& ref,
                                        ByteView target, LinkAddr address) {
  Relaxed out;
  out.delta = ref.addend + 4;
  for (const uint8_t nop_prefix : {uint8_t{0}, uint8_t{0x67}}) {
    const uint64_t begin = nop_prefix != 0 ? 1 : 0;
    const bool call = begins_with(original, at, {0xff, 0x15});
    const bool jump = begins_with(original, at, {0xff, 0x25});
    if ((!call && !jump) || (begin == 1 && (!call || byte_at(target, 0) != nop_prefix))) {
      continue;
    }
    if (ref.at != at + 2 || byte_at(target, begin) != (call ? 0xe8 : 0xe9)) {
      continue;
    }
    if (const auto field = find_field(target, begin + 1)) {
      out.original_size = 6;
      out.target_size = begin + 5;
      out.address = relative(address + out.target_size, *field);
      return out;
    }
  }
  if (const auto load = find_load(original, at, ref.at)) {
    if (auto relaxed = find_relaxed_load(*load, ref, target, address)) {
      relaxed->original_size = ref.at + 4 - at;
      return relaxed;
    }
  }
  return std::nullopt;
}

std::optional<Relaxed> find_relaxed_ie(ByteView original, uint64_t at, const elf::Ref& ref,
                                       ByteView target) {
  const auto load = find_load(original, at, ref.at);
  if (!load) {
    return std::nullopt;
  }
  Relaxed out;
  out.kind = Relaxed::Kind::TpOffset;
  out.delta = ref.addend + 4;
  out.original_size = ref.at + 4 - at;
  const auto modrm_reg = static_cast<uint8_t>(0xc0 | load->reg);
  std::optional<int64_t> value;
  if (load->opcode == 0x8b) {
    value = find_immediate(target, *load, 0xc7, modrm_reg, out.target_size);
  } else if (load->opcode == 0x03) {
    value = find_immediate(target, *load, 0x81, modrm_reg, out.target_size);
    const auto rex = static_cast<uint8_t>(rex_for_rm(load->rex) | (load->rex & 4));
    const auto modrm_lea = static_cast<uint8_t>(0x80 | load->reg | load->reg << 3);
    if (!value && begins_with(target, 0, {rex, 0x8d, modrm_lea})) {
      value = find_field(target, 3);
      out.target_size = 7;
    }
  }
  if (!value) {
    return std::nullopt;
  }
  // A 32-bit move of a negative offset would be another value; only sign-extended forms count.
  if (*value > INT32_MAX) {
    return std::nullopt;
  }
  out.value = *value;
  return out;
}

std::optional<Relaxed> find_relaxed_gd(ByteView original, uint64_t at, const elf::Ref& ref,
                                       ByteView target, LinkAddr address) {
  if (ref.at != at + 4 || !begins_with(original, at, {0x66, 0x48, 0x8d, 0x3d}) ||
      !(begins_with(original, at + 8, {0x66, 0x66, 0x48, 0xe8}) ||
        begins_with(original, at + 8, {0x66, 0x48, 0xff, 0x15})) ||
      !begins_with(target, 0, {0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0})) {
    return std::nullopt;
  }
  const auto field = find_field(target, 12);
  if (!field) {
    return std::nullopt;
  }
  Relaxed out;
  out.original_size = out.target_size = 16;
  out.delta = ref.addend + 4;
  if (begins_with(target, 9, {0x48, 0x8d, 0x80}) || begins_with(target, 9, {0x48, 0x81, 0xc0})) {
    out.kind = Relaxed::Kind::TpOffset;
    out.value = *field;
    return out;
  }
  if (begins_with(target, 9, {0x48, 0x03, 0x05})) {
    out.kind = Relaxed::Kind::TpOffsetSlot;
    out.address = relative(address + 16, *field);
    return out;
  }
  return std::nullopt;
}

std::optional<Relaxed> find_relaxed_ld(ByteView original, uint64_t at, const elf::Ref& ref,
                                       ByteView target) {
  if (ref.at != at + 3 || !begins_with(original, at, {0x48, 0x8d, 0x3d})) {
    return std::nullopt;
  }
  Relaxed out;
  out.kind = Relaxed::Kind::ModuleBlock;
  if (begins_with(original, at + 7, {0xe8})) {
    out.original_size = 12;
  } else if (begins_with(original, at + 7, {0xff, 0x15})) {
    out.original_size = 13;
  } else {
    return std::nullopt;
  }
  // mold: xor %eax,%eax; mov %fs:(%rax),%rax; sub $size,%rax
  if (begins_with(target, 0, {0x31, 0xc0, 0x64, 0x48, 0x8b, 0x00, 0x48, 0x2d})) {
    if (const auto size = find_field(target, 8)) {
      out.value = -int64_t{*size};
      out.target_size = 12;
      return out;
    }
  }
  uint64_t prefixes = 0;
  while (prefixes < 4 && byte_at(target, prefixes) == 0x66) {
    ++prefixes;
  }
  if (!begins_with(target, prefixes, {0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0})) {
    return std::nullopt;
  }
  out.target_size = prefixes + 9;
  return out;
}

std::optional<Relaxed> find_relaxed_descriptor(ByteView original, uint64_t at, const elf::Ref& ref,
                                               ByteView target, LinkAddr address) {
  const auto load = find_load(original, at, ref.at);
  if (!load || load->opcode != 0x8d) {
    return std::nullopt;
  }
  Relaxed out;
  out.delta = ref.addend + 4;
  out.original_size = 7;
  if (const auto value = find_immediate(target, *load, 0xc7, static_cast<uint8_t>(0xc0 | load->reg),
                                        out.target_size);
      value && *value <= INT32_MAX) {
    out.kind = Relaxed::Kind::TpOffset;
    out.value = *value;
    return out;
  }
  if (begins_with(target, 0, {load->rex, 0x8b, static_cast<uint8_t>(0x05 | load->reg << 3)})) {
    if (const auto field = find_field(target, 3)) {
      out.kind = Relaxed::Kind::TpOffsetSlot;
      out.target_size = 7;
      out.address = relative(address + 7, *field);
      return out;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Relaxed> find_relaxed(ByteView original, uint64_t at, const elf::Ref& ref,
                                    ByteView target, LinkAddr address) {
  switch (ref.type) {
    case RelocType::GOTPCREL:
    case RelocType::GOTPCRELX:
    case RelocType::REX_GOTPCRELX:
      return find_relaxed_got(original, at, ref, target, address);
    case RelocType::GOTTPOFF:
      return find_relaxed_ie(original, at, ref, target);
    case RelocType::TLSGD:
      return find_relaxed_gd(original, at, ref, target, address);
    case RelocType::TLSLD:
      return find_relaxed_ld(original, at, ref, target);
    case RelocType::GOTPC32_TLSDESC:
      return find_relaxed_descriptor(original, at, ref, target, address);
    default:
      return std::nullopt;
  }
}

bool is_relaxed_descriptor_call(ByteView target) {
  return begins_with(target, 0, {0x66, 0x90});
}

}  // namespace qp::match
