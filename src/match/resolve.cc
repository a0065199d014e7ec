// From "the target has this value where the object has that relocation" to "the symbol is there".
//
// A value leads to a symbol in more than one way. A call may land on a stub of the PLT, and then it
// is the stub's symbol that must have the right name; an address may come out of a GOT slot, which
// ld.so fills: the relocation of the slot says with what (in a process the slot has to agree with
// it, since a slot that somebody changed is a hook that the original code does not know). A slot
// without a relocation belongs to a static program, or its relocation was packed (RELR), and holds
// the address itself.
//
// What the symbol map knows about the name is a check and never the source: a name that the map has
// must be at the solved address, else the code is not the original's (another function is called).
// That is what catches a target of another version whose code differs in a call only. A name that
// the map does not have may have been stripped; but then the address must not be known under
// another name.
//
// A reference to a place inside a function is no address to solve with, since jumps of other widths
// shift code; inside the unit it is a label for check_labels(), elsewhere the map has to confirm
// it.

#include <fmt/format.h>

#include <algorithm>

#include "match/comparison.h"
#include "match/names.h"

namespace qp::match {
namespace {

using elf::AtomId;
using elf::AtomKind;
using elf::AtomSymbol;
using elf::AtomSymbolId;
using elf::Binding;
using elf::BindingKind;
using elf::Evidence;
using elf::SymbolBind;
using elf::SymbolType;

Binding bound_to(LinkAddr address) {
  Binding binding;
  binding.kind = BindingKind::Address;
  binding.evidence = Evidence::Proof;
  binding.address = address;
  return binding;
}

bool is_undefined_weak(const AtomSymbol& symbol) {
  return !symbol.atom && symbol.bind == SymbolBind::Weak;
}

// What the linker has resolved to nothing. Where all addresses are fixed it would put that zero into new
// code as well; elsewhere code reads it from a slot, and the process may still offer the symbol.
Binding nothing(bool fixed) {
  Binding binding = bound_to(LinkAddr(0));
  binding.kind = fixed ? BindingKind::Address : BindingKind::Import;
  return binding;
}

}  // namespace

AtomId Comparison::root_of(AtomId function) const {
  // A piece's parent is a function; two steps allow for a piece of a piece, and end any circle.
  for (int step = 0; step < 4; ++step) {
    const std::optional<AtomId> parent = graph_->atoms[function].parent;
    if (!parent || *parent >= graph_->atoms.size()) {
      break;
    }
    function = *parent;
  }
  return function;
}

// The address that a pointer at `place` holds, as linked. Nullopt: it can't be read, is written by
// ld.so with something else, or (in a process) differs from what ld.so wrote.
std::optional<LinkAddr> Comparison::read_address(LinkAddr place) const {
  const DynamicValue* dynamic = target_->symbols.dynamic_value_at(place);
  if (dynamic != nullptr && dynamic->kind != DynamicValue::Kind::Address) {
    return std::nullopt;
  }
  const std::optional<uint64_t> word = find_word(target_->memory, place);
  if (!word) {
    return std::nullopt;
  }
  if (!target_->live_bias) {
    return dynamic != nullptr ? dynamic->address : LinkAddr(*word);
  }
  const LinkAddr live = *word == 0 ? LinkAddr(0) : (*target_->live_bias)(LiveAddr(*word));
  if (dynamic != nullptr && live != dynamic->address) {
    return std::nullopt;
  }
  return live;
}

bool Comparison::refer_to(AtomSymbolId id, int64_t delta, LinkAddr there) {
  const AtomSymbol& symbol = graph_->symbols[id];
  const LinkAddr address = there - static_cast<uint64_t>(delta);
  if (symbol.atom && graph_->atoms[*symbol.atom].kind == AtomKind::Function) {
    const uint64_t offset = symbol.offset + static_cast<uint64_t>(delta);
    if (offset != 0) {
      if (offset > graph_->atoms[*symbol.atom].size) {
        return fail("the object refers to a place behind " + symbol.name);
      }
      if (root_of(*symbol.atom) == root_) {
        labels_.push_back({*symbol.atom, offset, there, site_});
        return true;
      }
      const AtomSymbol& whole = graph_->symbol_of(*symbol.atom);
      if (!is_named(whole, there - offset)) {
        return fail("it refers to a place inside " + whole.name +
                    ", which the symbol map does not confirm");
      }
    }
  }
  if (delta == 0 && is_undefined_weak(symbol) && target_->symbols.is_dead_stub(address)) {
    return solve(id, nothing(target_->symbols.is_fixed()));
  }
  if (delta == 0 && !symbol.anonymous && !is_named(symbol, address)) {
    if (const ImportEntry* import = target_->symbols.import_by_stub(address)) {
      return refer_import(id, *import, address);
    }
  }
  return solve_address(id, address);
}

bool Comparison::refer_by_pointer(AtomSymbolId id, int64_t delta, LinkAddr place) {
  const DynamicValue* dynamic = target_->symbols.dynamic_value_at(place);
  if (dynamic != nullptr && dynamic->kind == DynamicValue::Kind::Import) {
    const ImportEntry& import = target_->symbols.imports()[*dynamic->import];
    if (dynamic->addend != delta) {
      return fail(
          fmt::format("the target's pointer is to {} plus {}", import.name, dynamic->addend));
    }
    return refer_import(id, import, LinkAddr(0));
  }
  const std::optional<LinkAddr> there = read_address(place);
  if (!there) {
    return fail(
        fmt::format("the target's pointer at {:#x} is not what ld.so writes there", place.value));
  }
  return refer_to(id, delta, *there);
}

bool Comparison::refer_by_slot(AtomSymbolId id, int64_t delta, LinkAddr slot) {
  // An addend counts from the slot and not from the symbol; no compiler makes one.
  return refer_by_pointer(id, 0, slot - static_cast<uint64_t>(delta));
}

bool Comparison::refer_import(AtomSymbolId id, const ImportEntry& import, LinkAddr stub) {
  const AtomSymbol& symbol = graph_->symbols[id];
  const auto names_it = [&](LinkAddr address) {
    const auto entries = target_->symbols.at(address);
    return std::any_of(entries.begin(), entries.end(),
                       [&](const MapEntry* entry) { return entry->name == symbol.name; });
  };
  if (import.ifunc) {
    // The target's own IFUNC: calls go to the stub, whose address is what everybody else uses.
    const bool named = import.name == symbol.name || names_it(import.own);
    if (!named && target_->symbols.has_symtab()) {
      return fail(fmt::format("the target uses an indirect function at {:#x}, not {}",
                              import.own.value, symbol.name));
    }
    if (symbol.atom) {
      return true;  // the atom is the resolver, and this is not where it is
    }
    const LinkAddr at = stub.value != 0 ? stub : import.stub;
    if (at.value == 0) {
      return fail("the target's indirect function has no stub");
    }
    return solve(id, bound_to(at));
  }
  if (import.name != symbol.name) {
    return fail(fmt::format("the target uses {}, not {}", import.name, symbol.name));
  }
  if (!symbol.version.empty() && !import.version.empty() && symbol.version != import.version) {
    return fail(fmt::format("the target uses {} of version {}, not {}", import.name, import.version,
                            symbol.version));
  }
  if (import.own.value != 0) {
    return solve_address(id, import.own);
  }
  if (symbol.atom) {
    return fail(fmt::format("the target imports {}, which the object defines", symbol.name));
  }
  Binding binding;
  binding.kind = BindingKind::Import;
  binding.evidence = Evidence::Proof;
  binding.version = import.version;
  binding.stub = import.stub;
  binding.got_slot = import.slot;
  return solve(id, std::move(binding));
}

bool Comparison::is_named(const AtomSymbol& symbol, LinkAddr address) const {
  const auto entries = target_->symbols.at(address);
  return std::any_of(entries.begin(), entries.end(), [&](const MapEntry* entry) {
    return plain_name(entry->name) == plain_name(symbol.name);
  });
}

// The target has at `address` the name of another symbol of the same place: an alias, whose own name
// was stripped.
bool Comparison::has_alias_named(const AtomSymbol& symbol, LinkAddr address) const {
  return symbol.atom &&
         std::any_of(graph_->symbols.begin(), graph_->symbols.end(), [&](const AtomSymbol& other) {
           return other.atom == symbol.atom && other.offset == symbol.offset &&
                  is_named(other, address);
         });
}

bool Comparison::check_name(const AtomSymbol& symbol, LinkAddr address) {
  if (symbol.anonymous || symbol.name.empty() || symbol.name.starts_with(".L") ||
      is_named(symbol, address)) {
    return true;
  }
  std::string known;
  for (const MapEntry* entry : target_->symbols.similar(symbol.name)) {
    // Where .symtab is lost, a global's name says nothing about a local of that name.
    const bool comparable = target_->symbols.has_symtab() || symbol.bind != SymbolBind::Local ||
                            entry->bind == SymbolBind::Local;
    if (entry->type != SymbolType::Tls && comparable) {
      known = fmt::format("{:#x}", entry->address.value);
      break;
    }
  }
  std::string other;
  for (const MapEntry* entry : target_->symbols.at(address)) {
    if (entry->type != SymbolType::NoType && entry->type != SymbolType::Section) {
      other = entry->name;
    }
  }
  // A global that the object does not define is either known by name, or it is another module's and
  // its address can't come up here: a call that lands beside a stub is a call of something else.
  const bool must_be_known =
      !symbol.atom && symbol.bind != SymbolBind::Local &&
      (target_->symbols.has_symtab() || target_->symbols.import_named(symbol.name) != nullptr);
  if (known.empty() && other.empty() && !must_be_known) {
    return true;
  }
  if (!target_->symbols.has_symtab() && has_alias_named(symbol, address)) {
    return true;
  }
  return fail(fmt::format("the target has {:#x}{} where the object has {}{}", address.value,
                          other.empty() ? "" : " (" + other + ")", symbol.name,
                          known.empty() ? "" : " (in the target: " + known + ")"));
}

bool Comparison::solve_address(AtomSymbolId id, LinkAddr address) {
  const AtomSymbol& symbol = graph_->symbols[id];
  if (is_undefined_weak(symbol) && address.value == 0) {
    return solve(id, nothing(target_->symbols.is_fixed()));
  }
  if (!check_name(symbol, address)) {
    return false;
  }
  if (!symbol.atom) {
    return solve(id, bound_to(address));
  }
  const elf::Atom& atom = graph_->atoms[*symbol.atom];
  const LinkAddr base = address - symbol.offset;
  // Equal bytes that can be overwritten are no constant, and code is not data.
  const SymbolMap& map = target_->symbols;
  if (atom.size != 0 &&
      (atom.kind == AtomKind::Function          ? !map.is_executable(base)
       : atom.storage == elf::Storage::ReadOnly ? !map.is_constant({base, base + atom.size})
       : elf::is_writable(atom.storage)         ? !map.is_writable(base)
                                                : false)) {
    return fail(fmt::format("{} would be at {:#x}, which is not memory of that kind", symbol.name,
                            base.value));
  }
  Bytes first(1);
  if (atom.size != 0 && !target_->memory.try_read(base, first)) {
    return fail(
        fmt::format("{} would be at {:#x}, where nothing is mapped", symbol.name, base.value));
  }
  if (!solve(id, bound_to(base))) {
    return false;
  }
  if (atom.kind != AtomKind::Function &&
      (atom.storage == elf::Storage::ReadOnly || atom.storage == elf::Storage::RelRo) &&
      contents_seen_.emplace(*symbol.atom, base).second) {
    contents_.emplace_back(*symbol.atom, base);
    content_sites_.push_back(site_);
  }
  return true;
}

// `binding` is that of the atom, if the symbol has one.
bool Comparison::solve(AtomSymbolId id, Binding binding) {
  const AtomSymbolId key = canonical(*graph_, id);
  const auto [at, fresh] = solved_.emplace(key, binding);
  if (!fresh && at->second != binding && !is_content_only(*graph_, key)) {
    return fail(fmt::format("{} is {}, but was found {} before", graph_->symbols[id].name,
                            place_of(binding), place_of(at->second)));
  }
  if (id != key) {
    aliases_.insert(id);
  }
  return true;
}

bool Comparison::check_tls_name(const AtomSymbol& symbol, int64_t block_offset) {
  bool known = false;
  for (const MapEntry* entry : target_->symbols.similar(symbol.name)) {
    if (entry->type == SymbolType::Tls) {
      known = true;
      if (entry->address.value == static_cast<uint64_t>(block_offset)) {
        return true;
      }
    }
  }
  return !known || symbol.anonymous ||
         fail(fmt::format("the target uses another thread-local variable than {}", symbol.name));
}

bool Comparison::refer_tp_offset(AtomSymbolId id, int64_t delta, int64_t value) {
  const AtomSymbol& symbol = graph_->symbols[id];
  const int64_t offset = value - delta;
  if (target_->tls_block_end && !check_tls_name(symbol, offset - *target_->tls_block_end)) {
    return false;
  }
  Binding binding;
  binding.kind = BindingKind::TpOffset;
  binding.evidence = Evidence::Proof;
  binding.tp_offset = offset - (symbol.atom ? static_cast<int64_t>(symbol.offset) : 0);
  return solve(id, std::move(binding));
}

bool Comparison::refer_tp_slot(AtomSymbolId id, int64_t delta, LinkAddr slot) {
  slot = slot - static_cast<uint64_t>(delta);
  const DynamicValue* dynamic = target_->symbols.dynamic_value_at(slot);
  if (dynamic == nullptr) {
    const std::optional<uint64_t> word = find_word(target_->memory, slot);
    return word ? refer_tp_offset(id, 0, static_cast<int64_t>(*word))
                : fail("the target's slot for a TLS offset can't be read");
  }
  if (dynamic->kind != DynamicValue::Kind::TpOffset) {
    return fail("the target's slot does not hold a TLS offset");
  }
  if (!dynamic->import) {
    return refer_module_offset(id, dynamic->addend);
  }
  const ImportEntry& import = target_->symbols.imports()[*dynamic->import];
  const AtomSymbol& symbol = graph_->symbols[id];
  if (import.name != symbol.name) {
    return fail(fmt::format("the target uses {}, not {}", import.name, symbol.name));
  }
  if (import.defined) {
    return refer_module_offset(id, static_cast<int64_t>(import.own.value));
  }
  if (symbol.atom) {
    return fail(fmt::format("the target imports {}, which the object defines", symbol.name));
  }
  Binding binding;
  binding.kind = BindingKind::Import;
  binding.evidence = Evidence::Proof;
  binding.version = import.version;
  binding.got_slot = slot;
  return solve(id, std::move(binding));
}

bool Comparison::find_module_block(ModuleBlock how, int64_t offset) {
  if (module_block_ != ModuleBlock::Unknown &&
      (module_block_ != how || module_block_offset_ != offset)) {
    return fail("the TLS block is found in two ways");
  }
  // Most linkers make offsets from the thread pointer of the offsets in the block, too; mold keeps
  // them, and lets the code find the block's start.
  if (offset != 0 && offset != target_->tls_block_end) {
    return fail("the TLS block is elsewhere");
  }
  module_block_ = how;
  module_block_offset_ = offset;
  return true;
}

// The local-dynamic model with descriptors asks for the block by a symbol of the linker's
// (binutils 2.40 bfd/elf64-x86-64.c, "_TLS_MODULE_BASE_").
bool Comparison::is_module_base(AtomSymbolId id) const {
  return !graph_->symbols[id].atom && graph_->symbols[id].name == "_TLS_MODULE_BASE_";
}

// The sequences that linkers leave alone in a library: two slots, or a descriptor.
bool Comparison::refer_dynamic_tls(elf::RelocType type, AtomSymbolId id, int64_t delta,
                                   LinkAddr slot) {
  slot = slot - static_cast<uint64_t>(delta);
  const DynamicValue* first = target_->symbols.dynamic_value_at(slot);
  // An executable's own module has number 1, which a linker may write itself (glibc 2.36
  // elf/dl-tls.c, _dl_assign_tls_modid: numbers from 1, the executable first).
  const bool linked =
      first == nullptr && !target_->symbols.is_library() && find_word(target_->memory, slot) == 1;
  if (type == elf::RelocType::TLSLD && linked) {
    return find_module_block(ModuleBlock::Called);
  }
  if (type == elf::RelocType::TLSLD) {
    if (first == nullptr || first->kind != DynamicValue::Kind::ModuleId || first->import) {
      return fail("the target does not fetch the TLS block of its own module");
    }
    return find_module_block(ModuleBlock::Called);
  }
  const bool descriptor = type == elf::RelocType::GOTPC32_TLSDESC;
  if (linked && !descriptor) {
    const std::optional<uint64_t> offset = find_word(target_->memory, slot + sizeof(uint64_t));
    return offset ? refer_module_offset(id, static_cast<int64_t>(*offset))
                  : fail("the target's slot for a TLS offset can't be read");
  }
  if (first == nullptr ||
      first->kind != (descriptor ? DynamicValue::Kind::Descriptor : DynamicValue::Kind::ModuleId)) {
    return fail("the target has no slots for a thread-local variable there");
  }
  if (first->import) {
    const ImportEntry& import = target_->symbols.imports()[*first->import];
    const DynamicValue* second =
        descriptor ? first : target_->symbols.dynamic_value_at(slot + sizeof(uint64_t));
    if (second == nullptr || second->import != first->import ||
        import.name != graph_->symbols[id].name) {
      return fail(fmt::format("the target uses {}, not {}", import.name, graph_->symbols[id].name));
    }
    if (is_module_base(id)) {  // gold names it
      return (import.own.value == 0 || fail("the TLS block is elsewhere")) &&
             find_module_block(ModuleBlock::Called);
    }
    return !import.defined || refer_module_offset(id, static_cast<int64_t>(import.own.value));
  }
  if (descriptor && is_module_base(id)) {
    return (first->addend == 0 || fail("the TLS block is elsewhere")) &&
           find_module_block(ModuleBlock::Called);
  }
  if (descriptor) {
    return refer_module_offset(id, first->addend);
  }
  const std::optional<uint64_t> offset = find_word(target_->memory, slot + sizeof(uint64_t));
  return offset ? refer_module_offset(id, static_cast<int64_t>(*offset))
                : fail("the target's slot for a TLS offset can't be read");
}

// An offset in the module's block identifies the variable in this module. Of an executable it is an
// offset from the thread pointer as well, and that is what other code of it may have.
bool Comparison::refer_module_offset(AtomSymbolId id, int64_t value) {
  const AtomSymbol& symbol = graph_->symbols[id];
  if (!check_tls_name(symbol, value)) {
    return false;
  }
  Binding binding;
  binding.kind = BindingKind::ModuleOffset;
  binding.evidence = Evidence::Proof;
  binding.tp_offset = value - (symbol.atom ? static_cast<int64_t>(symbol.offset) : 0);
  if (!target_->symbols.is_library() && target_->tls_block_end) {
    binding.kind = BindingKind::TpOffset;
    binding.tp_offset += *target_->tls_block_end;
  }
  return solve(id, std::move(binding));
}

bool Comparison::refer_size(AtomSymbolId id, int64_t delta, int64_t value) {
  const AtomSymbol& symbol = graph_->symbols[id];
  if (!symbol.atom) {
    return fail("the size of " + symbol.name + " is another module's");
  }
  return value == static_cast<int64_t>(symbol.size) + delta ||
         fail("another size of " + symbol.name);
}

}  // namespace qp::match
