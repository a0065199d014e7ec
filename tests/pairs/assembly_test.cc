// Assembly with several functions in one section: units are told apart by their symbols.

#include <gtest/gtest.h>

#include "compiled.h"

namespace qp::pairs {
namespace {

using objdiff::Fate;
using Names = std::set<std::string>;

const Compiler kAssembler{"gcc-12", {"-x", "assembler"}};

const char* const kUnit = R"(
    .text
    .globl first
    .type first,@function
first:
    mov $5,%eax
    call helper
    ret
    .size first,.-first
    .type helper,@function
helper:
    add $1,%eax
    jz 1f
    ret
1:  jmp second
    .size helper,.-helper
    .globl second
    .type second,@function
second:
    lea table(%rip),%rcx
    jmp helper
    .size second,.-second
    .type tail,@function
tail:
    dec %eax
    .size tail,.-tail
    .type last,@function
last:
    call first@PLT
    ret
    .size last,.-last
    .section .rodata
    .type table,@object
    .size table,8
table: .quad 7
)";

Outcome compared(const std::string& what, const std::string& with) {
  std::string patched = kUnit;
  size_t at = patched.find(what);
  EXPECT_NE(at, std::string::npos);
  patched.replace(at, what.size(), with);
  return diff_objects(compile(kAssembler, kUnit), compile(kAssembler, patched));
}

// Claim: the function that changed is found, and none of those that it moved.
TEST(Assembly, OnlyWhatChanged) {
  Outcome found = compared("mov $5,%eax", "xor %eax,%eax\n mov $6,%al\n nopl (%rax)");
  EXPECT_EQ(found.names(Fate::Changed), Names{"first"}) << found.text();
  EXPECT_EQ(found.refusal_ids(), Names()) << found.text();
  EXPECT_EQ(found.bound(), Names{"helper"});
}

// Claim: a call that leads to another function of the section is a change, although the assembler
// left no relocation.
TEST(Assembly, AnotherCallee) {
  Outcome found = compared("call helper", "call last");
  EXPECT_EQ(found.names(Fate::Changed), Names{"first"}) << found.text();
  EXPECT_EQ(found.bound(), Names{"last"});
}

// Claim: a changed function with a short jump to another is refused, by name.
TEST(Assembly, ShortJump) {
  Outcome found = compared("add $1,%eax", "add $2,%eax");
  EXPECT_EQ(found.names(Fate::Changed), Names{"helper"}) << found.text();
  EXPECT_EQ(found.refusal_ids(), Names{"no-function-sections"}) << found.text();
}

// Claim: a changed function that runs on into the next is refused.
TEST(Assembly, RunsOn) {
  Outcome found = compared("dec %eax", "inc %eax");
  EXPECT_EQ(found.names(Fate::Changed), Names{"tail"}) << found.text();
  EXPECT_EQ(found.refusal_ids(), Names{"object-unsupported"}) << found.text();
}

// Claim: a jump into the middle of another function makes one unit of the two, and is refused if
// that changes.
TEST(Assembly, JumpIntoTheMiddle) {
  std::string original = kUnit, patched;
  original.replace(original.find("jmp second"), 10, "jmp second+7");
  patched = original;
  patched.replace(patched.find("add $1,%eax"), 11, "add $2,%eax");
  Outcome found = diff_objects(compile(kAssembler, original), compile(kAssembler, patched));
  EXPECT_EQ(found.refusal_ids().count("object-unsupported"), 1u) << found.text();
  Outcome same = diff_objects(compile(kAssembler, original), compile(kAssembler, original));
  EXPECT_FALSE(same.diff.changed());
  EXPECT_TRUE(same.report.clean()) << same.text();
}

// Claim: C compiled without function sections is taken apart in the same way.
TEST(Assembly, CompiledWithoutFunctionSections) {
  Compiler c{"gcc-12", {"-O2", "-fno-function-sections"}};
  std::string original =
      "__attribute__((noipa)) static int low(int x) { return x * 3; }\n"
      "__attribute__((noipa)) int high(int x) { return low(x) + 1; }\n";
  std::string patched = original;
  patched.replace(patched.find("* 3"), 3, "* 5 - 2");
  Outcome found = diff_objects(compile(c, original), compile(c, patched));
  EXPECT_EQ(found.names(Fate::Changed), Names{"low"}) << found.text();
  EXPECT_EQ(found.refusal_ids(), Names()) << found.text();
}

}  // namespace
}  // namespace qp::pairs
