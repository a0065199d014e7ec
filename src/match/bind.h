// Binds the symbols of an original object to a target: candidates from the symbol map, proof by
// code, spreading from function to function until nothing more follows.
#pragma once

#include <vector>

#include "base/report.h"
#include "elf/atom.h"
#include "elf/binding.h"
#include "match/proof.h"

namespace qp::match {

struct ReplacedUnit {
  elf::AtomId function;
  LinkAddr entry;
  std::vector<LinkRange> ranges;  // function first, then its pieces
};

struct Matched {
  std::vector<elf::Binding> bindings;  // per symbol of the graph; Unbound where nobody asked or
                                       // nothing is known
  std::vector<ReplacedUnit> replaced;  // one per wanted function, same order
  // Of the whole object. Tried: could be searched for; fitting: proven somewhere, although perhaps
  // not chosen.
  uint32_t functions_proven = 0, functions_fitting = 0, functions_tried = 0;
};

// `replaced`: functions that must be proven, whatever it takes. `wanted`: symbols that must be
// bound. Findings: symbol-missing, symbol-ambiguous, code-differs (with the first difference),
// binding-conflict, function-missing, unconfirmed, code-folded. Results agree globally or are
// refused.
Matched match(const elf::AtomGraph& original, const std::vector<elf::AtomId>& replaced,
              const std::vector<elf::AtomSymbolId>& wanted, const Target& target, Report& report);

}  // namespace qp::match
