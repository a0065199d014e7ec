// Where each function of an object could be in a target, and what was found out about that.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "elf/atom.h"
#include "match/proof.h"

namespace qp::match {

struct Candidate {
  LinkAddr at;
  std::set<uint32_t> scopes;  // FILE scopes of the entries that brought it here
  UnitProof proof;
  bool alive = false;  // proven, and not struck out
  bool named = false;  // the target's symbols have the function's name there
};

struct Function {
  elf::AtomId id = 0;
  std::vector<Candidate> candidates;
  bool complete = false;  // it is at one of them, if the target has it at all
  std::optional<size_t> chosen;
  std::string contradicted;  // why the last candidate was struck out

  size_t alive() const {
    return static_cast<size_t>(std::count_if(candidates.begin(), candidates.end(),
                                             [](const Candidate& c) { return c.alive; }));
  }
  // The one that is left; nullptr if there are none or several.
  const Candidate* only() const;
  const Candidate* choice() const { return chosen ? &candidates[*chosen] : nullptr; }
  bool proven_somewhere() const {
    return std::any_of(candidates.begin(), candidates.end(),
                       [](const Candidate& c) { return c.proof.proven; });
  }
};

// The candidates of all functions of an object, and what the chosen ones tell of its symbols.
class Hypotheses {
 public:
  Hypotheses(const elf::AtomGraph& graph, const Target& target);

  const elf::AtomGraph& graph() const { return graph_; }
  const Target& target() const { return target_; }
  std::vector<Function>& functions() { return functions_; }
  const std::vector<Function>& functions() const { return functions_; }
  Function* find(elf::AtomId id);

  // Compares the function at `at`, unless that was done. True if the candidate is new.
  bool add_candidate(Function& function, LinkAddr at, std::set<uint32_t> scopes = {},
                     bool named = false);
  // "" if all that the candidate solved agrees with what is known.
  std::string contradiction(const Candidate& candidate) const;
  void choose(Function& function, const Candidate& candidate);
  // Choices that nothing confirms are taken back, and what only they told.
  void forget(const std::set<elf::AtomId>& functions);

  const elf::Binding& known(elf::AtomSymbolId canonical) const { return known_[canonical]; }
  // Of the object, as far as chosen functions say; several if they disagree.
  const std::set<uint32_t>& scopes() const { return scopes_; }
  // The solutions that tell something about the object's own symbols: not of content that can be
  // anywhere, and not of what other objects define.
  std::vector<Solution> own_solutions(const Candidate& candidate) const;

 private:
  void find_candidates();
  void learn(const Function& function, const Candidate& candidate);

  const elf::AtomGraph& graph_;
  const Target& target_;
  std::vector<Function> functions_;
  std::map<elf::AtomId, size_t> function_of_;
  std::vector<elf::Binding> known_;          // by canonical symbol
  std::vector<const Function*> known_from_;  // whose proof says so
  std::set<uint32_t> scopes_;
};

}  // namespace qp::match
