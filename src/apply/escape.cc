// Escape analysis of a patch.
//
// After a revert the image may be unmapped only if nothing can still reach it (P9). A scan of the
// process's memory finds pointers that the process keeps; it can't find those that the kernel keeps
// (signal handlers, epoll user data, timers). So the question is asked the other way round: does
// the patch ever produce an address of its own code or variables as a value? Code that only calls
// and jumps directly, and only loads from and stores to its variables directly, does not. Anything
// that is not clearly of that form counts as handing out.

#include "apply/escape.h"

#include "insn/instruction.h"

namespace qp::apply {
namespace {

bool matters(const elf::AtomGraph& graph, const elf::Ref& ref) {
  const elf::AtomSymbol& symbol = graph.symbols[ref.symbol];
  if (!symbol.atom) {
    return false;
  }
  elf::Storage storage = graph.atoms[*symbol.atom].storage;
  return storage == elf::Storage::Text || elf::is_writable(storage);
}

// The instruction of `code` whose bytes hold `ref`, and where it starts.
struct Located {
  insn::Instruction instruction;
  uint64_t at = 0;
};

bool is_direct_use(ByteView code, const Located& located, const elf::Ref& ref) {
  const insn::Instruction& i = located.instruction;
  uint64_t field = ref.at - located.at;
  if (i.branch.size != 0 && field == i.branch.offset) {
    return true;
  }
  bool memory = i.rip_relative && i.displacement.size != 0 && field == i.displacement.offset;
  return memory && insn::format(code, located.at, 0).rfind("lea", 0) != 0;
}

void add_all(const elf::AtomGraph& graph, const elf::Atom& atom, std::set<elf::AtomId>& out) {
  for (const elf::Ref& ref : atom.refs) {
    if (matters(graph, ref)) {
      out.insert(*graph.symbols[ref.symbol].atom);
    }
  }
}

void add_from_text(const elf::AtomGraph& graph, const elf::Atom& atom, std::set<elf::AtomId>& out) {
  size_t next = 0;
  for (uint64_t at = 0; at < atom.size && next < atom.refs.size();) {
    auto instruction = insn::decode(atom.bytes, at);
    if (!instruction) {
      return add_all(graph, atom, out);
    }
    for (; next < atom.refs.size() && atom.refs[next].at < at + instruction->length; ++next) {
      const elf::Ref& ref = atom.refs[next];
      if (matters(graph, ref) && !is_direct_use(atom.bytes, {*instruction, at}, ref)) {
        out.insert(*graph.symbols[ref.symbol].atom);
      }
    }
    at += instruction->length;
  }
}

}  // namespace

std::set<elf::AtomId> handed_out(const elf::AtomGraph& fresh) {
  std::set<elf::AtomId> out;
  for (const elf::Atom& atom : fresh.atoms) {
    if (atom.storage == elf::Storage::Text) {
      add_from_text(fresh, atom, out);
    } else if (atom.kind != elf::AtomKind::JumpTable) {  // read by its own function's jump only
      add_all(fresh, atom, out);
    }
  }
  return out;
}

}  // namespace qp::apply
