// From single proofs to one answer for an object.
//
// A proof says: if the function is here, then its symbols are there. It can be right for more than
// one place, since programs contain the same small function many times, and two files may hold the
// same `static foo` that uses the same `static var` of its own. What tells twins apart is who calls
// them and what else they belong to. So all functions of the object are compared with all their
// candidates, each on its own, and then candidates are struck out until nothing more follows:
//
//   1. a function with one candidate left is committed, and what it solved holds for the object;
//   2. a candidate that contradicts what holds is struck out (a caller knows where its callee is);
//   3. a solved address that was no candidate yet becomes one (the only one);
//   4. if that gets nowhere and the committed functions say which of several FILE scopes of the
//      object's file name is the object's, local functions of the other scopes are struck out;
//   5. if that gets nowhere, places that are taken by a committed function are struck out for its
//      twins, unless nothing is left then (a linker that folds identical code shares a place).
//
// 4 and 5 choose among proven candidates only; they never replace a proof. A function left with two
// candidates is ambiguous; with none, although it was proven somewhere, is a conflict, and so are
// two committed functions that disagree: then at least one proof is not what it seems, and nothing
// that depends on it is used. For symbols that no proven code mentions, the symbol map is asked,
// with FILE scopes, and one candidate or a refusal.
//
// Each round strikes out or commits something, so the number of rounds is bounded by the number of
// candidates.

#include "match/bind.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "match/candidates.h"
#include "match/comparison.h"

namespace qp::match {
namespace {

using elf::AtomGraph;
using elf::AtomId;
using elf::AtomKind;
using elf::AtomSymbol;
using elf::AtomSymbolId;
using elf::Binding;
using elf::BindingKind;

struct Candidate {
  LinkAddr at;
  std::set<uint32_t> scopes;  // FILE scopes of the entries that brought it here
  UnitProof proof;
  bool alive = false;
};

struct Function {
  AtomId id = 0;
  std::vector<Candidate> candidates;
  std::optional<size_t> chosen;
  std::string contradicted;  // why the last candidate was struck out

  size_t alive() const {
    return static_cast<size_t>(std::count_if(candidates.begin(), candidates.end(),
                                             [](const Candidate& c) { return c.alive; }));
  }
  bool proven_somewhere() const {
    return std::any_of(candidates.begin(), candidates.end(),
                       [](const Candidate& c) { return c.proof.proven; });
  }
};

std::string place_of(const Binding& binding) {
  switch (binding.kind) {
    case BindingKind::Address:
      return fmt::format("at {:#x}", binding.address.value);
    case BindingKind::TpOffset:
      return fmt::format("{:#x} from the thread pointer", binding.tp_offset);
    case BindingKind::Import:
      return "in another module";
    case BindingKind::Unbound:
      break;
  }
  return "nowhere";
}

class Binder {
 public:
  Binder(const AtomGraph& graph, const Target& target, Report& report)
      : graph_(graph),
        target_(target),
        report_(report),
        known_(graph.symbols.size()),
        known_from_(graph.symbols.size(), nullptr) {}

  Matched bind(const std::vector<AtomId>& replaced, const std::vector<AtomSymbolId>& wanted);

 private:
  void find_candidates();
  void add_candidate(Function& function, LinkAddr at, std::set<uint32_t> scopes);
  bool commit_and_strike_out();
  bool strike_out_scopes();
  bool strike_out_taken();
  void commit(Function& function, const Candidate& candidate);
  std::string contradiction(const Candidate& candidate) const;
  void check_replaced(const Function& function, Matched& out);
  std::string likely_cause() const;
  Binding binding_of(AtomSymbolId id) const;

  const AtomGraph& graph_;
  const Target& target_;
  Report& report_;
  std::vector<Function> functions_;
  std::map<AtomId, size_t> function_of_;
  std::vector<Binding> known_;               // by canonical symbol
  std::vector<const Function*> known_from_;  // whose proof says so
  std::set<uint32_t> scopes_;                // of the object, as far as committed functions say
};

void Binder::add_candidate(Function& function, LinkAddr at, std::set<uint32_t> scopes) {
  for (Candidate& known : function.candidates) {
    if (known.at == at) {
      known.scopes.merge(scopes);
      return;
    }
  }
  Candidate candidate{at, std::move(scopes), prove_unit(graph_, function.id, at, target_), false};
  candidate.alive = candidate.proof.proven;
  function.candidates.push_back(std::move(candidate));
}

void Binder::find_candidates() {
  for (AtomId id = 0; id < graph_.atoms.size(); ++id) {
    const elf::Atom& atom = graph_.atoms[id];
    if (atom.kind != AtomKind::Function || atom.parent) {
      continue;
    }
    Function function;
    function.id = id;
    for (const MapEntry* entry : candidate_entries(target_.symbols, graph_.symbols[atom.symbol])) {
      const bool local = entry->bind == elf::SymbolBind::Local;
      add_candidate(function, entry->address,
                    local ? std::set<uint32_t>{entry->scope} : std::set<uint32_t>{});
    }
    function_of_[id] = functions_.size();
    functions_.push_back(std::move(function));
  }
}

// "" if all that the candidate solved agrees with what is known.
std::string Binder::contradiction(const Candidate& candidate) const {
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

void Binder::commit(Function& function, const Candidate& candidate) {
  function.chosen = static_cast<size_t>(&candidate - function.candidates.data());
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

bool Binder::commit_and_strike_out() {
  bool progress = false;
  for (Function& function : functions_) {
    if (function.chosen) {
      continue;
    }
    const AtomSymbolId symbol = graph_.atoms[function.id].symbol;
    if (known_[symbol].kind == BindingKind::Address) {
      const size_t before = function.candidates.size();
      add_candidate(function, known_[symbol].address, {});
      progress |= function.candidates.size() != before;
    }
    for (Candidate& candidate : function.candidates) {
      if (candidate.alive) {
        if (std::string why = contradiction(candidate); !why.empty()) {
          candidate.alive = false;
          function.contradicted = std::move(why);
          progress = true;
        }
      }
    }
    if (function.alive() == 1) {
      commit(function, *std::find_if(function.candidates.begin(), function.candidates.end(),
                                     [](const Candidate& c) { return c.alive; }));
      progress = true;
    }
  }
  return progress;
}

bool Binder::strike_out_scopes() {
  if (scopes_.size() != 1) {
    return false;
  }
  bool progress = false;
  for (Function& function : functions_) {
    const AtomSymbol& symbol = graph_.symbol_of(function.id);
    const auto fits = [&](const Candidate& c) {
      return c.alive && c.scopes.count(*scopes_.begin()) != 0;
    };
    if (function.chosen || symbol.bind != elf::SymbolBind::Local || function.alive() < 2 ||
        std::none_of(function.candidates.begin(), function.candidates.end(), fits)) {
      continue;
    }
    for (Candidate& candidate : function.candidates) {
      if (candidate.alive && !fits(candidate)) {
        candidate.alive = false;
        progress = true;
      }
    }
  }
  return progress;
}

bool Binder::strike_out_taken() {
  std::set<LinkAddr> taken;
  for (const Function& function : functions_) {
    if (function.chosen) {
      taken.insert(function.candidates[*function.chosen].at);
    }
  }
  for (Function& function : functions_) {
    if (function.chosen || function.alive() < 2) {
      continue;
    }
    const auto free = [&](const Candidate& c) { return c.alive && taken.count(c.at) == 0; };
    if (std::count_if(function.candidates.begin(), function.candidates.end(), free) != 1) {
      continue;  // none: folded; several: this does not decide
    }
    for (Candidate& candidate : function.candidates) {
      candidate.alive = free(candidate);
    }
    return true;  // one at a time: what follows from it may decide the others better
  }
  return false;
}

std::string Binder::likely_cause() const {
  size_t tried = 0;
  for (const Function& function : functions_) {
    if (function.proven_somewhere()) {
      return "";
    }
    tried += function.candidates.empty() ? 0 : 1;
  }
  if (tried < 2) {
    return "";
  }
  return fmt::format(
      "; none of the {} functions of this object that the target has could be proven, so the "
      "target "
      "was probably compiled with other flags (-O, -f..., -D), by another compiler, or from "
      "another "
      "version of the source",
      tried);
}

void Binder::check_replaced(const Function& function, Matched& out) {
  const std::string& name = graph_.name_of(function.id);
  ReplacedUnit unit;
  unit.function = function.id;
  if (function.chosen) {
    const Candidate& candidate = function.candidates[*function.chosen];
    unit.entry = candidate.at;
    unit.ranges = candidate.proof.ranges;
  } else if (function.candidates.empty()) {
    const std::string& file = graph_.symbol_of(function.id).file;
    report_.refuse(
        "function-missing", name,
        "the target has no function of this name" + (file.empty() ? "" : " in a file " + file));
  } else if (function.alive() > 1) {
    std::vector<LinkAddr> places;
    for (const Candidate& candidate : function.candidates) {
      if (candidate.alive) {
        places.push_back(candidate.at);
      }
    }
    report_.refuse("symbol-ambiguous", name,
                   "its code is at more than one place of the target, and nothing that calls it "
                   "tells which one is meant: " +
                       list_of(places, target_.symbols));
  } else if (function.proven_somewhere()) {
    report_.refuse("binding-conflict", name, function.contradicted);
  } else {
    const auto best = std::max_element(function.candidates.begin(), function.candidates.end(),
                                       [](const Candidate& a, const Candidate& b) {
                                         return a.proof.difference->at < b.proof.difference->at;
                                       });
    const CodeDifference& difference = *best->proof.difference;
    report_.refuse(
        "code-differs", name,
        fmt::format("{}+{:#x}, in the target at {:#x}: {}{}", difference.function, difference.at,
                    difference.target_at.value, difference.what, likely_cause()));
  }
  out.replaced.push_back(std::move(unit));
}

Binding Binder::binding_of(AtomSymbolId id) const {
  const AtomSymbol& symbol = graph_.symbols[id];
  Binding binding = known_[canonical(graph_, id)];
  if (symbol.atom && binding.kind == BindingKind::Address) {
    binding.address += symbol.offset;
  } else if (symbol.atom && binding.kind == BindingKind::TpOffset) {
    binding.tp_offset += static_cast<int64_t>(symbol.offset);
  }
  return binding;
}

Matched Binder::bind(const std::vector<AtomId>& replaced, const std::vector<AtomSymbolId>& wanted) {
  find_candidates();
  while (commit_and_strike_out() || strike_out_scopes() || strike_out_taken()) {
  }
  Matched out;
  out.functions_tried = static_cast<uint32_t>(functions_.size());
  for (const Function& function : functions_) {
    out.functions_proven += function.chosen ? 1 : 0;
    const bool is_replaced =
        std::find(replaced.begin(), replaced.end(), function.id) != replaced.end();
    if (!function.chosen && function.proven_somewhere() && function.alive() == 0 && !is_replaced) {
      report_.refuse("binding-conflict", graph_.name_of(function.id), function.contradicted);
    }
  }
  for (const AtomId id : replaced) {
    QP_ASSERT(function_of_.count(id) != 0);
    check_replaced(functions_[function_of_.at(id)], out);
  }
  out.bindings.resize(graph_.symbols.size());
  for (AtomSymbolId id = 0; id < graph_.symbols.size(); ++id) {
    out.bindings[id] = binding_of(id);
  }
  const std::optional<uint32_t> scope =
      scopes_.size() == 1 ? std::optional(*scopes_.begin()) : std::nullopt;
  for (const AtomSymbolId id : wanted) {
    // What is known of an IFUNC of the object is where its resolver is; users want the stub.
    const bool ifunc =
        graph_.symbols[id].atom && graph_.symbols[id].type == elf::SymbolType::GnuIfunc;
    if (ifunc || out.bindings[id].kind == BindingKind::Unbound) {
      out.bindings[id] = bind_by_name(graph_.symbols[id], target_, scope, report_);
    }
  }
  return out;
}

}  // namespace

Matched match(const AtomGraph& original, const std::vector<AtomId>& replaced,
              const std::vector<AtomSymbolId>& wanted, const Target& target, Report& report) {
  if (!target.symbols.has_symtab()) {
    const auto& said = report.refusals();
    if (std::none_of(said.begin(), said.end(),
                     [](const Refusal& r) { return r.id == "target-stripped"; })) {
      report.refuse("target-stripped", original.source, "the target has no .symtab");
    }
    Matched nothing;
    nothing.bindings.resize(original.symbols.size());
    for (const AtomId id : replaced) {
      nothing.replaced.push_back({id, {}, {}});
    }
    return nothing;
  }
  return Binder(original, target, report).bind(replaced, wanted);
}

}  // namespace qp::match
