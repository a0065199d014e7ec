// Compilers can be told to give each function a section of its own; people who write assembly put
// many functions into one. The assembler then knows the distance between two of them and writes it
// into the instruction: no relocation says that one refers to the other. If one of the two is
// replaced, it moves, and the distance is wrong. So such references are restored from the code.
//
// A short jump (rel8) to another function stays what it is, a reference with a range of 127 bytes,
// which a patch can't have: closure refuses it where it is needed. Likewise a function without an
// end of its own, that runs on into the next: a copy of it elsewhere would run into something else.

#include "objdiff/shared_section.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "insn/instruction.h"

namespace qp::objdiff {
namespace {

const Placed* find_atom(const std::vector<Placed>& section, int64_t offset) {
  auto it = std::upper_bound(
      section.begin(), section.end(), offset,
      [](int64_t at, const Placed& p) { return at < static_cast<int64_t>(p.start); });
  return it == section.begin() || offset >= static_cast<int64_t>(std::prev(it)->end)
             ? nullptr
             : &*std::prev(it);
}

// The field of `i` that says how far it leads, and from where that counts: its end.
struct Lead {
  insn::Field field;
  int64_t to;  // from the start of the instruction
};
std::optional<Lead> lead_of(const insn::Instruction& i) {
  if (i.is_nop) {
    return std::nullopt;
  }
  if (auto target = i.branch_target()) {
    return Lead{i.branch, *target};
  }
  if (i.rip_relative) {
    return Lead{i.displacement, i.length + i.displacement.value};
  }
  return std::nullopt;
}

bool runs_on(insn::Flow last) {
  return last == insn::Flow::Next || last == insn::Flow::Branch;
}

}  // namespace

void take_apart(elf::AtomGraph& graph, const std::vector<Placed>& section, std::string_view name,
                Report& report) {
  for (const Placed& p : section) {
    elf::Atom& atom = graph.atoms[p.atom];
    std::vector<elf::Ref> restored;
    size_t next_ref = 0;
    insn::Flow last = insn::Flow::Stop;
    for (uint64_t at = 0; at < atom.bytes.size();) {
      auto i = insn::decode(atom.bytes, at);
      if (!i) {
        break;
      }
      last = i->is_nop ? last : i->flow;
      while (next_ref < atom.refs.size() && atom.refs[next_ref].at < at) {
        ++next_ref;
      }
      bool relocated = next_ref < atom.refs.size() && atom.refs[next_ref].at < at + i->length;
      auto lead = relocated ? std::nullopt : lead_of(*i);
      int64_t inside = lead ? static_cast<int64_t>(at) + lead->to : 0;
      const int64_t to = static_cast<int64_t>(p.start) + inside;
      const Placed* target = lead ? find_atom(section, to) : nullptr;
      bool at_home = inside >= 0 && inside < static_cast<int64_t>(atom.size);
      // The end of a function is a place in it (padding, a label) unless another begins there.
      bool at_end = inside == static_cast<int64_t>(atom.size) && target == nullptr;
      if (lead && !at_home && !at_end) {
        elf::Ref ref;
        ref.at = at + lead->field.offset;
        ref.type = lead->field.size == 4 ? elf::RelocType::PC32 : elf::RelocType::PC8;
        if (target == nullptr || (lead->field.size != 4 && lead->field.size != 1)) {
          report.refuse("no-function-sections", std::string(name),
                        fmt::format("{}+{:#x} ({}) leads out of it without a relocation",
                                    graph.name_of(p.atom), at, insn::format(atom.bytes, at, at)));
          return;
        }
        ref.symbol = graph.atoms[target->atom].symbol;
        // S + A is the target as seen from the field, and the distance counts from the end.
        ref.addend = to - static_cast<int64_t>(target->start) -
                     static_cast<int64_t>(i->length - lead->field.offset);
        restored.push_back(ref);
      }
      at += i->length;
    }
    atom.runs_on = runs_on(last);
    atom.refs.insert(atom.refs.end(), restored.begin(), restored.end());
    std::stable_sort(atom.refs.begin(), atom.refs.end(),
                     [](const elf::Ref& x, const elf::Ref& y) { return x.at < y.at; });
  }
}

}  // namespace qp::objdiff
