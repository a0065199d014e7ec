// The one name that a stripped program can't lose: main.
//
// crt1.o is part of every program that a C compiler linked, and its _start hands the address of
// main to __libc_start_main (glibc 2.36 sysdeps/x86_64/start.S; psABI 3.4.1: rdi is the first
// argument):
//
//     48 8d 3d disp     lea  main(%rip),%rdi            position-independent, relaxed
//     48 c7 c7 imm      mov  $main,%rdi                 at a fixed address
//     48 8b 3d disp     mov  main@GOTPCREL(%rip),%rdi   not relaxed
//     ff 15 disp        call *__libc_start_main@GOTPCREL(%rip)
//
// The call has to go to the import of that name, else this is another _start.

#include <algorithm>

#include "insn/instruction.h"
#include "match/symbol_map.h"

namespace qp::match {
namespace {

constexpr uint64_t kLongestStart = 80;

bool starts_with(ByteView code, uint64_t at, std::initializer_list<uint8_t> bytes) {
  return at + bytes.size() <= code.size() &&
         std::equal(bytes.begin(), bytes.end(), code.begin() + static_cast<ptrdiff_t>(at),
                    [](uint8_t a, std::byte b) { return std::byte{a} == b; });
}

}  // namespace

void SymbolMap::read_entry_point(const elf::File& file) {
  if (has_symtab_ || file.entry().value == 0) {
    return;
  }
  const elf::FileReader reader(file);
  Bytes code(kLongestStart);
  code.resize(reader.read_some(file.entry(), code));
  std::optional<LinkAddr> handed;
  for (uint64_t at = 0; at < code.size();) {
    const auto found = insn::decode(code, at);
    if (!found) {
      return;
    }
    const LinkAddr end = file.entry() + at + found->length;
    const LinkAddr operand = end + static_cast<uint64_t>(found->displacement.value);
    if (starts_with(code, at, {0x48, 0x8d, 0x3d})) {
      handed = operand;
    } else if (starts_with(code, at, {0x48, 0xc7, 0xc7})) {
      handed = LinkAddr(static_cast<uint64_t>(found->immediate.value));
    } else if (starts_with(code, at, {0x48, 0x8b, 0x3d})) {
      const auto value = std::find_if(dynamic_.begin(), dynamic_.end(),
                                      [&](const DynamicValue& v) { return v.at == operand; });
      const bool known = value != dynamic_.end() && value->kind == DynamicValue::Kind::Address;
      handed = known ? std::optional(value->address) : std::nullopt;
    } else if (found->is_call) {
      const auto slot = std::find_if(slots_.begin(), slots_.end(),
                                     [&](const auto& s) { return s.first == operand; });
      if (handed && slot != slots_.end() && starts_with(code, at, {0xff, 0x15}) &&
          imports_[slot->second].name == "__libc_start_main") {
        MapEntry entry;
        entry.name = "main";
        entry.address = *handed;
        entry.type = elf::SymbolType::Func;
        entry.bind = elf::SymbolBind::Global;
        entry.source = Source::Proof;
        entries_.push_back(std::move(entry));
      }
      return;
    }
    at += found->length;
  }
}

}  // namespace qp::match
