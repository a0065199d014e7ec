// Names are not unique: two files can define `static foo`, one file can have two `static int aaa`
// in two functions, and one *file name* can occur twice in a program. So a name yields candidates,
// and the FILE scope reduces their number; which one is right is for the proof to say.
//
// FILE scopes are a convention, not a promise. A linked program keeps the scope of each object's
// locals, but hidden globals join the locals behind the last scope, and link-time optimisation has
// files of its own. Where the convention does not hold, all entries of the name are candidates:
// that costs a comparison each, and never an error.

#include "match/candidates.h"

#include <fmt/format.h>

#include <algorithm>

#include "match/names.h"

namespace qp::match {
namespace {

using elf::AtomSymbol;
using elf::Binding;
using elf::BindingKind;
using elf::Evidence;
using elf::SymbolType;

bool same_kind(SymbolType wanted, SymbolType found) {
  const auto is_tls = [](SymbolType t) { return t == SymbolType::Tls; };
  const auto is_code = [](SymbolType t) {
    return t == SymbolType::Func || t == SymbolType::GnuIfunc;
  };
  const auto is_data = [](SymbolType t) { return t == SymbolType::Object; };
  return is_tls(wanted) == is_tls(found) && !(is_code(wanted) && is_data(found)) &&
         !(is_data(wanted) && is_code(found));
}

}  // namespace

std::vector<const MapEntry*> candidate_entries(const SymbolMap& map, const elf::AtomSymbol& symbol,
                                               std::optional<uint32_t> only_scope) {
  std::vector<const MapEntry*> entries = map.similar(symbol.name);
  std::erase_if(entries, [&](const MapEntry* e) {
    // An undefined symbol has no type of its own; TLS is told by its relocations, which the caller
    // knows, so both stay.
    return symbol.atom && !same_kind(symbol.type, e->type);
  });
  const auto is_local = [](const MapEntry* e) { return e->bind == elf::SymbolBind::Local; };
  if (!map.has_symtab()) {
    // What is left names globals, and perhaps functions; a name of the other kind is another thing.
    const bool local = symbol.bind == elf::SymbolBind::Local ||
                       symbol.visibility == elf::Visibility::Hidden ||
                       symbol.visibility == elf::Visibility::Internal;
    std::erase_if(entries, [&](const MapEntry* e) { return is_local(e) != local; });
    return entries;
  }
  if (symbol.bind != elf::SymbolBind::Local) {
    if (!std::all_of(entries.begin(), entries.end(), is_local)) {
      std::erase_if(entries, is_local);
    }
    return entries;
  }
  const std::vector<uint32_t> scopes = map.scopes_named(symbol.file);
  if (!symbol.file.empty() && !scopes.empty()) {
    std::erase_if(entries, [&](const MapEntry* e) {
      return !is_local(e) || !std::binary_search(scopes.begin(), scopes.end(), e->scope) ||
             (only_scope && e->scope != *only_scope);
    });
  }
  return entries;
}

std::set<uint32_t> scopes_at(const SymbolMap& map, const elf::AtomSymbol& symbol,
                             LinkAddr address) {
  std::set<uint32_t> found;
  const std::string plain = plain_name(symbol.name);
  const std::vector<uint32_t> scopes = map.scopes_named(symbol.file);
  for (const MapEntry* entry : map.at(address)) {
    if (entry->bind == elf::SymbolBind::Local && plain_name(entry->name) == plain &&
        std::binary_search(scopes.begin(), scopes.end(), entry->scope)) {
      found.insert(entry->scope);
    }
  }
  return found;
}

std::string list_of(const std::vector<LinkAddr>& addresses, const SymbolMap& map) {
  std::string list;
  for (const LinkAddr address : addresses) {
    const auto entries = map.at(address);
    const std::string file = entries.empty() ? "" : entries.front()->file;
    list += fmt::format("{}{:#x}{}", list.empty() ? "" : ", ", address.value,
                        file.empty() ? "" : " (" + file + ")");
  }
  return list;
}

namespace {

Binding binding_at(const MapEntry& entry, const AtomSymbol& symbol, const Target& target,
                   Report& report) {
  Binding binding;
  binding.evidence = Evidence::SymbolTable;
  if (entry.type != elf::SymbolType::Tls) {
    binding.kind = BindingKind::Address;
    binding.address = entry.address;
    if (entry.type == elf::SymbolType::GnuIfunc) {
      // The symbol's address is the resolver's. What the program calls is the stub.
      for (const ImportEntry& import : target.symbols.imports()) {
        if (import.ifunc && import.own == entry.address && import.stub.value != 0) {
          binding.address = import.stub;
          return binding;
        }
      }
      report.refuse("import-ifunc", symbol.name,
                    "the target defines it as an indirect function and never calls it");
      return {};
    }
    return binding;
  }
  if (!target.tls_block_end) {
    report.refuse("tls-unsupported", symbol.name, "the target has no thread-local storage");
    return {};
  }
  const bool library = target.symbols.is_library();
  binding.kind = library ? BindingKind::ModuleOffset : BindingKind::TpOffset;
  binding.tp_offset =
      static_cast<int64_t>(entry.address.value) + (library ? 0 : *target.tls_block_end);
  return binding;
}

Binding bind_defined(const AtomSymbol& symbol, const Target& target, std::optional<uint32_t> scope,
                     Report& report) {
  std::vector<const MapEntry*> entries = candidate_entries(target.symbols, symbol, scope);
  if (symbol.bind == elf::SymbolBind::Local && target.symbols.scopes_named(symbol.file).empty()) {
    entries.clear();  // without its FILE scope a local name says nothing
  }
  std::vector<LinkAddr> places;
  for (const MapEntry* entry : entries) {
    if (std::find(places.begin(), places.end(), entry->address) == places.end()) {
      places.push_back(entry->address);
    }
  }
  if (places.size() == 1) {
    return binding_at(*entries.front(), symbol, target, report);
  }
  if (places.empty()) {
    report.refuse(
        "symbol-missing", symbol.name,
        "no proven function refers to it, and the target's symbol table does not have it" +
            (symbol.file.empty() ? "" : " in a file " + symbol.file));
  } else {
    report.refuse(
        "symbol-ambiguous", symbol.name,
        "no proven function tells which of these it is: " + list_of(places, target.symbols));
  }
  return {};
}

Binding bind_external(const AtomSymbol& symbol, const Target& target, Report& report) {
  std::vector<const MapEntry*> entries = target.symbols.named(symbol.name);
  std::erase_if(entries, [](const MapEntry* e) { return e->bind == elf::SymbolBind::Local; });
  if (entries.empty()) {
    // A hidden global of another object is local in the linked program; what was imported is none.
    // One without a size can be that, or a label of assembly that nobody else means.
    entries = target.symbols.named(symbol.name);
    if (target.symbols.import_named(symbol.name) != nullptr) {
      entries.clear();
    }
    if (!entries.empty() && std::all_of(entries.begin(), entries.end(),
                                        [](const MapEntry* e) { return e->size == 0; })) {
      report.refuse(
          "symbol-ambiguous", symbol.name,
          fmt::format("the target has a local label of that name, {:#x}, and nothing shows "
                      "that it is this symbol",
                      entries.front()->address.value));
      return {};
    }
    std::erase_if(entries, [](const MapEntry* e) { return e->size == 0; });
  }
  std::vector<LinkAddr> places;
  for (const MapEntry* entry : entries) {
    if (std::find(places.begin(), places.end(), entry->address) == places.end()) {
      places.push_back(entry->address);
    }
  }
  if (places.size() > 1) {
    report.refuse("symbol-ambiguous", symbol.name,
                  "the target defines it more than once: " + list_of(places, target.symbols));
    return {};
  }
  if (places.size() == 1) {
    return binding_at(*entries.front(), symbol, target, report);
  }
  Binding binding;
  if (is_nothing(symbol, target.symbols)) {
    binding.kind = BindingKind::Address;
    binding.evidence = Evidence::SymbolTable;
    return binding;
  }
  binding.kind = BindingKind::Import;
  binding.version = symbol.version;
  if (const ImportEntry* import = target.symbols.import_named(symbol.name)) {
    binding.evidence = Evidence::SymbolTable;
    binding.version = import->version;
    binding.stub = import->stub;
    binding.got_slot = import->slot;
  } else if (symbol.name == "__tls_get_addr") {
    // The linker of an executable has rewritten all calls of it, and so does link.
  } else if (!target.symbols.has_symtab() && symbol.bind != elf::SymbolBind::Weak) {
    // What other modules define is among the dynamic symbols, so it is the target's own.
    report.refuse("symbol-missing", symbol.name,
                  "the target has lost its name, and no proven function refers to it");
    return {};
  } else if (target.symbols.is_static() && symbol.bind != elf::SymbolBind::Weak) {
    report.refuse("symbol-missing", symbol.name,
                  "the target is linked statically and does not have it");
    return {};
  }
  return binding;
}

}  // namespace

bool is_nothing(const AtomSymbol& symbol, const SymbolMap& map) {
  return map.is_static() && map.is_fixed() && symbol.bind == elf::SymbolBind::Weak &&
         map.named(symbol.name).empty();
}

Binding bind_by_name(const AtomSymbol& symbol, const Target& target, std::optional<uint32_t> scope,
                     Report& report) {
  if (symbol.anonymous) {
    report.refuse("symbol-missing", symbol.name, "no proven function refers to this data");
    return {};
  }
  return symbol.atom || symbol.bind == elf::SymbolBind::Local
             ? bind_defined(symbol, target, scope, report)
             : bind_external(symbol, target, report);
}

}  // namespace qp::match
