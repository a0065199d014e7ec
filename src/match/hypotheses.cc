// Names give candidates where the target has them: all entries of a function's name, reduced by its
// FILE scope. Where a target has lost its .symtab, globals that it exports still have their names;
// for all other functions the code itself is searched (code_search.h). Both kinds are proven the
// same way. They differ in what a proof is worth: a named place is the function or another version
// of it, but a place that only looks right may be a twin of it in another file.

#include "match/hypotheses.h"

#include <fmt/format.h>

#include "match/candidates.h"
#include "match/code_search.h"
#include "match/comparison.h"

namespace qp::match {

using elf::AtomId;
using elf::AtomKind;
using elf::AtomSymbol;
using elf::AtomSymbolId;
using elf::Binding;
using elf::BindingKind;

const Candidate* Function::only() const {
  const Candidate* found = nullptr;
  for (const Candidate& candidate : candidates) {
    if (candidate.alive) {
      if (found != nullptr) {
        return nullptr;
      }
      found = &candidate;
    }
  }
  return found;
}

Hypotheses::Hypotheses(const elf::AtomGraph& graph, const Target& target)
    : graph_(graph),
      target_(target),
      known_(graph.symbols.size()),
      known_from_(graph.symbols.size(), nullptr) {
  find_candidates();
}

Function* Hypotheses::find(AtomId id) {
  const auto at = function_of_.find(id);
  return at == function_of_.end() ? nullptr : &functions_[at->second];
}

bool Hypotheses::add_candidate(Function& function, LinkAddr at, std::set<uint32_t> scopes,
                               bool named) {
  for (Candidate& known : function.candidates) {
    if (known.at == at) {
      known.scopes.merge(scopes);
      known.named |= named;
      return false;
    }
  }
  Candidate candidate{at, std::move(scopes), prove_unit(graph_, function.id, at, target_), false,
                      named};
  candidate.alive = candidate.proof.proven;
  function.candidates.push_back(std::move(candidate));
  return true;
}

void Hypotheses::find_candidates() {
  std::vector<AtomId> nameless;
  for (AtomId id = 0; id < graph_.atoms.size(); ++id) {
    const elf::Atom& atom = graph_.atoms[id];
    if (atom.kind != AtomKind::Function || atom.parent) {
      continue;
    }
    Function function;
    function.id = id;
    function.complete = true;
    const auto entries = candidate_entries(target_.symbols, graph_.symbols[atom.symbol]);
    for (const MapEntry* entry : entries) {
      const bool local = entry->bind == elf::SymbolBind::Local;
      // Without its file a local name is worth something only if no other one is like it.
      const bool named = target_.symbols.has_symtab() || !local || entries.size() == 1;
      add_candidate(function, entry->address,
                    local ? std::set<uint32_t>{entry->scope} : std::set<uint32_t>{}, named);
    }
    if (function.candidates.empty() && !target_.symbols.has_symtab()) {
      nameless.push_back(id);
    }
    function_of_[id] = functions_.size();
    functions_.push_back(std::move(function));
  }
  if (nameless.empty()) {
    return;
  }
  const std::vector<Places> places = find_places(graph_, nameless, target_);
  for (size_t i = 0; i < nameless.size(); ++i) {
    Function& function = *find(nameless[i]);
    function.complete = places[i].complete;
    for (const LinkAddr at : places[i].at) {
      add_candidate(function, at);
    }
  }
}

std::string Hypotheses::contradiction(const Candidate& candidate) const {
  for (const Solution& solution : candidate.proof.solutions) {
    if (canonical(graph_, solution.symbol) != solution.symbol) {
      continue;
    }
    const Binding& known = known_[solution.symbol];
    if (known.kind != BindingKind::Unbound && known != solution.binding &&
        !is_content_only(graph_, solution.symbol)) {
      return fmt::format("{} is {} for it, and {} for {}", graph_.symbols[solution.symbol].name,
                         place_of(solution.binding), place_of(known),
                         graph_.name_of(known_from_[solution.symbol]->id));
    }
  }
  return "";
}

void Hypotheses::choose(Function& function, const Candidate& candidate) {
  function.chosen = static_cast<size_t>(&candidate - function.candidates.data());
  learn(function, candidate);
}

void Hypotheses::learn(const Function& function, const Candidate& candidate) {
  for (const Solution& solution : candidate.proof.solutions) {
    if (canonical(graph_, solution.symbol) != solution.symbol ||
        known_[solution.symbol].kind != BindingKind::Unbound) {
      continue;
    }
    known_[solution.symbol] = solution.binding;
    known_from_[solution.symbol] = &function;
    const AtomSymbol& symbol = graph_.symbols[solution.symbol];
    if (symbol.bind == elf::SymbolBind::Local && !symbol.anonymous &&
        solution.binding.kind == BindingKind::Address) {
      const std::set<uint32_t> scopes =
          scopes_at(target_.symbols, symbol, solution.binding.address);
      if (scopes.size() == 1) {  // several: folded code says nothing
        scopes_.insert(*scopes.begin());
      }
    }
  }
}

void Hypotheses::forget(const std::set<AtomId>& functions) {
  std::fill(known_.begin(), known_.end(), Binding{});
  std::fill(known_from_.begin(), known_from_.end(), nullptr);
  scopes_.clear();
  for (Function& function : functions_) {
    if (functions.count(function.id) != 0) {
      function.chosen.reset();
    } else if (const Candidate* choice = function.choice()) {
      learn(function, *choice);
    }
  }
}

std::vector<Solution> Hypotheses::own_solutions(const Candidate& candidate) const {
  std::vector<Solution> own;
  for (const Solution& solution : candidate.proof.solutions) {
    if (graph_.symbols[solution.symbol].atom &&
        canonical(graph_, solution.symbol) == solution.symbol &&
        !is_content_only(graph_, solution.symbol)) {
      own.push_back(solution);
    }
  }
  return own;
}

}  // namespace qp::match
