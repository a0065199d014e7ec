// An instruction with an operand disp(%rip) is at least six bytes long, so a jump fits over it. The jump
// leads to its thunk, which has the address of the operand in a register:
//
//     mov var(%rip),%eax         jmp 1f; int3
//     2: ...                     2: ...
//                                1: mov word(%rip),%rax; mov (%rax),%eax; jmp 2b
//
// What the instruction loads is a register that nobody needs before. Another instruction has none, so
// one that it does not mention is put on the stack, below the 128 bytes that a function may use without
// saying so (psABI 3.2.2), by instructions that keep the flags:
//
//     add $1,var(%rip)           lea -128(%rsp),%rsp
//                                push %rax
//                                mov word(%rip),%rax
//                                add $1,(%rax)
//                                pop %rax
//                                lea 128(%rsp),%rsp
//                                jmp 2b
//
// The operand's encoding changes in ModRM only: rip is mod 0, r/m 5, and the six registers of old except
// rsp and rbp are mod 0 and their numbers, with no other prefix. The outcome is decoded again to see that
// it reads the register, and that it is as much shorter as the displacement was long.
//
// A signal may come at any place, and its handler may want to unwind (a profiler, a debugger, cancelled
// threads), so a thunk's unwind entry says what the function's says for that place, and what the stack
// has more.

#include "link/thunk.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include "base/error.h"
#include "elf/cfi.h"
#include "insn/instruction.h"
#include "insn/register_use.h"
#include "link/frames.h"

namespace qp::link {
namespace {

constexpr uint64_t kField = 4;
constexpr uint8_t kRsp = 4;

void put(Bytes& out, std::initializer_list<unsigned> values) {
  for (unsigned value : values) {
    out.push_back(static_cast<std::byte>(value));
  }
}

// mov word(%rip),%reg
uint64_t put_load(Bytes& out, uint8_t reg) {
  put(out, {0x48U | (reg >= 8 ? 4U : 0U), 0x8b, 0x05U | ((reg & 7U) << 3)});
  put(out, {0, 0, 0, 0});
  return out.size() - kField;
}

uint64_t put_jump(Bytes& out) {
  put(out, {0xe9, 0, 0, 0, 0});
  return out.size() - kField;
}

// The instruction with (%reg) instead of disp(%rip); empty if it is none of that form.
Bytes with_register(ByteView instruction, uint64_t field, uint8_t reg) {
  const bool simple = (reg & 7) != 4 && (reg & 7) != 5;
  const auto modrm = std::to_integer<unsigned>(instruction[field - 1]);
  if (!simple || (modrm & 0xc7) != 0x05) {
    return {};
  }
  Bytes out = copy(instruction.first(field - 1));
  if (reg >= 8) {  // the register that is loaded: it has a REX prefix for being one
    const auto rex = std::find_if(out.begin(), out.end(), [](std::byte b) {
      return (std::to_integer<unsigned>(b) & 0xf0) == 0x40;
    });
    if (rex == out.end()) {
      return {};
    }
    *rex |= std::byte{1};
  }
  put(out, {(modrm & 0x38U) | (reg & 7U)});
  append_bytes(out, instruction.subspan(field + kField));
  const auto before = insn::find_register_use(instruction, 0);
  const auto after = insn::find_register_use(out, 0);
  const auto decoded = insn::decode(out, 0);
  const uint32_t mask = uint32_t{1} << reg;
  const bool right = before && after && decoded && decoded->length == out.size() &&
                     !decoded->rip_relative && after->read == (before->read | mask) &&
                     after->written == before->written;
  return right ? out : Bytes{};
}

// DWARF 5, 7.24; what compilers and assemblers say about the CFA of x86-64 code.
enum Cfa : uint8_t {
  kRemember = 0x0a,
  kRestore = 0x0b,
  kDefCfa = 0x0c,
  kDefCfaRegister = 0x0d,
  kDefCfaOffset = 0x0e,
  kDefCfaExpression = 0x0f,
  kDefCfaSf = 0x12,
  kDefCfaOffsetSf = 0x13
};

// How the CFA is computed at a place of a function.
struct CfaRule {
  bool known = false;
  uint64_t reg = 0, offset = 0;
};

class CfaReader {
 public:
  void take(ByteView instruction) {
    ByteCursor in(instruction, "call frame instruction");
    switch (in.read<uint8_t>()) {
      case kRemember:
        kept_.push_back(rule_);
        break;
      case kRestore:
        rule_ = kept_.empty() ? CfaRule{} : kept_.back();
        if (!kept_.empty()) {
          kept_.pop_back();
        }
        break;
      case kDefCfa:
        rule_.known = true;
        rule_.reg = in.read_uleb128();
        rule_.offset = in.read_uleb128();
        break;
      case kDefCfaRegister:
        rule_.reg = in.read_uleb128();
        break;
      case kDefCfaOffset:
        rule_.offset = in.read_uleb128();
        break;
      case kDefCfaExpression:
      case kDefCfaSf:
      case kDefCfaOffsetSf:
        rule_.known = false;
        break;
      default:
        break;
    }
  }
  const CfaRule& rule() const { return rule_; }

 private:
  CfaRule rule_;
  std::vector<CfaRule> kept_;
};

// A place in a thunk from which on the stack has `pushed` bytes more than the function's has.
struct StackStep {
  uint64_t at = 0, pushed = 0;
};

void append_offset(Bytes& out, uint64_t offset) {
  append(out, kDefCfaOffset);
  append_uleb128(out, offset);
}

// What the function's entry says at `start`, and what the steps add. Nullopt: it says nothing, or not
// in words that can be added to.
std::optional<elf::FrameEntry> make_frame(const elf::Atom& function, uint64_t start, uint64_t size,
                                          const std::vector<StackStep>& steps) {
  const auto entry = std::find_if(
      function.frames.begin(), function.frames.end(),
      [&](const elf::FrameEntry& f) { return f.offset <= start && start - f.offset < f.size; });
  if (entry == function.frames.end()) {
    return std::nullopt;
  }
  ByteCursor head(entry->cie, "CIE");
  head.read<uint8_t>();  // version
  head.read_cstring();   // augmentation
  if (head.read_uleb128() != 1) {
    return std::nullopt;  // places are not counted in bytes
  }
  CfaReader reader;
  for (const elf::FrameStep& step :
       elf::read_frame_steps(entry->cie, read_initial_instructions(entry->cie))) {
    reader.take(step.instruction);
  }
  elf::FrameEntry out;
  out.size = size;
  out.cie = entry->cie;
  out.personality = entry->personality;
  for (const elf::FrameStep& step : elf::read_frame_steps(entry->cie, entry->instructions)) {
    if (step.location <= start - entry->offset) {
      append_bytes(out.instructions, step.instruction);
      reader.take(step.instruction);
    }
  }
  const CfaRule& rule = reader.rule();
  if (!rule.known) {
    return std::nullopt;
  }
  if (rule.reg != elf::kDwarfRsp) {
    return out;
  }
  uint64_t at = 0;
  for (const StackStep& step : steps) {
    append(out.instructions, static_cast<uint8_t>(0x40 | (step.at - at)));  // DW_CFA_advance_loc
    at = step.at;
    append_offset(out.instructions, rule.offset + step.pushed);
  }
  return out;
}

}  // namespace

Thunk make_jump_thunk() {
  Thunk out;
  put(out.code, {0xff, 0x25, 0, 0, 0, 0});  // jmp *word(%rip)
  out.word = 2;
  out.frames.push_back(call_target_frame(out.code.size()));
  return out;
}

Thunk make_pointer_thunk() {
  constexpr uint8_t kR11 = 11;
  Thunk out;
  out.word = put_load(out.code, kR11);
  put(out.code, {0x41, 0xff, 0x23});  // jmp *(%r11)
  out.frames.push_back(call_target_frame(out.code.size()));
  return out;
}

std::optional<Thunk> make_access_thunk(const elf::Atom& function, uint64_t start, uint64_t length,
                                       uint64_t field) {
  const ByteView instruction = slice(function.bytes, start, length);
  const uint64_t at = field - start;
  const auto use = insn::find_register_use(instruction, 0);
  if (!use || at + kField > length || at == 0) {
    return std::nullopt;
  }
  Thunk out;
  std::vector<StackStep> steps;
  const Bytes loaded =
      use->loaded && *use->loaded != kRsp ? with_register(instruction, at, *use->loaded) : Bytes{};
  if (!loaded.empty()) {
    out.word = put_load(out.code, *use->loaded);
    out.access = out.code.size();
    append_bytes(out.code, loaded);
  } else {
    const uint32_t used = use->read | use->written;
    Bytes access;
    uint8_t scratch = 0;
    for (const uint8_t reg : {0, 1, 2, 3, 6, 7}) {
      if (access.empty() && (used & (uint32_t{1} << reg)) == 0) {
        access = with_register(instruction, at, reg);
        scratch = reg;
      }
    }
    if (access.empty() || (used & (uint32_t{1} << kRsp)) != 0) {
      return std::nullopt;
    }
    constexpr uint64_t kRedZone = 128, kPushed = 8;
    put(out.code, {0x48, 0x8d, 0x64, 0x24, 0x80});  // lea -128(%rsp),%rsp
    steps.push_back({out.code.size(), kRedZone});
    put(out.code, {0x50U + scratch});  // push %scratch
    steps.push_back({out.code.size(), kRedZone + kPushed});
    out.word = put_load(out.code, scratch);
    out.access = out.code.size();
    append_bytes(out.code, access);
    put(out.code, {0x58U + scratch});  // pop %scratch
    steps.push_back({out.code.size(), kRedZone});
    put(out.code, {0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0});  // lea 128(%rsp),%rsp
    steps.push_back({out.code.size(), 0});
  }
  out.back = put_jump(out.code);
  if (auto frame = make_frame(function, start, out.code.size(), steps)) {
    out.frames.push_back(std::move(*frame));
  }
  return out;
}

}  // namespace qp::link
