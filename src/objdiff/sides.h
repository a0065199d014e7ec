// The two graphs of a diff with what is looked up in them again and again.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "elf/atom.h"
#include "objdiff/code_map.h"

namespace qp::objdiff {

constexpr bool is_code(const elf::Atom& a) {
  return a.storage == elf::Storage::Text;
}
constexpr bool is_read_only(const elf::Atom& a) {
  return a.storage == elf::Storage::ReadOnly || a.storage == elf::Storage::RelRo;
}

// One version of the object. Borrows the graph.
class Side {
 public:
  explicit Side(const elf::AtomGraph& graph);

  const elf::AtomGraph& graph;
  const elf::Atom& atom(elf::AtomId id) const { return graph.atoms[id]; }
  std::optional<elf::AtomId> target(const elf::Ref& ref) const {
    return graph.symbols[ref.symbol].atom;
  }
  elf::AtomId root(elf::AtomId code) const { return atom(code).parent.value_or(code); }
  // Function and pieces, function first.
  const std::vector<elf::AtomId>& unit(elf::AtomId root) const { return units_[root]; }
  // Atoms with a reference (in their content or unwind entries) to `id`, each once, ascending.
  const std::vector<elf::AtomId>& referrers(elf::AtomId id) const { return referrers_[id]; }
  // Instructions of a code atom; nullptr for data. Decoded on demand.
  const CodeMap* code_map(elf::AtomId id) const;

  // Read-only data without an identity of its own: strings, constants, tables and what else the
  // compiler made. It is compared by content and copied into the patch.
  bool is_private(elf::AtomId id) const { return private_[id]; }
  bool is_init(elf::AtomId id) const { return init_[id]; }
  bool is_hook(elf::AtomId id) const { return hook_[id]; }  // a record of one
  // What a compiler leaves for tools that look at the program, and no data of it: records of hooks, places
  // that can be patched (-fpatchable-function-entry), GCC's description of a unit for --coverage.
  // It stays as it is, and the patch has no part of it.
  bool is_aside(elf::AtomId id) const { return aside_[id]; }
  // Neighbours in a run of anonymous data whose bounds pointers may cross (see contents.cc).
  std::optional<elf::AtomId> previous_in_run(elf::AtomId id) const;
  std::optional<elf::AtomId> next_in_run(elf::AtomId id) const;

 private:
  bool in_run(elf::AtomId id) const;
  std::vector<std::vector<elf::AtomId>> referrers_, units_;
  std::vector<bool> private_, init_, hook_, aside_;
  mutable std::vector<std::unique_ptr<CodeMap>> maps_;
};

// Which atom is the successor of which.
struct Correlation {
  std::vector<std::optional<elf::AtomId>> original_of;      // per patched atom
  std::vector<std::optional<elf::AtomId>> patched_of;       // per original atom
  std::vector<bool> ambiguous_original, ambiguous_patched;  // writable, several counterparts
  void pair(elf::AtomId original, elf::AtomId patched) {
    patched_of[original] = patched;
    original_of[patched] = original;
  }
  void part(elf::AtomId original, elf::AtomId patched) {
    patched_of[original].reset();
    original_of[patched].reset();
  }
};

struct Sides {
  Sides(const elf::AtomGraph& o, const elf::AtomGraph& p) : original(o), patched(p) {}
  Side original, patched;
};

// All but private data (contents.h compares that).
Correlation correlate(const Sides& sides);

}  // namespace qp::objdiff
