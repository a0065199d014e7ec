// Thread-local variables, by the model that the code was compiled for (psABI, "Thread-Local Storage";
// Drepper, "ELF Handling For Thread-Local Storage"; Oliva, "Thread-Local Storage Descriptors").
//
// Variables that exist. In an executable each has a fixed distance from the thread pointer. Code
// that asks for it (local-exec, initial-exec) gets it; code that calls somebody to find the variable
// (general- and local-dynamic, descriptors) is rewritten to the same, as the static linker that made
// the target would have: the sequences are fixed by the psABI for that purpose, and every byte of
// them is checked. A library's are found through the words that ld.so has filled for the old code,
// and so are other modules'. Where the old code has none of the kind, words of the image are filled
// with what ld.so knows of the module, and ld.so's function is called with them.
//
// Variables that the patch adds have no place in any thread. They make one block per thread, which
// the patch's own functions make and find (src/build/runtime). So the code must ask, by one of the
// dynamic models; `build` sees to it where compilers let it. Local-dynamic code asks once for the start
// of a block and counts on it for several variables: they must all be new, or none.
//
// A field that a sequence shares with nothing else is told by the bytes around it. If these are not
// what the psABI says, somebody else made the code, and it is refused.

#include "link/thread_local.h"

#include <algorithm>
#include <initializer_list>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::link {
namespace {

using elf::BindingKind;
using elf::RelocType;

Route refused(std::string reason) {
  return {Way::Refused, "tls-unsupported", std::move(reason)};
}

bool is_at(ByteView code, uint64_t at, std::initializer_list<uint8_t> pattern) {
  if (at > code.size() || code.size() - at < pattern.size()) {
    return false;
  }
  return std::equal(pattern.begin(), pattern.end(), code.begin() + static_cast<ptrdiff_t>(at),
                    [](uint8_t a, std::byte b) { return std::byte{a} == b; });
}

bool is_new(const format::Patch& patch, elf::AtomSymbolId id) {
  const auto& atom = patch.fresh.symbols[id].atom;
  return atom && elf::is_tls(patch.fresh.atoms[*atom].storage);
}

// Where the field of the call is that belongs to a general- or local-dynamic lea; nullopt if the
// bytes are no such sequence.
std::optional<uint64_t> find_call(ByteView code, const elf::Ref& lea) {
  const uint64_t field = lea.at;
  if (lea.type == RelocType::TLSGD && field >= 4 &&
      is_at(code, field - 4, {0x66, 0x48, 0x8d, 0x3d}) &&
      (is_at(code, field + 4, {0x66, 0x66, 0x48, 0xe8}) ||
       is_at(code, field + 4, {0x66, 0x48, 0xff, 0x15})) &&
      code.size() - field >= 12) {
    return field + 8;
  }
  if (lea.type == RelocType::TLSLD && field >= 3 && is_at(code, field - 3, {0x48, 0x8d, 0x3d})) {
    if (is_at(code, field + 4, {0xe8}) && code.size() - field >= 9) {
      return field + 5;
    }
    if (is_at(code, field + 4, {0xff, 0x15}) && code.size() - field >= 10) {
      return field + 6;
    }
  }
  return std::nullopt;
}

const elf::Ref* find_ref(const elf::Atom& atom, uint64_t at) {
  const auto it = std::find_if(atom.refs.begin(), atom.refs.end(),
                               [&](const elf::Ref& r) { return r.at == at; });
  return it == atom.refs.end() ? nullptr : &*it;
}

// Does the call behind `lea` go to `name`?
bool calls(const format::Patch& patch, const elf::Atom& atom, const elf::Ref& lea,
           std::string_view name, bool in_patch) {
  const auto at = find_call(atom.bytes, lea);
  const elf::Ref* call = at ? find_ref(atom, *at) : nullptr;
  if (call == nullptr || call->addend != -4) {
    return false;
  }
  const elf::AtomSymbol& to = patch.fresh.symbols[call->symbol];
  const bool type = call->type == RelocType::PLT32 || call->type == RelocType::PC32 ||
                    call->type == RelocType::GOTPCREL || call->type == RelocType::GOTPCRELX;
  return type && to.name == name && to.atom.has_value() == in_patch;
}

// lea x@tlsdesc(%rip),%r, with %r in the low three bits of the second, and REX.R in the first.
bool is_descriptor_load(ByteView code, uint64_t field) {
  return field >= 3 && code.size() - field >= 4 &&
         (std::to_integer<uint8_t>(code[field - 3]) & 0xfb) == 0x48 &&
         std::to_integer<uint8_t>(code[field - 2]) == 0x8d &&
         (std::to_integer<uint8_t>(code[field - 1]) & 0xc7) == 0x05;
}

// Functions with their pieces: one body of code, which may find a block in one and use it in another.
elf::AtomId unit_of(const format::Patch& patch, const elf::Atom& atom) {
  elf::AtomId id = static_cast<elf::AtomId>(&atom - patch.fresh.atoms.data());
  for (size_t i = 0; i < patch.fresh.atoms.size() && patch.fresh.atoms[id].parent; ++i) {
    id = *patch.fresh.atoms[id].parent;
  }
  return id;
}

// Does the unit of `atom` ask for the start of a block of the other kind than `new_block`?
bool asks_for_other_block(const format::Patch& patch, const elf::Atom& atom, bool new_block) {
  const elf::AtomId unit = unit_of(patch, atom);
  for (const elf::Atom& other : patch.fresh.atoms) {
    if (other.storage != elf::Storage::Text || unit_of(patch, other) != unit) {
      continue;
    }
    for (const elf::Ref& ref : other.refs) {
      const bool base = ref.type == RelocType::TLSLD ||
                        patch.fresh.symbols[ref.symbol].name == "_TLS_MODULE_BASE_";
      if (base && is_new(patch, ref.symbol) != new_block) {
        return true;
      }
    }
  }
  return false;
}

Route route_new(const format::Patch& patch, const elf::Atom& atom, const elf::Ref& ref) {
  const std::string& name = patch.fresh.symbols[ref.symbol].name;
  switch (ref.type) {
    case RelocType::TLSGD:
    case RelocType::TLSLD:
      if (ref.addend != -4 || !calls(patch, atom, ref, kTlsGetAddr, true)) {
        return refused(fmt::format(
            "the code that finds the new thread-local variable {} is not of the usual form", name));
      }
      return {Way::TlsIndex};
    case RelocType::DTPOFF32:
    case RelocType::DTPOFF64:
      if (asks_for_other_block(patch, atom, true)) {
        return refused(fmt::format(
            "the code takes the new thread-local variable {} and existing ones from one block; "
            "declare it with __attribute__((tls_model(\"global-dynamic\"))) and not static",
            name));
      }
      return {Way::BlockOffset};
    case RelocType::GOTPC32_TLSDESC:
      if (ref.addend != -4 || !find_runtime_symbol(patch, kTlsDescriptor)) {
        return refused(fmt::format("the patch lacks what finds {}", name));
      }
      return {Way::TlsDescriptor};
    case RelocType::TLSDESC_CALL:
      return {Way::Nothing};  // marks the call behind the descriptor's address
    default:
      return refused(
          fmt::format("the new thread-local variable {} has no fixed place in a thread, which the "
                      "code relies on; declare it with "
                      "__attribute__((tls_model(\"global-dynamic\"))), and compile with GCC",
                      name));
  }
}

// An existing variable at a fixed distance from the thread pointer.
Route route_local_exec(const format::Patch& patch, const elf::Atom& atom, const elf::Ref& ref) {
  const std::string& name = patch.fresh.symbols[ref.symbol].name;
  const bool text = atom.storage == elf::Storage::Text;
  bool known = false;
  switch (ref.type) {
    case RelocType::TPOFF32:
    case RelocType::TPOFF64:
      return {Way::TpOffset};
    case RelocType::GOTTPOFF:
      return {Way::TpSlot};
    case RelocType::DTPOFF32:
    case RelocType::DTPOFF64:
      if (text && !asks_for_other_block(patch, atom, false)) {
        return {Way::TpOffset};  // from the thread pointer: so the start of the block is rewritten
      }
      break;
    case RelocType::TLSGD:
    case RelocType::TLSLD:
      known = calls(patch, atom, ref, "__tls_get_addr", false);
      break;
    case RelocType::GOTPC32_TLSDESC:
      known = is_descriptor_load(atom.bytes, ref.at);
      break;
    case RelocType::TLSDESC_CALL:
      return is_at(atom.bytes, ref.at, {0xff, 0x10}) ? Route{Way::LocalExec}
                                                     : refused("the call of a descriptor is none");
    default:
      break;
  }
  if (text && known && ref.addend == -4) {
    return {Way::LocalExec};
  }
  return refused(
      fmt::format("the code that finds {} is not of the usual form; compile with "
                  "-ftls-model=initial-exec",
                  name));
}

}  // namespace

std::optional<elf::AtomSymbolId> find_runtime_symbol(const format::Patch& patch,
                                                     std::string_view name) {
  const auto& symbols = patch.fresh.symbols;
  const auto it = std::find_if(symbols.begin(), symbols.end(), [&](const elf::AtomSymbol& s) {
    return s.name == name && s.atom && patch.fresh.atoms[*s.atom].storage == elf::Storage::Text;
  });
  return it == symbols.end() ? std::nullopt
                             : std::optional(static_cast<elf::AtomSymbolId>(it - symbols.begin()));
}

Route route_thread_local(const format::Patch& patch, const elf::Atom& atom, const elf::Ref& ref) {
  const elf::AtomSymbol& symbol = patch.fresh.symbols[ref.symbol];
  if (symbol.atom) {
    return is_new(patch, ref.symbol)
               ? route_new(patch, atom, ref)
               : refused(fmt::format("{} is no thread-local variable", symbol.name));
  }
  const BindingKind kind = patch.fresh_bindings[ref.symbol].kind;
  if (kind == BindingKind::TpOffset) {
    return route_local_exec(patch, atom, ref);
  }
  if (ref.type == RelocType::TLSDESC_CALL) {
    return {Way::Nothing};
  }
  const bool offset = ref.type == RelocType::DTPOFF32 || ref.type == RelocType::DTPOFF64;
  if (kind == BindingKind::TlsSlot && elf::find_traits(ref.type)->via_got) {
    return {Way::OwnSlot};
  }
  if (kind == BindingKind::ModuleOffset && offset && !asks_for_other_block(patch, atom, false)) {
    return {Way::TpOffset};
  }
  if (kind == BindingKind::ModuleOffset && offset) {
    return refused(fmt::format("the code takes {} and a new thread-local variable from one block",
                               symbol.name));
  }
  const bool import = kind == BindingKind::Import;
  if (((ref.type == RelocType::TLSGD && (import || kind == BindingKind::ModuleOffset)) ||
       (ref.type == RelocType::TLSLD && kind == BindingKind::ModuleOffset)) &&
      ref.addend == -4 && calls(patch, atom, ref, "__tls_get_addr", false)) {
    return {Way::TlsIndex};
  }
  if (import && ref.type == RelocType::GOTTPOFF) {
    return {Way::TpSlot};
  }
  if (import || kind == BindingKind::ModuleOffset || kind == BindingKind::TlsSlot) {
    return refused(fmt::format("the target has no slot for {} of the kind that the new code needs",
                               symbol.name));
  }
  return refused(fmt::format("{} has no fixed offset from the thread pointer", symbol.name));
}

bool is_rewritten_call(const format::Patch& patch, const elf::Atom& atom, const elf::Ref& ref) {
  for (const elf::Ref& lea : atom.refs) {
    if ((lea.type == RelocType::TLSGD || lea.type == RelocType::TLSLD) && lea.at < ref.at &&
        ref.at - lea.at <= 8 && find_call(atom.bytes, lea) == ref.at &&
        patch.fresh_bindings[lea.symbol].kind == BindingKind::TpOffset) {
      return route_local_exec(patch, atom, lea).way == Way::LocalExec;
    }
  }
  return false;
}

void write_local_exec(ByteSpan code, const elf::Ref& ref, int32_t offset) {
  const auto put = [&](uint64_t at, std::initializer_list<unsigned> values) {
    for (unsigned value : values) {
      code[at++] = static_cast<std::byte>(value);
    }
    return at;
  };
  const uint64_t at = ref.at;
  switch (ref.type) {
    case RelocType::TLSGD: {
      uint64_t next = put(at - 4, {0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0});  // mov %fs:0,%rax
      next = put(next, {0x48, 0x8d, 0x80});                                     // lea x(%rax),%rax
      store(code, next, offset);
      return;
    }
    case RelocType::TLSLD: {
      const bool direct = code[at + 4] == std::byte{0xe8};
      uint64_t next = direct ? at - 3 : put(at - 3, {0x66});
      put(next, {0x66, 0x66, 0x66, 0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0});  // mov %fs:0,%rax
      return;
    }
    case RelocType::GOTPC32_TLSDESC: {
      const auto rex = std::to_integer<unsigned>(code[at - 3]);
      const auto reg = (std::to_integer<unsigned>(code[at - 1]) >> 3) & 7;
      put(at - 3, {0x48 | ((rex >> 2) & 1), 0xc7, 0xc0 | reg});  // mov $x,%r
      store(code, at, offset);
      return;
    }
    case RelocType::TLSDESC_CALL:
      put(at, {0x66, 0x90});  // xchg %ax,%ax
      return;
    default:
      throw Bug("no sequence of a dynamic thread-local model");
  }
}

}  // namespace qp::link
