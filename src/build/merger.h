// A graph that grows by atoms of other graphs, with the bindings of its symbols. Private to build.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "elf/atom.h"
#include "elf/binding.h"

namespace qp::build {

class Merger {
 public:
  elf::AtomGraph graph;
  std::vector<elf::Binding> bindings;

  elf::AtomSymbolId add_symbol(elf::AtomSymbol symbol, elf::Binding binding);

  // One symbol per thing outside, however many units refer to it.
  elf::AtomSymbolId add_external(elf::AtomSymbol symbol, elf::Binding binding);

  // The symbol of a global of the runtime, whose atom has to be added later.
  elf::AtomSymbolId expect(const std::string& name);
  bool expects_any() const { return !expected_.empty(); }
  bool expects(const std::string& name) const { return expected_.contains(name); }

  // Atoms of `from` with their symbols; the refs are still those of `from`. Ascending `ids`. Globals
  // that are expected become what was expected.
  void add_atoms(const elf::AtomGraph& from, const std::vector<elf::AtomId>& ids,
                 std::map<elf::AtomId, elf::AtomId>& atoms,
                 std::map<elf::AtomSymbolId, elf::AtomSymbolId>& symbols);

  // Calls `resolve(ref, atom)` for every reference of the atom, in order; its result is the new
  // symbol. It may add symbols, but no atoms.
  template <class F>
  void map_refs(elf::AtomId id, const F& resolve) {
    elf::Atom& atom = graph.atoms[id];
    for (elf::Ref& ref : atom.refs) {
      ref.symbol = resolve(ref, atom);
    }
    for (elf::FrameEntry& frame : atom.frames) {
      for (std::optional<elf::Ref>* ref : {&frame.personality, &frame.lsda}) {
        if (*ref) {
          (*ref)->symbol = resolve(**ref, atom);
        }
      }
    }
  }

 private:
  std::set<std::string> anonymous_;
  std::map<std::string, elf::AtomSymbolId> expected_;
  std::map<std::pair<std::string, std::string>, std::vector<elf::AtomSymbolId>> externals_;
};

}  // namespace qp::build
