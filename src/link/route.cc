// How a reference reaches its referent.
//
// A static linker decides this with the whole program in view and may rewrite instructions while it
// does. Here the program is linked already and running; the patch is a stranger that lies within
// 2 GiB of it. That leaves a few honest ways:
//
//   to the image itself or to the target    the distance is fixed, so PC-relative fields are
//                                           constants that are the same in every process;
//   a branch to another module              through the target's own PLT entry where it has one,
//                                           else through a veneer and a GOT slot of the image;
//   an address of another module            through a GOT slot of the image. The load through the
//                                           slot is never relaxed into a lea: no instruction is
//                                           rewritten, so every form of it stays right (call *,
//                                           test, cmp, push, with any register);
//   a pointer in data                       eight bytes, filled when the image is staged.
//
// What compilers emit for programs that are linked at a fixed address does not fit in full. A
// 32-bit absolute field can hold an address of a non-PIE target, whose bias is 0, and of an image
// that lies in the low 2 GiB; in a PIE there is no such address. A PC-relative access to data of
// another module (a copy relocation in the making) has no instruction that could be diverted. Both
// are refused with the compiler option that avoids them.
//
// The types and their formulas: System V psABI for x86-64, table 4.10.

#include "link/route.h"

#include <fmt/format.h>

#include "base/error.h"
#include "insn/instruction.h"
#include "link/thread_local.h"

namespace qp::link {
namespace {

using elf::BindingKind;
using elf::RelocType;

Route refused(std::string_view id, std::string reason) {
  return {Way::Refused, id, std::move(reason)};
}

// True if the field at `at` is the distance of a direct call or jump. Instructions can only be
// found from the front, so the function is decoded up to there.
bool is_branch(const elf::Atom& atom, uint64_t at) {
  if (atom.storage != elf::Storage::Text) {
    return false;
  }
  for (uint64_t offset = 0; offset <= at;) {
    auto instruction = insn::decode(atom.bytes, offset);
    if (!instruction) {
      return false;
    }
    if (at < offset + instruction->length) {
      return instruction->branch.size == 4 && offset + instruction->branch.offset == at;
    }
    offset += instruction->length;
  }
  return false;
}

Route route_absolute32(const format::Patch& patch, const std::string& name, bool import) {
  if (import) {
    return refused("reloc-unsupported",
                   fmt::format("the 32-bit absolute address of {}, which is in another module, is "
                               "not known before the process runs; compile with -fPIE",
                               name));
  }
  if (patch.meta.position_independent) {
    return refused("reloc-unsupported",
                   fmt::format("a 32-bit absolute address of {} in a position-independent target; "
                               "compile with -fPIE",
                               name));
  }
  return {Way::Direct};
}

Route route_branch(const elf::Binding& binding) {
  return {binding.stub.value != 0 ? Way::Stub : Way::Veneer};
}

}  // namespace

Route find_route(const format::Patch& patch, const elf::Atom& atom, const elf::Ref& ref) {
  QP_ASSERT(ref.symbol < patch.fresh.symbols.size());
  QP_ASSERT(patch.fresh_bindings.size() == patch.fresh.symbols.size());
  const elf::RelocTraits* traits = elf::find_traits(ref.type);
  if (traits == nullptr) {
    return refused("reloc-unknown", "the psABI has no such type");
  }
  const elf::AtomSymbol& symbol = patch.fresh.symbols[ref.symbol];
  const elf::Binding& binding = patch.fresh_bindings[ref.symbol];
  const std::string& name = symbol.name;
  if (ref.type == RelocType::None) {
    return {Way::Nothing};
  }
  if (!symbol.atom && binding.kind == BindingKind::Unbound) {
    return refused("symbol-unbound", fmt::format("nothing says where {} is", name));
  }
  if (traits->tls) {
    return route_thread_local(patch, atom, ref);
  }
  if (symbol.atom
          ? is_tls(patch.fresh.atoms[*symbol.atom].storage)
          : binding.kind == BindingKind::TpOffset || binding.kind == BindingKind::ModuleOffset ||
                binding.kind == BindingKind::TlsSlot) {
    return refused("reloc-unsupported", fmt::format("{} is thread-local and has no address", name));
  }
  const bool import = !symbol.atom && binding.kind == BindingKind::Import;
  // A static program can have it itself.
  if (!symbol.atom && name == "__tls_get_addr" && is_rewritten_call(patch, atom, ref)) {
    return {Way::Nothing};
  }

  switch (ref.type) {
    case RelocType::R64:
      // clang -O0 loads addresses by movabs in programs that are not position-independent. There an
      // address is the same in every process, so that the field is written when the image is made.
      if (atom.storage == elf::Storage::Text && !patch.meta.position_independent && !import) {
        return {Way::Direct};
      }
      if (atom.storage == elf::Storage::Text) {
        return refused("reloc-unsupported",
                       fmt::format("a 64-bit absolute address of {} inside code, which is never "
                                   "written; compile without -mcmodel=large",
                                   name));
      }
      return {Way::Word};
    case RelocType::R32:
    case RelocType::R32S:
    case RelocType::R16:
    case RelocType::R8:
      return route_absolute32(patch, name, import);
    case RelocType::PLT32:
      return import ? route_branch(binding) : Route{Way::Direct};
    case RelocType::PC32:
    case RelocType::PC16:
    case RelocType::PC8:
    case RelocType::PC64:
      if (!import) {
        return {Way::Direct};
      }
      if (ref.type == RelocType::PC32 && is_branch(atom, ref.at)) {
        return route_branch(binding);
      }
      return refused("reloc-unsupported",
                     fmt::format("{} is in another module and the code reaches for it directly; "
                                 "compile with -fPIC or -mno-direct-extern-access",
                                 name));
    case RelocType::GOTPCREL:
    case RelocType::GOTPCRELX:
    case RelocType::REX_GOTPCRELX:
      return {Way::Slot};
    case RelocType::SIZE32:
    case RelocType::SIZE64:
      return symbol.atom ? Route{Way::Size}
                         : refused("reloc-unsupported",
                                   fmt::format("the size of {} is not known to the patch", name));
    default:
      return refused("reloc-unsupported",
                     fmt::format("it computes with the address of the target's GOT ({}); compile "
                                 "without -mcmodel=large or -mcmodel=medium",
                                 name));
  }
}

}  // namespace qp::link
