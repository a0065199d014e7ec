// Numbers of atoms and symbols change when graphs are joined, and nothing else of them does. What
// more than one of them refers to outside becomes one symbol, so that it gets one slot and one fill.

#include "build/merger.h"

#include <fmt/format.h>

namespace qp::build {

using elf::Atom;
using elf::AtomGraph;
using elf::AtomId;
using elf::AtomSymbol;
using elf::AtomSymbolId;
using elf::Binding;

AtomSymbolId Merger::add_symbol(AtomSymbol symbol, Binding binding) {
  auto id = static_cast<AtomSymbolId>(graph.symbols.size());
  if (symbol.anonymous) {
    std::string name = symbol.name;
    for (int i = 1; !anonymous_.insert(symbol.name).second; ++i) {
      symbol.name = fmt::format("{}.u{}", name, i);
    }
  }
  graph.symbols.push_back(std::move(symbol));
  bindings.push_back(std::move(binding));
  return id;
}

AtomSymbolId Merger::add_external(AtomSymbol symbol, Binding binding) {
  symbol.atom = std::nullopt;
  symbol.offset = 0;
  auto& known = externals_[{symbol.name, symbol.file}];
  for (AtomSymbolId id : known) {
    if (bindings[id] == binding) {
      return id;
    }
  }
  known.push_back(add_symbol(std::move(symbol), std::move(binding)));
  return known.back();
}

AtomSymbolId Merger::expect(const std::string& name) {
  auto known = expected_.find(name);
  if (known == expected_.end()) {
    AtomSymbol symbol;
    symbol.name = name;
    symbol.bind = elf::SymbolBind::Global;
    symbol.visibility = elf::Visibility::Hidden;
    known = expected_.emplace(name, add_symbol(std::move(symbol), {})).first;
  }
  return known->second;
}

void Merger::add_atoms(const AtomGraph& from, const std::vector<AtomId>& ids,
                       std::map<AtomId, AtomId>& atoms,
                       std::map<AtomSymbolId, AtomSymbolId>& symbols) {
  for (AtomId id : ids) {
    atoms[id] = static_cast<AtomId>(graph.atoms.size());
    graph.atoms.push_back(from.atoms[id]);
  }
  for (AtomSymbolId id = 0; id < from.symbols.size(); ++id) {
    const AtomSymbol& symbol = from.symbols[id];
    if (!symbol.atom || !atoms.contains(*symbol.atom)) {
      continue;
    }
    AtomSymbol copy = symbol;
    copy.atom = atoms.at(*symbol.atom);
    const auto wanted = expected_.find(symbol.name);
    if (wanted != expected_.end() && symbol.bind == elf::SymbolBind::Global) {
      symbols[id] = wanted->second;
      graph.symbols[wanted->second] = std::move(copy);
    } else {
      symbols[id] = add_symbol(std::move(copy), {});
    }
  }
  for (AtomId id : ids) {
    Atom& atom = graph.atoms[atoms.at(id)];
    atom.symbol = symbols.at(atom.symbol);
    if (atom.parent) {
      auto it = atoms.find(*atom.parent);
      atom.parent = it == atoms.end() ? std::nullopt : std::optional<AtomId>(it->second);
    }
  }
}

}  // namespace qp::build
