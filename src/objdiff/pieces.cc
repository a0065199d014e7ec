// Pieces of functions, and jump tables.
//
// GCC moves unlikely code into f.cold, in a section of its own, and jumps there and back into the
// middle of f. A patch that takes the new f but leaves the old f.cold runs old code on the cold
// path, and then jumps back into the middle of the *old* f. So whatever jumps into the interior of
// a function is one unit with it, whatever it is called. Only jumps count: arithmetic with a
// function's address (`p - (uintptr_t)f - 1`) also refers to a place beside its entry, and runs
// nothing there.
//
// A read-only table whose entries lead into the interior of one unit (switch, computed goto) can
// only be compared by instruction and only be used together with that unit's code.

#include "objdiff/pieces.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace qp::objdiff {
namespace {

using elf::AtomId;

bool is_code(const elf::Atom& a) {
  return a.storage == elf::Storage::Text;
}

class Groups {
 public:
  explicit Groups(size_t n) : leader_(n) { std::iota(leader_.begin(), leader_.end(), 0u); }
  AtomId find(AtomId a) {
    while (leader_[a] != a) {
      leader_[a] = leader_[leader_[a]];
      a = leader_[a];
    }
    return a;
  }
  void join(AtomId a, AtomId b) { leader_[find(a)] = find(b); }

 private:
  std::vector<AtomId> leader_;
};

}  // namespace

std::string_view parent_name(std::string_view name) {
  size_t at = name.rfind(".cold");
  if (at == std::string_view::npos || at == 0) {
    return {};
  }
  std::string_view rest = name.substr(at + 5);
  bool number = rest.size() >= 2 && rest[0] == '.' &&
                rest.find_first_not_of("0123456789", 1) == std::string_view::npos;
  return rest.empty() || number ? name.substr(0, at) : std::string_view();
}

void find_pieces(elf::AtomGraph& graph, const std::function<const CodeMap*(AtomId)>& map) {
  Groups groups(graph.atoms.size());
  std::map<std::string_view, AtomId> functions;
  for (AtomId id = 0; id < graph.atoms.size(); ++id) {
    if (is_code(graph.atoms[id])) {
      functions.emplace(graph.name_of(id), id);
    }
  }
  auto target_of = [&](const elf::Ref& ref) { return graph.symbols[ref.symbol].atom; };
  auto leads_inside = [&](const elf::Ref& ref, const elf::Atom& from, const CodeMap* code) {
    const elf::RelocTraits* traits = elf::find_traits(ref.type);
    return traits != nullptr && !traits->via_got && !traits->tls && code != nullptr &&
           code->is_direct_branch(ref.at) && target_offset(ref, from, code) != 0;
  };
  for (AtomId id = 0; id < graph.atoms.size(); ++id) {
    const elf::Atom& a = graph.atoms[id];
    if (!is_code(a)) {
      continue;
    }
    if (auto parent = functions.find(parent_name(graph.name_of(id))); parent != functions.end()) {
      groups.join(id, parent->second);
    }
    for (const elf::Ref& ref : a.refs) {
      auto to = target_of(ref);
      if (to && *to != id && is_code(graph.atoms[*to]) && leads_inside(ref, a, map(id))) {
        groups.join(id, *to);
      }
    }
  }
  // The root: not itself named as a piece, first in the object.
  std::map<AtomId, AtomId> roots;
  for (int pass = 0; pass < 2; ++pass) {
    for (AtomId id = 0; id < graph.atoms.size(); ++id) {
      if (is_code(graph.atoms[id]) && (pass == 1 || parent_name(graph.name_of(id)).empty())) {
        roots.emplace(groups.find(id), id);
      }
    }
  }
  for (AtomId id = 0; id < graph.atoms.size(); ++id) {
    if (is_code(graph.atoms[id]) && roots.at(groups.find(id)) != id) {
      graph.atoms[id].parent = roots.at(groups.find(id));
    }
  }
  // Tables.
  for (elf::Atom& a : graph.atoms) {
    bool read_only = a.storage == elf::Storage::ReadOnly || a.storage == elf::Storage::RelRo;
    if (!read_only || a.refs.empty() || is_lsda(a)) {
      continue;
    }
    std::optional<AtomId> root;
    bool inside = true;
    for (const elf::Ref& ref : a.refs) {
      auto to = target_of(ref);
      inside = inside && to && is_code(graph.atoms[*to]) && (!root || *root == root_of(graph, *to));
      if (!inside) {
        break;
      }
      root = root_of(graph, *to);
    }
    // A table of whole functions has only offset 0; one that holds an interior address has labels.
    inside = inside && std::any_of(a.refs.begin(), a.refs.end(), [&](const elf::Ref& ref) {
               return target_offset(ref, a, nullptr) != 0;
             });
    if (inside) {
      a.kind = elf::AtomKind::JumpTable;
    }
  }
}

}  // namespace qp::objdiff
