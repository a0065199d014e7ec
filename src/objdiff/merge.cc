// Link-time optimisation cuts a program into partitions, and where it cuts may depend on any change
// of the source. Taken together they are the program, whatever the cuts: a function that has moved
// to another partition is compared with itself.

#include "objdiff/merge.h"

#include <map>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace qp::objdiff {
namespace {

using elf::AtomSymbol;
using elf::AtomSymbolId;

bool is_shared(const AtomSymbol& symbol) {
  return symbol.bind != elf::SymbolBind::Local && !symbol.anonymous;
}

// Where a reference to an undefined symbol leads, now that it is defined beside it.
struct Definition {
  AtomSymbolId symbol;  // of the atom
  int64_t offset;       // of the name in the atom
};

void append(elf::AtomGraph& all, elf::AtomGraph&& part, uint32_t object) {
  const auto atoms = static_cast<elf::AtomId>(all.atoms.size());
  const auto symbols = static_cast<AtomSymbolId>(all.symbols.size());
  for (AtomSymbol& symbol : part.symbols) {
    if (symbol.atom) {
      *symbol.atom += atoms;
    }
    if (symbol.anonymous) {
      symbol.name =
          fmt::format("{}.{}", symbol.name.substr(0, symbol.name.rfind('.')), all.symbols.size());
    }
    all.symbols.push_back(std::move(symbol));
  }
  for (elf::Atom& atom : part.atoms) {
    atom.symbol += symbols;
    atom.object = object;
    if (atom.parent) {
      *atom.parent += atoms;
    }
    for (elf::Ref& ref : atom.refs) {
      ref.symbol += symbols;
    }
    for (elf::FrameEntry& frame : atom.frames) {
      for (auto* ref : {&frame.personality, &frame.lsda}) {
        if (*ref) {
          (*ref)->symbol += symbols;
        }
      }
    }
    all.atoms.push_back(std::move(atom));
  }
}

}  // namespace

elf::AtomGraph merge(std::vector<elf::AtomGraph> graphs) {
  if (graphs.size() == 1) {
    return std::move(graphs.front());
  }
  elf::AtomGraph all;
  uint32_t object = 0;
  for (elf::AtomGraph& graph : graphs) {
    append(all, std::move(graph), object++);
  }
  std::map<std::pair<std::string, std::string>, Definition> defined;
  std::map<std::pair<std::string, std::string>, AtomSymbolId> undefined;
  std::vector<Definition> leads(all.symbols.size());
  for (AtomSymbolId id = 0; id < all.symbols.size(); ++id) {
    const AtomSymbol& symbol = all.symbols[id];
    leads[id] = {id, 0};
    if (symbol.atom && is_shared(symbol)) {
      defined.emplace(std::pair(symbol.name, ""), Definition{all.atoms[*symbol.atom].symbol,
                                                             static_cast<int64_t>(symbol.offset)});
    }
  }
  for (AtomSymbolId id = 0; id < all.symbols.size(); ++id) {
    const AtomSymbol& symbol = all.symbols[id];
    if (symbol.atom || !is_shared(symbol)) {
      continue;
    }
    auto here = defined.find({symbol.name, symbol.version});
    if (here != defined.end()) {
      leads[id] = here->second;
    } else {
      leads[id] = {undefined.emplace(std::pair(symbol.name, symbol.version), id).first->second, 0};
    }
  }
  auto redirect = [&](elf::Ref& ref) {
    ref.addend += leads[ref.symbol].offset;
    ref.symbol = leads[ref.symbol].symbol;
  };
  for (elf::Atom& atom : all.atoms) {
    for (elf::Ref& ref : atom.refs) {
      redirect(ref);
    }
    for (elf::FrameEntry& frame : atom.frames) {
      for (auto* ref : {&frame.personality, &frame.lsda}) {
        if (*ref) {
          redirect(**ref);
        }
      }
    }
  }
  return all;
}

}  // namespace qp::objdiff
