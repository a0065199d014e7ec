// A compile database knows more units than a target holds, and to leave one out is a decision about
// the repair: a unit that is there in another version, or compiled with other flags, must not be
// taken for one of another program. That nothing of its code was found says nothing by itself; the
// target has to show that the unit is not there.
//
// A symbol table does by its FILE symbols: each unit that was linked has left one. If the target has
// any, and as many of the unit's file name as there are other units of that name proven in it, none
// is left for this one. More of them than that may be this unit's; fewer mean that the count can't
// be trusted. Without any (`ld -x`, `strip -g`) a symbol table shows nothing of the kind.
//
// A target without names is searched for all of the unit's code. One of which nothing is there,
// while others are, is not in it; if nothing of any unit is there, the compilations are not the
// target's. With very few functions "nothing is there" may as well mean another version of them.

#include "build/absence.h"

#include <algorithm>

#include "match/names.h"

namespace qp::build {
namespace {

constexpr uint32_t kFewest = 3;  // functions that show by their absence that a unit is not there

}  // namespace

std::set<LinkAddr> places_of(const elf::AtomGraph& original, const match::Matched& matched) {
  std::set<LinkAddr> places;
  for (elf::AtomSymbolId id = 0; id < matched.bindings.size(); ++id) {
    const elf::AtomSymbol& symbol = original.symbols[id];
    const elf::Binding& binding = matched.bindings[id];
    if (symbol.atom && original.atoms[*symbol.atom].kind == elf::AtomKind::Function &&
        symbol.bind != elf::SymbolBind::Weak && binding.kind == elf::BindingKind::Address) {
      places.insert(binding.address);
    }
  }
  return places;
}

void Absence::add_present(const elf::AtomGraph& original, const match::Matched& matched) {
  std::set<LinkAddr> places = places_of(original, matched);
  const bool again = std::any_of(places.begin(), places.end(),
                                 [&](LinkAddr place) { return taken_.contains(place); });
  taken_.merge(places);
  for (const elf::AtomSymbol& symbol : original.symbols) {
    if (symbol.atom && symbol.bind != elf::SymbolBind::Local) {
      globals_.insert(symbol.name);
    }
  }
  const std::string name(match::base_name(original.source));
  known_[name] += again ? 0 : 1;
}

bool Absence::has_own_global(const elf::AtomGraph& original) const {
  return has_global_of(original, target_.symbols, globals_);
}

bool Absence::shows_absence(const elf::AtomGraph& original, const match::Matched& matched) const {
  const match::SymbolMap& symbols = target_.symbols;
  if (matched.functions_fitting != 0 || has_own_global(original)) {
    return false;
  }
  if (!symbols.has_symtab()) {
    return !known_.empty() && matched.functions_tried >= kFewest;
  }
  const auto known = known_.find(std::string(match::base_name(original.source)));
  return symbols.has_files() && !original.source.empty() &&
         symbols.scopes_named(original.source).size() ==
             (known == known_.end() ? 0 : known->second);
}

}  // namespace qp::build
