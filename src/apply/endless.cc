// A function is switched when nobody is inside. main, and the loop of a server, are left when the
// program ends. Whoever changes one should hear that when the patch is made, not at night when apply
// gives up after its timeout.
//
// A function that never returns has no `ret` and no jump to another function (a tail call). The same
// is true of one that ends the program; but that has no loop, and nobody stays in it. An indirect jump
// counts as a way out unless the function has jump tables, which is what else it is used for. Where the
// code does not tell (a loop that only a signal ends), nothing is said: this is advice, and apply finds
// out who is inside anyway.

#include "apply/endless.h"

#include <fmt/format.h>

#include "insn/instruction.h"

namespace qp::apply {
namespace {

struct Ways {
  bool out = false, loop = false;
};

// The unit's atom that the branch at `field` leads to, if a relocation says; its own without one.
std::optional<elf::AtomId> destination(const elf::AtomGraph& graph, elf::AtomId from,
                                       uint64_t field) {
  for (const elf::Ref& ref : graph.atoms[from].refs) {
    if (ref.at == field) {
      return graph.symbols[ref.symbol].atom;
    }
  }
  return from;
}

void follow(const elf::AtomGraph& graph, elf::AtomId function, elf::AtomId part, bool has_tables,
            Ways& ways) {
  const elf::Atom& atom = graph.atoms[part];
  for (uint64_t at = 0; at < atom.size;) {
    const auto i = insn::decode(atom.bytes, at);
    if (!i) {
      ways.out = true;  // not code that we can read
      return;
    }
    if (i->flow == insn::Flow::Return || (i->flow == insn::Flow::IndirectJump && !has_tables)) {
      ways.out = true;
    }
    if (i->flow == insn::Flow::Jump || i->flow == insn::Flow::Branch) {
      const auto to = destination(graph, part, at + i->branch.offset);
      if (!to || (*to != function && graph.atoms[*to].parent != function)) {
        ways.out = true;
      } else if (*to != part || *i->branch_target() <= 0) {
        ways.loop = true;
      }
    }
    at += i->length;
  }
}

bool refers_to_table(const elf::AtomGraph& graph, const elf::Atom& atom) {
  for (const elf::Ref& ref : atom.refs) {
    const auto to = graph.symbols[ref.symbol].atom;
    if (to && graph.atoms[*to].kind == elf::AtomKind::JumpTable) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::vector<Endless> find_endless(const format::Patch& patch) {
  std::vector<Endless> out;
  for (const format::Replaced& r : patch.replaced) {
    if (r.name == "main" && r.file.empty() && patch.meta.target_soname.empty()) {
      out.push_back({r.name, "it is left when the program ends"});
      continue;
    }
    Ways ways;
    const bool has_tables = refers_to_table(patch.old, patch.old.atoms[r.old_function]);
    for (elf::AtomId id = 0; id < patch.old.atoms.size(); ++id) {
      if (id == r.old_function || patch.old.atoms[id].parent == r.old_function) {
        follow(patch.old, r.old_function, id, has_tables, ways);
      }
    }
    if (ways.loop && !ways.out) {
      out.push_back({r.name, "it has a loop and no return"});
    }
  }
  return out;
}

std::string explain(const Endless& endless) {
  return fmt::format(
      "{} never returns ({}): it can't be switched while a thread is in it. Put the fix into a "
      "function that it calls",
      endless.function, endless.why);
}

}  // namespace qp::apply
