// Lookups over one graph: who refers to what, what belongs together, what has no identity.
//
// "Private" is the line between two ways of comparing. A named thing has an identity: it is
// compared with its namesake, and references to it stay references to the one in the process. A
// string, a float constant or a table that the compiler made has only content: two references to it
// are equal if the contents are, wherever they lie, and new code brings its own copy along.

#include "objdiff/sides.h"

#include <algorithm>

#include "objdiff/bounds.h"
#include "objdiff/instrumentation.h"
#include "objdiff/names.h"

namespace qp::objdiff {

Side::Side(const elf::AtomGraph& g)
    : graph(g),
      referrers_(g.atoms.size()),
      units_(g.atoms.size()),
      private_(g.atoms.size()),
      init_(g.atoms.size()),
      hook_(g.atoms.size()),
      aside_(g.atoms.size()),
      maps_(g.atoms.size()) {
  const bool sanitized = is_sanitized(g);
  for (elf::AtomId id = 0; id < g.atoms.size(); ++id) {
    const elf::Atom& a = g.atoms[id];
    auto refer = [&](const elf::Ref& ref) {
      if (auto to = target(ref); to && (referrers_[*to].empty() || referrers_[*to].back() != id)) {
        referrers_[*to].push_back(id);
      }
    };
    for (const elf::Ref& ref : a.refs) {
      refer(ref);
    }
    for (const elf::FrameEntry& f : a.frames) {
      if (f.personality) {
        refer(*f.personality);
      }
      if (f.lsda) {
        refer(*f.lsda);
      }
    }
    init_[id] = is_init_section(a.section);
    hook_[id] = is_hook_section(a.section);
    const elf::AtomSymbol& s = g.symbols[a.symbol];
    bool generated = s.anonymous || (s.bind == elf::SymbolBind::Local && is_generated_name(s.name));
    // A table of labels belongs to its code even if the source gives it a name.
    aside_[id] = hook_[id] || is_for_tools(a, s);
    private_[id] =
        (sanitized && describes_checked_place(a, s)) ||
        (is_read_only(a) && !init_[id] &&
         (generated || (a.kind == elf::AtomKind::JumpTable && s.bind == elf::SymbolBind::Local)));
    if (is_code(a) && !a.parent) {
      units_[id].insert(units_[id].begin(), id);
    } else if (is_code(a)) {
      units_[*a.parent].push_back(id);
    }
  }
  for (auto& unit : units_) {
    // A piece may stand before its function in the object.
    std::stable_partition(unit.begin(), unit.end(),
                          [&](elf::AtomId id) { return !g.atoms[id].parent; });
  }
}

const CodeMap* Side::code_map(elf::AtomId id) const {
  if (!is_code(atom(id))) {
    return nullptr;
  }
  if (maps_[id] == nullptr) {
    maps_[id] = std::make_unique<CodeMap>(atom(id).bytes);
  }
  return maps_[id].get();
}

bool Side::in_run(elf::AtomId id) const {
  const elf::Atom& a = atom(id);
  return is_read_only(a) && !init_[id] && graph.symbols[a.symbol].anonymous &&
         (a.kind == elf::AtomKind::Anonymous || a.kind == elf::AtomKind::JumpTable);
}

std::optional<elf::AtomId> Side::previous_in_run(elf::AtomId id) const {
  bool there = id > 0 && in_run(id) && in_run(id - 1) && atom(id - 1).section == atom(id).section;
  return there ? std::optional(id - 1) : std::nullopt;
}

std::optional<elf::AtomId> Side::next_in_run(elf::AtomId id) const {
  bool there = id + 1 < graph.atoms.size() && in_run(id) && in_run(id + 1) &&
               atom(id + 1).section == atom(id).section;
  return there ? std::optional(id + 1) : std::nullopt;
}

}  // namespace qp::objdiff
