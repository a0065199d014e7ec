// Two columns of instructions; operands that a relocation fills in are shown as the symbol.

#include "cli/disassembly.h"

#include <algorithm>
#include <iostream>

#include <fmt/format.h>

#include "insn/instruction.h"

namespace qp::cli {
namespace {

constexpr size_t kColumn = 56;

std::string references(const elf::AtomGraph& graph, const elf::Atom& atom, uint64_t from,
                       uint64_t to) {
  std::string out;
  for (const elf::Ref& r : atom.refs) {
    if (r.at >= from && r.at < to) {
      out += fmt::format("  <{}>", graph.symbols[r.symbol].name);
    }
  }
  return out;
}

std::vector<std::string> disassemble(const elf::AtomGraph& graph, const elf::Atom& atom) {
  std::vector<std::string> lines;
  for (uint64_t at = 0; at < atom.size;) {
    auto i = insn::decode(atom.bytes, at);
    if (!i) {
      lines.push_back(fmt::format("{:4x}: (data)", at));
      break;
    }
    lines.push_back(fmt::format("{:4x}: {}{}", at, insn::format(atom.bytes, at, at),
                                references(graph, atom, at, at + i->length)));
    at += i->length;
  }
  return lines;
}

}  // namespace

void print_disassembly(const format::Patch& patch) {
  for (const format::Replaced& r : patch.replaced) {
    auto old_lines = disassemble(patch.old, patch.old.atoms[r.old_function]);
    auto new_lines = disassemble(patch.fresh, patch.fresh.atoms[r.new_function]);
    std::cout << fmt::format("\n{:<{}} | new\n", r.name + ": old", kColumn);
    for (size_t i = 0; i < std::max(old_lines.size(), new_lines.size()); ++i) {
      std::string left = i < old_lines.size() ? old_lines[i].substr(0, kColumn) : "";
      std::cout << fmt::format("{:<{}} | {}\n", left, kColumn,
                               i < new_lines.size() ? new_lines[i] : "");
    }
  }
}

}  // namespace qp::cli
