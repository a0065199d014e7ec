// Where the symbol map says that something of an object may be.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/report.h"
#include "elf/atom.h"
#include "elf/binding.h"
#include "match/proof.h"
#include "match/symbol_map.h"

namespace qp::match {

// Which entries of a name come into question for `symbol`. A local symbol: local entries in a FILE
// scope of the object's file name, or in any scope if the map knows no such file (link-time
// optimisation names its own). A global symbol: global entries; if there are none, local ones,
// since hidden globals become local in a linked program. Numbers that the compiler added are
// ignored. `only_scope`: the one scope that the object is known to be.
std::vector<const MapEntry*> candidate_entries(const SymbolMap& map, const elf::AtomSymbol& symbol,
                                               std::optional<uint32_t> only_scope = std::nullopt);

// The FILE scopes whose local entry of such a name is at `address`: what a solved address of a
// local symbol says about which file the object is.
std::set<uint32_t> scopes_at(const SymbolMap& map, const elf::AtomSymbol& symbol, LinkAddr address);

// "0x1234 (a.c), 0x5678 (b.c)"
std::string list_of(const std::vector<LinkAddr>& addresses, const SymbolMap& map);

// What the symbol map alone says about a symbol that no proven code mentions: the one candidate, or
// a refusal (symbol-missing, symbol-ambiguous). A symbol that the object does not define can be one
// of another module: then an import, through the target's stub and slot if it has them. `scope`:
// the object's FILE scope, if known.
elf::Binding bind_by_name(const elf::AtomSymbol& symbol, const Target& target,
                          std::optional<uint32_t> scope, Report& report);

// Whether an undefined symbol is a weak one of a static program that is linked at its address, where its
// linker has put, or would put, zero.
bool is_nothing(const elf::AtomSymbol& symbol, const SymbolMap& map);

}  // namespace qp::match
