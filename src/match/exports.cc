// What a shared library defines for everybody, and how its own code reaches that.
//
// A definition of default visibility in .dynsym is preemptible: ld.so searches all modules in order
// and gives the first definition to everybody, to the library itself as well. A compiler for -fPIC
// knows that and goes through the PLT or the GOT; the linker leaves a dynamic relocation with the
// symbol there. If the linker may bind the reference by itself (-Bsymbolic, a version script,
// protected or hidden visibility) there is no such relocation, and the code leads directly to the
// definition. (psABI 1.0, 3.5 and 4.4; gABI chapter 5, "Dynamic Linking", DT_SYMBOLIC.)
//
// New code has to go the way of the old one: by name where that goes by name. -Bsymbolic is told in
// the dynamic section; -Bsymbolic-functions and --dynamic-list are not, and show only by the
// relocations that are absent. So a preemptible symbol that no relocation names is a question that
// is left to `apply`, which asks whether it makes a difference in the process.
//
// Thread-local variables of a library are reached through words in the GOT that ld.so fills: two
// for __tls_get_addr (module and offset), one with the offset from the thread pointer, or a
// descriptor. What the words are for is said by relocations alone, with a symbol or, for a variable
// that can't be preempted, without one and with the offset in the module's block: in the addend, or
// in the second of the two words.

#include <algorithm>

#include "match/symbol_map.h"

namespace qp::match {

using Kind = DynamicValue::Kind;

namespace {

std::optional<Kind> kind_of_slot(elf::RelocType type) {
  switch (type) {
    case elf::RelocType::TLSGD:
    case elf::RelocType::TLSLD:
      return Kind::ModuleId;
    case elf::RelocType::GOTTPOFF:
      return Kind::TpOffset;
    case elf::RelocType::GOTPC32_TLSDESC:
      return Kind::Descriptor;
    default:
      return std::nullopt;
  }
}

}  // namespace

void SymbolMap::read_exports(const elf::File& file) {
  if (!is_library_ || file.is_symbolic()) {
    return;
  }
  for (const elf::Symbol& symbol : file.dynamic_symbols()) {
    if (!symbol.defined() || symbol.bind == elf::SymbolBind::Local || symbol.name.empty()) {
      continue;
    }
    Export exported{symbol.name, symbol.version, LinkAddr(symbol.value),
                    symbol.type == elf::SymbolType::Tls};
    // Protected data may be reached through a slot, in case that an executable has a copy of it
    // (binutils, -z extern-protected-data).
    const ImportEntry* import = import_of(exported);
    const bool by_slot = symbol.visibility == elf::Visibility::Protected && import != nullptr &&
                         import->slot.value != 0;
    if (symbol.visibility == elf::Visibility::Default || by_slot) {
      exports_.push_back(std::move(exported));
    }
  }
  std::stable_sort(exports_.begin(), exports_.end(),
                   [](const Export& a, const Export& b) { return a.name < b.name; });
}

const Export* SymbolMap::preemptible(std::string_view name, LinkAddr address, bool tls) const {
  auto at = std::lower_bound(exports_.begin(), exports_.end(), name,
                             [](const Export& e, std::string_view n) { return e.name < n; });
  for (; at != exports_.end() && at->name == name; ++at) {
    if (at->address == address && at->tls == tls) {
      return &*at;
    }
  }
  return nullptr;
}

const ImportEntry* SymbolMap::import_of(const Export& symbol) const {
  std::string key = symbol.name;
  key += '\0';
  key += symbol.version;
  const auto at = import_names_.find(key);
  return at == import_names_.end() ? nullptr : &imports_[at->second];
}

bool SymbolMap::is_tls_slot(const DynamicValue& value, DynamicValue::Kind kind) const {
  if (value.kind != kind || (value.import && value.addend != 0)) {
    return false;
  }
  const DynamicValue* second = kind == Kind::ModuleId ? dynamic_value_at(value.at + 8) : nullptr;
  return kind != Kind::ModuleId ||
         (value.import ? second != nullptr && second->kind == Kind::ModuleOffset &&
                             second->import == value.import && second->addend == 0
                       : second == nullptr);
}

std::optional<LinkAddr> SymbolMap::find_tls_slot(elf::RelocType type, std::string_view name) const {
  const std::optional<Kind> kind = kind_of_slot(type);
  for (const DynamicValue& value : dynamic_) {
    if (kind && is_tls_slot(value, *kind) && value.import && imports_[*value.import].name == name) {
      return value.at;
    }
  }
  return std::nullopt;
}

std::optional<LinkAddr> SymbolMap::find_tls_slot(elf::RelocType type, int64_t offset) const {
  const std::optional<Kind> kind = kind_of_slot(type);
  for (const DynamicValue& value : dynamic_) {
    if (!kind || !is_tls_slot(value, *kind)) {
      continue;
    }
    // gold names the target's own variables, by local symbols.
    const ImportEntry* named = value.import ? &imports_[*value.import] : nullptr;
    const bool own =
        named != nullptr && named->defined && preemptible(named->name, named->own, true) == nullptr;
    if (named == nullptr ? value.addend == offset
                         : own && static_cast<int64_t>(named->own.value) == offset) {
      return value.at;
    }
  }
  return std::nullopt;
}

}  // namespace qp::match
