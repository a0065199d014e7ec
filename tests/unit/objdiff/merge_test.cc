// Several objects as one graph.

#include "objdiff/merge.h"

#include <gtest/gtest.h>

#include "assembled.h"

namespace qp::objdiff {
namespace {

const char* const kDefines = R"(
    .section .text.f,"ax",@progbits
    .globl f
    .hidden f
    .type f,@function
f:  lea .LC0(%rip),%rax
    call missing@PLT
    ret
    .size f,.-f
    .section .rodata.str1.1,"aMS",@progbits,1
.LC0: .string "first"
    .data
    .globl pair
    .type pair,@object
    .size pair,16
pair: .quad 1
    .globl second
    .type second,@object
    .size second,8
second: .quad 2
)";
const char* const kRefers = R"(
    .section .text.g,"ax",@progbits
    .globl g
    .type g,@function
g:  call f
    mov second(%rip),%rax
    lea .LC0(%rip),%rax
    call missing@PLT
    ret
    .size g,.-g
    .section .rodata.str1.1,"aMS",@progbits,1
.LC0: .string "second"
)";

elf::AtomGraph merged() {
  Report report;
  std::vector<elf::AtomGraph> graphs;
  graphs.push_back(split_text(kDefines, report));
  graphs.push_back(split_text(kRefers, report));
  EXPECT_TRUE(report.clean());
  return merge(std::move(graphs));
}

// Claim: what one defines and the other refers to is one thing, also by a name inside it.
TEST(Merge, DefinitionsAreFound) {
  elf::AtomGraph all = merged();
  const elf::Atom& g = all.atoms[find(all, "g")];
  ASSERT_EQ(g.refs.size(), 4u);
  EXPECT_EQ(all.symbols[g.refs[0].symbol].atom, find(all, "f"));
  auto second = all.symbols[g.refs[1].symbol];
  ASSERT_TRUE(second.atom);
  EXPECT_EQ(all.atoms[*second.atom].bytes[static_cast<size_t>(g.refs[1].addend + 4)], std::byte{2});
}

// Claim: what nobody defines is one symbol for all.
TEST(Merge, OneOutsideSymbol) {
  elf::AtomGraph all = merged();
  const elf::Atom &f = all.atoms[find(all, "f")], &g = all.atoms[find(all, "g")];
  EXPECT_EQ(f.refs[1].symbol, g.refs[3].symbol);
  EXPECT_FALSE(all.symbols[g.refs[3].symbol].atom);
}

// Claim: what has no name stays apart, each with its own content and a name of its own.
TEST(Merge, AnonymousStaysApart) {
  elf::AtomGraph all = merged();
  const elf::AtomSymbol& a = all.symbols[all.atoms[find(all, "f")].refs[0].symbol];
  const elf::AtomSymbol& b = all.symbols[all.atoms[find(all, "g")].refs[2].symbol];
  EXPECT_NE(a.name, b.name);
  EXPECT_EQ(as_text(all.atoms[*a.atom].bytes), std::string_view("first\0", 6));
  EXPECT_EQ(as_text(all.atoms[*b.atom].bytes), std::string_view("second\0", 7));
}

}  // namespace
}  // namespace qp::objdiff
