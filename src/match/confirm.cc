// One proven place is not enough.
//
// "The code of f is at exactly one place of the target" does not say that f is there. The target
// may hold another version of f, and beside it a twin: a function of another file with the same
// code, which uses other variables and calls other functions. Nothing in the twin contradicts the
// proof, for its operands are solved from it. On a stripped SQLite one of 1,836 functions was taken
// for its twin that way.
//
// What a twin can't have is the same relations: it can't reach the object's static variables and
// functions (but its globals it can), the object's functions do not call it, and its neighbours are
// not the object's. A twin in the same object has the same statics; so where two functions of the
// object could be, statics say nothing. So a place without a name counts only if another function of the object,
// with one place of its own, confirms it, and in the end only if it hangs together with the bulk of
// the object: two twins that confirm each other are not the object, which has more functions and is
// somewhere else.

#include "match/confirm.h"

#include <algorithm>
#include <numeric>

namespace qp::match {

using elf::AtomId;
using elf::AtomSymbolId;
using elf::BindingKind;

Confirmation::Confirmation(const Hypotheses& hypotheses, Order& order)
    : hypotheses_(hypotheses), order_(order) {
  for (const Function& function : hypotheses.functions()) {
    const Candidate* only = function.chosen     ? function.choice()
                            : function.complete ? function.only()
                                                : nullptr;
    if (only != nullptr) {
      vote(*only);
    }
    for (const Candidate& candidate : function.candidates) {
      if (candidate.alive) {
        claims_[candidate.at].push_back(function.id);
      }
    }
  }
}

void Confirmation::vote(const Candidate& candidate) {
  for (const Solution& solution : hypotheses_.own_solutions(candidate)) {
    std::vector<Vote>& votes = votes_[solution.symbol];
    const auto same = std::find_if(votes.begin(), votes.end(),
                                   [&](const Vote& v) { return v.binding == solution.binding; });
    if (same != votes.end()) {
      ++same->count;
    } else {
      votes.push_back({solution.binding, 1});
    }
  }
}

bool Confirmation::is_contested(const Function& function, LinkAddr at) const {
  const auto claims = claims_.find(at);
  return claims != claims_.end() && std::any_of(claims->second.begin(), claims->second.end(),
                                                [&](AtomId other) { return other != function.id; });
}

bool Confirmation::is_confirmed(const Function& function, const Candidate& candidate) const {
  if (candidate.named) {
    return true;
  }
  const elf::AtomGraph& graph = hypotheses_.graph();
  const bool contested = is_contested(function, candidate.at);
  bool confirmed = false;
  for (const Solution& solution : hypotheses_.own_solutions(candidate)) {
    const bool itself = solution.symbol == graph.atoms[function.id].symbol;
    const bool counts =
        itself || (!contested && graph.symbols[solution.symbol].bind == elf::SymbolBind::Local);
    if (hypotheses_.known(solution.symbol).kind != BindingKind::Unbound) {
      confirmed |= counts;  // it agrees, else the candidate would be struck out
      continue;
    }
    uint32_t same = 0, other = 0;
    if (const auto votes = votes_.find(solution.symbol); votes != votes_.end()) {
      for (const Vote& vote : votes->second) {
        (vote.binding == solution.binding ? same : other) += vote.count;
      }
    }
    const bool voted = function.complete && function.only() == &candidate;
    same -= voted ? 1 : 0;  // its own voice
    if (other != 0 && same <= 2 * other) {
      return false;
    }
    confirmed |= counts && same != 0;
  }
  return confirmed || order_.is_beside_neighbour(function, candidate);
}

namespace {

class Groups {
 public:
  explicit Groups(size_t size) : parent_(size) { std::iota(parent_.begin(), parent_.end(), 0); }
  size_t find(size_t i) {
    while (parent_[i] != i) {
      i = parent_[i] = parent_[parent_[i]];
    }
    return i;
  }
  void join(size_t a, size_t b) { parent_[find(a)] = find(b); }

 private:
  std::vector<size_t> parent_;
};

}  // namespace

std::set<AtomId> find_unconnected(const Hypotheses& hypotheses, const Order& order) {
  const std::vector<Function>& functions = hypotheses.functions();
  Groups groups(functions.size());
  std::map<AtomSymbolId, size_t> first_user;
  std::map<AtomId, size_t> index_of;
  for (size_t i = 0; i < functions.size(); ++i) {
    index_of[functions[i].id] = i;
    if (const Candidate* choice = functions[i].choice()) {
      for (const Solution& solution : hypotheses.own_solutions(*choice)) {
        groups.join(i, first_user.emplace(solution.symbol, i).first->second);
      }
    }
  }
  for (const auto& [first, second] : order.chosen_neighbours()) {
    groups.join(index_of.at(first), index_of.at(second));
  }
  std::map<size_t, size_t> sizes;
  std::map<std::pair<size_t, uint32_t>, size_t> sizes_in;  // of a group in one of merged objects
  std::map<uint32_t, size_t> chosen_in;
  std::set<size_t> named;
  const auto object_of = [&](const Function& f) { return hypotheses.graph().atoms[f.id].object; };
  for (size_t i = 0; i < functions.size(); ++i) {
    if (const Candidate* choice = functions[i].choice()) {
      ++sizes[groups.find(i)];
      ++sizes_in[{groups.find(i), object_of(functions[i])}];
      ++chosen_in[object_of(functions[i])];
      if (choice->named) {
        named.insert(groups.find(i));
      }
    }
  }
  std::set<AtomId> unconnected;
  for (size_t i = 0; i < functions.size(); ++i) {
    const size_t group = groups.find(i);
    if (functions[i].chosen && named.count(group) == 0 &&
        (sizes[group] < 2 ||
         2 * sizes_in[{group, object_of(functions[i])}] < chosen_in[object_of(functions[i])])) {
      unconnected.insert(functions[i].id);
    }
  }
  return unconnected;
}

}  // namespace qp::match
