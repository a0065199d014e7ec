// Whether a patch hands out addresses of its own code or variables decides about unmapping.

#include "apply/escape.h"

#include <gtest/gtest.h>

namespace qp::apply {
namespace {

using elf::Atom;
using elf::AtomGraph;
using elf::AtomKind;
using elf::Ref;
using elf::RelocType;
using elf::Storage;

Bytes code(std::initializer_list<int> bytes) {
  Bytes out;
  for (int b : bytes) {
    out.push_back(static_cast<std::byte>(b));
  }
  return out;
}

elf::AtomId add(AtomGraph& graph, AtomKind kind, Storage storage, Bytes bytes,
                std::vector<Ref> refs = {}) {
  auto id = static_cast<elf::AtomId>(graph.atoms.size());
  Atom atom;
  atom.kind = kind;
  atom.storage = storage;
  atom.size = bytes.size();
  atom.bytes = std::move(bytes);
  atom.refs = std::move(refs);
  atom.symbol = static_cast<elf::AtomSymbolId>(graph.symbols.size());
  elf::AtomSymbol symbol;
  symbol.name = "s" + std::to_string(id);
  symbol.atom = id;
  graph.atoms.push_back(std::move(atom));
  graph.symbols.push_back(std::move(symbol));
  return id;
}

bool hands_out(const AtomGraph& graph) {
  return !handed_out(graph).empty();
}

AtomGraph with_variable_and_code(Bytes text, uint64_t at, RelocType type = RelocType::PC32) {
  AtomGraph graph;
  add(graph, AtomKind::Variable, Storage::Data, Bytes(8));
  add(graph, AtomKind::Function, Storage::Text, std::move(text), {{at, type, 0, -4}});
  return graph;
}

// Claim: a direct load of a new variable hands nothing out.
TEST(Escape, LoadDoesNot) {
  EXPECT_FALSE(hands_out(with_variable_and_code(code({0x8b, 0x05, 0, 0, 0, 0,  // mov 0(%rip),%eax
                                                      0xc3}),                  // ret
                                                2)));
}

// Claim: lea of a new variable hands it out.
TEST(Escape, LeaDoes) {
  EXPECT_TRUE(
      hands_out(with_variable_and_code(code({0x48, 0x8d, 0x05, 0, 0, 0, 0,  // lea 0(%rip),%rax
                                             0xc3}),                        // ret
                                       3)));
}

// Claim: an absolute address as an immediate hands it out.
TEST(Escape, ImmediateDoes) {
  EXPECT_TRUE(hands_out(with_variable_and_code(code({0xb8, 0, 0, 0, 0,  // mov $0,%eax
                                                     0xc3}),            // ret
                                               1, RelocType::R32)));
}

// Claim: a direct call of a new function hands nothing out; a string's address does not count.
TEST(Escape, CallAndStringDoNot) {
  AtomGraph graph;
  add(graph, AtomKind::Function, Storage::Text, code({0xc3}));
  add(graph, AtomKind::String, Storage::ReadOnly, Bytes(4));
  add(graph, AtomKind::Function, Storage::Text,
      code({0x48, 0x8d, 0x3d, 0, 0, 0, 0,  // lea 0(%rip),%rdi
            0xe8, 0, 0, 0, 0,              // call 0
            0xc3}),                        // ret
      {{3, RelocType::PC32, 1, -4}, {8, RelocType::PLT32, 0, -4}});
  EXPECT_FALSE(hands_out(graph));
}

// Claim: a pointer to a new function in data hands it out; a jump table does not.
TEST(Escape, PointerInDataDoes) {
  AtomGraph graph;
  add(graph, AtomKind::Function, Storage::Text, code({0xc3}));
  add(graph, AtomKind::JumpTable, Storage::ReadOnly, Bytes(4), {{0, RelocType::PC32, 0, 0}});
  EXPECT_FALSE(hands_out(graph));
  add(graph, AtomKind::Variable, Storage::RelRo, Bytes(8), {{0, RelocType::R64, 0, 0}});
  EXPECT_TRUE(hands_out(graph));
}

// Claim: what can't be decoded counts as handing out.
TEST(Escape, UndecodableDoes) {
  EXPECT_TRUE(hands_out(with_variable_and_code(code({0x06, 0, 0, 0, 0, 0}), 1)));
}

}  // namespace
}  // namespace qp::apply
