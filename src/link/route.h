// How a reference of the patch reaches what it refers to. Private to link.
#pragma once

#include <string>
#include <string_view>

#include "elf/atom.h"
#include "format/patch.h"

namespace qp::link {

enum class Way : uint8_t {
  Nothing,        // R_X86_64_NONE
  Direct,         // the field holds S + A or S + A − P, S in the image or in the target
  Stub,           // a branch, to the target's own PLT entry
  Veneer,         // a branch, to `jmp *slot(%rip)` in the image
  Slot,           // the field leads to a GOT slot of the image that holds S
  TpSlot,         // the field leads to a GOT slot of the image that holds S's offset from %fs:0
  TlsIndex,       // the field leads to two words of the image: what finds the variable (layout.h)
  TlsDescriptor,  // to three: a function, and the same
  BlockOffset,    // the field holds the place of a new variable in the patch's block
  LocalExec,      // the instructions are rewritten, so that they hold the offset from %fs:0
  TpOffset,       // the field holds that offset itself, or the one in the module's TLS block
  OwnSlot,        // the field leads to a slot of the target's GOT, which ld.so has filled
  Word,           // eight bytes that are filled per process
  Size,           // the field holds the size of a symbol
  Refused,
};

struct Route {
  Way way = Way::Nothing;
  std::string_view refusal;  // Refused: id
  std::string reason;        // Refused: what stands against it, and what to do
};

// Pure and cheap, so that layout (which counts slots and veneers) and relocation (which writes
// fields and reports) ask the same question and get the same answer.
Route find_route(const format::Patch& patch, const elf::Atom& atom, const elf::Ref& ref);

}  // namespace qp::link
