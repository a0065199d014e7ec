// From single proofs to one answer for an object.
//
// A proof says: if the function is here, then its symbols are there. It can be right for more than
// one place, since programs contain the same small function many times, and two files may hold the
// same `static foo` that uses the same `static var` of its own. What tells twins apart is who calls
// them and what else they belong to. So all functions of the object are compared with all their
// candidates, each on its own, and then candidates are struck out until nothing more follows:
//
//   1. a function with one candidate left is chosen, and what it solved holds for the object; a
//      candidate without a name has to be confirmed by something else first (confirm.cc);
//   2. a candidate that contradicts what holds is struck out (a caller knows where its callee is);
//   3. a solved address that was no candidate yet becomes one (the only one);
//   4. if that gets nowhere and the chosen functions say which of several FILE scopes of the
//      object's file name is the object's, local functions of the other scopes are struck out;
//   5. without names, neighbours tell: what is not in the room that its neighbours leave for a
//      function is struck out, and a room that is filled without a gap is settled (order.cc);
//   6. if that gets nowhere, places that are taken by a chosen function are struck out for its
//      twins, unless nothing is left then (a linker that folds identical code shares a place).
//
// 4 to 6 choose among proven candidates only; they never replace a proof. A function left with two
// candidates is ambiguous; with none, although it was proven somewhere, is a conflict, and so are
// two chosen functions that disagree: then at least one proof is not what it seems, and nothing
// that depends on it is used. For symbols that no proven code mentions, the symbol map is asked,
// with FILE scopes, and one candidate or a refusal.
//
// Each round strikes out, adds or chooses something, so the number of rounds is bounded by the
// number of candidates.

#include "match/bind.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "match/candidates.h"
#include "match/comparison.h"
#include "match/confirm.h"
#include "match/hypotheses.h"
#include "match/names.h"
#include "match/order.h"

namespace qp::match {
namespace {

using elf::AtomGraph;
using elf::AtomId;
using elf::AtomSymbol;
using elf::AtomSymbolId;
using elf::Binding;
using elf::BindingKind;

class Binder {
 public:
  Binder(const AtomGraph& graph, const Target& target, Report& report)
      : graph_(graph),
        target_(target),
        report_(report),
        hypotheses_(graph, target),
        order_(hypotheses_) {}

  Matched bind(const std::vector<AtomId>& replaced, const std::vector<AtomSymbolId>& wanted);

 private:
  bool has_names() const { return target_.symbols.has_symtab(); }
  bool choose_and_strike_out();
  bool strike_out_scopes();
  bool strike_out_misplaced();
  bool settle_gaps();
  bool take_back_misplaced();
  bool strike_out_taken();
  void refuse_replaced(Function& function);
  void refuse_nameless(Function& function);
  void check_folded(const Function& function);
  std::string likely_cause() const;
  Binding binding_of(AtomSymbolId id) const;

  const AtomGraph& graph_;
  const Target& target_;
  Report& report_;
  Hypotheses hypotheses_;
  Order order_;
};

bool Binder::choose_and_strike_out() {
  bool progress = false;
  const Confirmation confirmation(hypotheses_, order_);
  for (Function& function : hypotheses_.functions()) {
    if (function.chosen) {
      continue;
    }
    const Binding& known = hypotheses_.known(graph_.atoms[function.id].symbol);
    if (known.kind == BindingKind::Address) {
      progress |= hypotheses_.add_candidate(function, known.address);
    }
    for (Candidate& candidate : function.candidates) {
      if (candidate.alive) {
        if (std::string why = hypotheses_.contradiction(candidate); !why.empty()) {
          candidate.alive = false;
          function.contradicted = std::move(why);
          progress = true;
        }
      }
    }
    const Candidate* only = function.only();
    const bool solved = known.kind == BindingKind::Address;
    if (only != nullptr && (function.complete || solved) &&
        confirmation.is_confirmed(function, *only)) {
      hypotheses_.choose(function, *only);
      progress = true;
    }
  }
  return progress;
}

bool Binder::strike_out_scopes() {
  const std::set<uint32_t>& scopes = hypotheses_.scopes();
  if (scopes.size() != 1) {
    return false;
  }
  bool progress = false;
  for (Function& function : hypotheses_.functions()) {
    const AtomSymbol& symbol = graph_.symbol_of(function.id);
    const auto fits = [&](const Candidate& c) {
      return c.alive && c.scopes.count(*scopes.begin()) != 0;
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

bool Binder::strike_out_misplaced() {
  bool progress = false;
  for (Function& function : hypotheses_.functions()) {
    if (has_names() || function.chosen || function.alive() == 0) {
      continue;
    }
    const auto gap = order_.gap_around(function);
    for (Candidate& candidate : function.candidates) {
      if (gap && candidate.alive && !candidate.named && !gap->contains(candidate.at)) {
        candidate.alive = false;
        function.contradicted =
            fmt::format("code like it is at {:#x}, but its neighbours leave {:#x} to {:#x} for it",
                        candidate.at.value, gap->start.value, gap->end.value);
        progress = true;
      }
    }
  }
  return progress;
}

bool Binder::settle_gaps() {
  if (has_names()) {
    return false;
  }
  bool progress = false;
  for (const auto& [id, at] : order_.fill_gaps()) {
    Function& function = *hypotheses_.find(id);
    for (Candidate& candidate : function.candidates) {
      candidate.alive &= candidate.at == at;
    }
    const Candidate* only = function.only();
    if (only != nullptr && hypotheses_.contradiction(*only).empty()) {
      hypotheses_.choose(function, *only);
      progress = true;
    }
  }
  return progress;
}

// What was chosen before its neighbours were.
bool Binder::take_back_misplaced() {
  if (has_names()) {
    return false;
  }
  const std::set<AtomId> misplaced = order_.find_misplaced();
  for (const AtomId id : misplaced) {
    Function& function = *hypotheses_.find(id);
    function.candidates[*function.chosen].alive = false;
    function.contradicted = "code like it is elsewhere, but not between its neighbours";
  }
  if (!misplaced.empty()) {
    hypotheses_.forget(misplaced);
  }
  return !misplaced.empty();
}

bool Binder::strike_out_taken() {
  std::set<LinkAddr> taken;
  for (const Function& function : hypotheses_.functions()) {
    if (const Candidate* choice = function.choice()) {
      taken.insert(choice->at);
    }
  }
  for (Function& function : hypotheses_.functions()) {
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
  for (const Function& function : hypotheses_.functions()) {
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

// A linker that folds identical code gives one place to several functions, and a detour there would
// replace all of them.
void Binder::check_folded(const Function& function) {
  const LinkAddr at = function.choice()->at;
  const auto refuse = [&](const std::string& other) {
    report_.refuse("code-folded", graph_.name_of(function.id),
                   fmt::format("at {:#x} is also {}", at.value, other));
  };
  for (const Function& other : hypotheses_.functions()) {
    if (other.id != function.id && other.chosen && other.choice()->at == at) {
      refuse(graph_.name_of(other.id));
      return;
    }
  }
  for (const MapEntry* entry : target_.symbols.at(at)) {
    const bool own = std::any_of(graph_.symbols.begin(), graph_.symbols.end(), [&](const auto& s) {
      return s.atom == function.id && s.offset == 0 &&
             plain_name(s.name) == plain_name(entry->name);
    });
    if (!own && entry->type == elf::SymbolType::Func && entry->size != 0) {
      refuse(entry->name + (entry->file.empty() ? "" : " (" + entry->file + ")"));
      return;
    }
  }
}

void Binder::refuse_nameless(Function& function) {
  const std::string& name = graph_.name_of(function.id);
  const Binding& known = hypotheses_.known(graph_.atoms[function.id].symbol);
  if (const Candidate* only = function.only()) {
    report_.refuse(
        "unconfirmed", name,
        fmt::format("code like it is at {:#x} only, but nothing else of {} confirms that "
                    "it is this function",
                    only->at.value, graph_.source.empty() ? "its unit" : graph_.source));
    return;
  }
  if (!function.complete && known.kind != BindingKind::Address) {
    report_.refuse("symbol-ambiguous", name,
                   "the target has no names, its code is too short to be told from other code, and "
                   "no proven function refers to it");
    return;
  }
  report_.refuse("function-missing", name,
                 "the target has no names, and no code like it" + likely_cause());
}

void Binder::refuse_replaced(Function& function) {
  const std::string& name = graph_.name_of(function.id);
  const std::string& file = graph_.symbol_of(function.id).file;
  if (function.alive() > 1) {
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
    return;
  }
  if (function.alive() == 0 && !has_names()) {
    if (const auto expected = order_.expected_place(function)) {
      hypotheses_.add_candidate(function, *expected);  // for the first difference
    }
  }
  if (function.alive() == 0 && function.proven_somewhere()) {
    report_.refuse("binding-conflict", name, function.contradicted);
  } else if (function.alive() == 0 && !function.candidates.empty()) {
    const auto best = std::max_element(function.candidates.begin(), function.candidates.end(),
                                       [](const Candidate& a, const Candidate& b) {
                                         return a.proof.difference->at < b.proof.difference->at;
                                       });
    const CodeDifference& difference = *best->proof.difference;
    report_.refuse(
        "code-differs", name,
        fmt::format("{}+{:#x}, in the target at {:#x}: {}{}", difference.function, difference.at,
                    difference.target_at.value, difference.what, likely_cause()));
  } else if (!has_names()) {
    refuse_nameless(function);
  } else {
    report_.refuse(
        "function-missing", name,
        "the target has no function of this name" + (file.empty() ? "" : " in a file " + file));
  }
}

Binding Binder::binding_of(AtomSymbolId id) const {
  const AtomSymbol& symbol = graph_.symbols[id];
  Binding binding = hypotheses_.known(canonical(graph_, id));
  if (symbol.atom && binding.kind == BindingKind::Address) {
    binding.address += symbol.offset;
  } else if (symbol.atom &&
             (binding.kind == BindingKind::TpOffset || binding.kind == BindingKind::ModuleOffset)) {
    binding.tp_offset += static_cast<int64_t>(symbol.offset);
  }
  return binding;
}

Matched Binder::bind(const std::vector<AtomId>& replaced, const std::vector<AtomSymbolId>& wanted) {
  while (choose_and_strike_out() || strike_out_scopes() || strike_out_misplaced() ||
         settle_gaps() || take_back_misplaced() || strike_out_taken()) {
  }
  if (!has_names()) {
    hypotheses_.forget(find_unconnected(hypotheses_, order_));
  }
  Matched out;
  for (const Function& function : hypotheses_.functions()) {
    out.functions_tried += function.complete ? 1 : 0;
    out.functions_proven += function.chosen ? 1 : 0;
    out.functions_fitting += function.proven_somewhere() ? 1 : 0;
    const bool is_replaced =
        std::find(replaced.begin(), replaced.end(), function.id) != replaced.end();
    if (has_names() && !function.chosen && function.proven_somewhere() && function.alive() == 0 &&
        !is_replaced) {
      report_.refuse("binding-conflict", graph_.name_of(function.id), function.contradicted);
    }
  }
  for (const AtomId id : replaced) {
    Function* function = hypotheses_.find(id);
    QP_ASSERT(function != nullptr);
    ReplacedUnit unit;
    unit.function = id;
    if (const Candidate* choice = function->choice()) {
      unit.entry = choice->at;
      unit.ranges = choice->proof.ranges;
      check_folded(*function);
    } else {
      refuse_replaced(*function);
    }
    out.replaced.push_back(std::move(unit));
  }
  out.bindings.resize(graph_.symbols.size());
  for (AtomSymbolId id = 0; id < graph_.symbols.size(); ++id) {
    out.bindings[id] = binding_of(id);
  }
  const std::set<uint32_t>& scopes = hypotheses_.scopes();
  const std::optional<uint32_t> scope =
      scopes.size() == 1 ? std::optional(*scopes.begin()) : std::nullopt;
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
  return Binder(original, target, report).bind(replaced, wanted);
}

}  // namespace qp::match
