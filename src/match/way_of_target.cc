// A reference is more than an address. In a shared library `foo` may be the library's own function
// or the one that LD_PRELOAD put before it, and which one it is, is known in the process only: it is
// in the library's GOT (match/exports.cc tells when). The same for variables, which an executable
// may hold in a copy of its own. New code that went to the library's own `foo` at once would work in
// every test and use the wrong one in the field.
//
// Thread-local storage of a library has no address that could be known before the process runs, but
// the words through which the old code finds it are in the library's GOT, and they serve the new
// code as well: a reference of the same kind gets the address of the same words. A kind that the
// target has no words for is left for link to refuse.

#include "match/way_of_target.h"

namespace qp::match {
namespace {

using elf::Binding;
using elf::BindingKind;

Binding through(const ImportEntry& import, const std::string& version) {
  Binding out;
  out.kind = BindingKind::Import;
  out.evidence = elf::Evidence::SymbolTable;
  out.version = version;
  out.stub = import.stub;
  out.got_slot = import.slot;
  return out;
}

Binding thread_local_by(elf::RelocType type, Binding binding, const elf::AtomSymbol& symbol,
                        const SymbolMap& symbols) {
  const elf::RelocTraits* traits = elf::find_traits(type);
  // binutils 2.40 bfd/elf64-x86-64.c: the linker's name for the start of the block; in an executable for
  // its end, which is where the thread pointer points.
  if (symbol.name == "_TLS_MODULE_BASE_" && binding.kind == BindingKind::Import) {
    binding.kind = symbols.is_library() ? BindingKind::ModuleOffset : BindingKind::TpOffset;
    binding.evidence = elf::Evidence::SymbolTable;
  }
  const bool own = binding.kind == BindingKind::ModuleOffset;
  if (!traits->via_got || (!own && binding.kind != BindingKind::Import)) {
    return binding;
  }
  std::optional<LinkAddr> slot;
  if (type == elf::RelocType::TLSLD) {
    slot = own ? symbols.find_tls_slot(type, 0) : std::nullopt;
  } else {
    const LinkAddr at(static_cast<uint64_t>(binding.tp_offset));
    const bool by_name = symbol.bind != elf::SymbolBind::Local &&
                         (!own || symbols.preemptible(symbol.name, at, true) != nullptr);
    slot = by_name ? symbols.find_tls_slot(type, symbol.name) : std::nullopt;
    if (!slot && own) {
      slot = symbols.find_tls_slot(type, binding.tp_offset);
    }
  }
  if (!slot && own && type != elf::RelocType::TLSLD && symbol.bind != elf::SymbolBind::Local) {
    const LinkAddr at(static_cast<uint64_t>(binding.tp_offset));
    if (const Export* exported = symbols.preemptible(symbol.name, at, true)) {
      binding = {.kind = BindingKind::Import, .version = exported->version};
    }
  }
  if (slot) {
    binding = {.kind = BindingKind::TlsSlot, .evidence = binding.evidence, .got_slot = *slot};
  }
  return binding;
}

}  // namespace

Binding as_the_target_does(Binding binding, const elf::AtomSymbol& symbol, elf::RelocType type,
                           const SymbolMap& symbols) {
  if (elf::find_traits(type)->tls) {
    return thread_local_by(type, std::move(binding), symbol, symbols);
  }
  if (!symbols.is_library() || binding.kind != BindingKind::Address ||
      symbol.bind == elf::SymbolBind::Local || symbol.visibility != elf::Visibility::Default) {
    return binding;
  }
  const ImportEntry* stub = symbols.import_by_stub(binding.address);
  if (stub != nullptr && stub->ifunc) {
    return through(*stub, stub->version);
  }
  const Export* exported = symbols.preemptible(symbol.name, binding.address);
  if (exported == nullptr) {
    return binding;
  }
  if (const ImportEntry* import = symbols.import_of(*exported)) {
    return through(*import, exported->version);
  }
  Binding out;
  out.kind = BindingKind::Import;
  out.version = exported->version;
  return out;
}

}  // namespace qp::match
