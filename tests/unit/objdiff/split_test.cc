// From sections to atoms: where references lead and where things end.

#include "objdiff/split.h"

#include <gtest/gtest.h>

#include "assembled.h"
#include "objdiff/code_map.h"

namespace qp::objdiff {
namespace {

using elf::AtomKind;

const char* const kFunction = R"(
  .section .text.f,"ax",@progbits
  .globl f
  .type f,@function
f:
)";
const char* const kEnd = "\n.size f,.-f\n";

std::string function(const std::string& body) {
  return kFunction + body + kEnd;
}

std::string target_name(const elf::AtomGraph& g, const elf::Ref& ref) {
  return g.symbols[ref.symbol].name;
}

// Claim: with a trailing immediate the reference still means the variable, not what lies before it.
TEST(Split, TrailingImmediate) {
  Report report;
  elf::AtomGraph g = split_text(function("movl $0, b(%rip)\n ret") + R"(
    .data
    .type a,@object
    .size a,4
a:  .long 1
    .type b,@object
    .size b,4
b:  .long 2
)",
                                report);
  const elf::Atom& f = g.atoms[find(g, "f")];
  ASSERT_EQ(f.refs.size(), 1u);
  EXPECT_EQ(target_name(g, f.refs[0]), "b");
  EXPECT_EQ(f.refs[0].addend, -8);
  EXPECT_TRUE(report.clean());
}

// Claim: an entry of a PIC jump table far behind the function's end still means the function.
TEST(Split, TableEntryBehindFunction) {
  Report report;
  std::string text = function(".La: ret") +
                     ".section .text.g,\"ax\"\n.type g,@function\n"
                     "g: lea .Ltable(%rip),%rax\n .Lg1: ret\n.size g,.-g\n"
                     ".section .rodata.g,\"a\"\n.Ltable:\n";
  for (int n = 0; n < 64; ++n) {
    text += ".long .Lg1 - .Ltable\n";
  }
  elf::AtomGraph g = split_text(text, report);
  const elf::Ref& ref = g.atoms[find(g, "g")].refs.at(0);
  const elf::Atom& table = g.atoms[*g.symbols[ref.symbol].atom];
  EXPECT_EQ(table.kind, AtomKind::JumpTable);
  EXPECT_EQ(table.refs.size(), 64u);
  for (const elf::Ref& entry : table.refs) {
    EXPECT_EQ(target_name(g, entry), "g");
    EXPECT_EQ(entry.addend - static_cast<int64_t>(entry.at), 7);
  }
  EXPECT_TRUE(report.clean());
}

// Claim: strings are cut one by one, by the width of their characters.
TEST(Split, Strings) {
  Report report;
  elf::AtomGraph g = split_text(R"(
    .section .rodata.str1.1,"aMS",@progbits,1
    .string "one"
    .string "three"
    .section .rodata.str4.4,"aMS",@progbits,4
    .long 'w', 0x100, 0, 'x', 0
)",
                                report);
  ASSERT_EQ(g.atoms.size(), 4u);
  EXPECT_EQ(g.atoms[0].size, 4u);
  EXPECT_EQ(g.atoms[1].size, 6u);
  EXPECT_EQ(g.atoms[2].size, 12u);
  EXPECT_EQ(g.atoms[3].size, 8u);
  for (const elf::Atom& a : g.atoms) {
    EXPECT_EQ(a.kind, AtomKind::String);
  }
}

// Claim: a string outside of mergeable sections is one atom with the NULs inside it.
TEST(Split, EmbeddedNul) {
  Report report;
  elf::AtomGraph g = split_text(function("lea .LC0(%rip),%rdi\n lea .LC1(%rip),%rsi\n ret") + R"(
    .section .rodata,"a"
.LC0: .string "abc\0def"
.LC1: .string "ghi"
)",
                                report);
  const elf::Atom& f = g.atoms[find(g, "f")];
  EXPECT_EQ(g.atoms[*g.symbols[f.refs[0].symbol].atom].size, 8u);
  EXPECT_EQ(g.atoms[*g.symbols[f.refs[1].symbol].atom].size, 4u);
}

// Claim: what jumps into the middle of a function belongs to its unit, whatever its name.
TEST(Split, PieceByJump) {
  Report report;
  elf::AtomGraph g = split_text(function("jne aside\n .Lback: nop\n ret") + R"(
    .section .text.unlikely,"ax"
    .type aside,@function
aside: incl %eax
    jmp .Lback
    .size aside,.-aside
)",
                                report);
  EXPECT_EQ(g.atoms[find(g, "aside")].parent, find(g, "f"));
  EXPECT_EQ(g.atoms[find(g, "f")].parent, std::nullopt);
}

// Claim: a call to another function's start does not make one unit of them.
TEST(Split, CallIsNoPiece) {
  Report report;
  elf::AtomGraph g = split_text(function("call h\n ret") + R"(
    .section .text.h,"ax"
    .type h,@function
h:  ret
    .size h,.-h
)",
                                report);
  EXPECT_EQ(g.atoms[find(g, "h")].parent, std::nullopt);
}

// Claim: a call to a function of the same section, which the assembler resolved, is a reference again;
// so are a short jump and an address, each with the distance that its field counts from.
TEST(Split, ResolvedReferences) {
  Report report;
  elf::AtomGraph g = split_text(R"(
    .text
    .type f,@function
f:  ret
    .size f,.-f
    .type g,@function
g:  call f
    lea h+2(%rip),%rax
    cmpl $7,h(%rip)
    jmp f
    .size g,.-g
    .type h,@function
h:  jmp h
    ret
    .size h,.-h
)",
                                report);
  EXPECT_TRUE(report.clean());
  const elf::Atom& atom = g.atoms[find(g, "g")];
  ASSERT_EQ(atom.refs.size(), 4u);
  auto expect = [&](size_t n, elf::RelocType type, const char* to, int64_t offset) {
    const elf::Ref& ref = atom.refs[n];
    CodeMap map(atom.bytes);
    EXPECT_EQ(ref.type, type) << n;
    EXPECT_EQ(g.symbols[ref.symbol].atom, find(g, to)) << n;
    EXPECT_EQ(target_offset(ref, atom, &map), offset) << n;
  };
  expect(0, elf::RelocType::PC32, "f", 0);
  expect(1, elf::RelocType::PC32, "h", 2);
  expect(2, elf::RelocType::PC32, "h", 0);
  expect(3, elf::RelocType::PC8, "f", 0);
  EXPECT_TRUE(g.atoms[find(g, "h")].refs.empty());  // a jump inside
}

// Claim: a branch of a shared section that leads to no function is refused.
TEST(Split, ResolvedBranchToNowhere) {
  Report report;
  split_text(R"(
    .text
    .type f,@function
f:  jmp f-64
    .size f,.-f
    .type g,@function
g:  ret
    .size g,.-g
)",
             report);
  ASSERT_FALSE(report.clean());
  EXPECT_EQ(report.refusals()[0].id, "no-function-sections");
}

// Claim: a function without an end of its own is marked if something follows it.
TEST(Split, RunsOn) {
  Report report;
  elf::AtomGraph g = split_text(R"(
    .text
    .type f,@function
f:  inc %eax
    .size f,.-f
    .type g,@function
g:  ret
    .size g,.-g
)",
                                report);
  EXPECT_TRUE(report.clean());
  EXPECT_TRUE(g.atoms[find(g, "f")].runs_on);
  EXPECT_FALSE(g.atoms[find(g, "g")].runs_on);
}

// Claim: an alias is a second symbol of one atom, and references use the atom's own.
TEST(Split, Alias) {
  Report report;
  elf::AtomGraph g = split_text(function("ret") + R"(
    .weak other
    .set other, f
    .section .text.g,"ax"
    .type g,@function
g:  call other
    ret
    .size g,.-g
)",
                                report);
  EXPECT_EQ(target_name(g, g.atoms[find(g, "g")].refs.at(0)), "f");
  EXPECT_TRUE(report.clean());
}

// Claim: every byte of code belongs to something: what no symbol owns becomes an atom by itself.
TEST(Split, CodeWithoutSymbol) {
  Report report;
  elf::AtomGraph g = split_text(function("ret") + ".size f,1\n xorl %eax,%eax\n ret", report);
  ASSERT_EQ(g.atoms.size(), 2u);
  EXPECT_TRUE(g.symbol_of(1).anonymous);
  EXPECT_EQ(g.atoms[1].size, 3u);
}

// Claim: NOPs between functions are padding and no atom.
TEST(Split, Padding) {
  Report report;
  elf::AtomGraph g = split_text(function("ret") + ".p2align 4\n", report);
  EXPECT_EQ(g.atoms.size(), 1u);
}

// Claim: unwind entries go to the function they describe.
TEST(Split, Frames) {
  Report report;
  elf::AtomGraph g =
      split_text(function(".cfi_startproc\n push %rbx\n .cfi_adjust_cfa_offset 8\n pop %rbx\n"
                          " .cfi_adjust_cfa_offset -8\n ret\n .cfi_endproc"),
                 report);
  const elf::Atom& f = g.atoms[find(g, "f")];
  ASSERT_EQ(f.frames.size(), 1u);
  EXPECT_EQ(f.frames[0].size, f.size);
}

// Claim: an unwind entry whose place is asked for by a relocation that means something else (the
// distance to the GOT) is refused; it would be read as the plain one.
TEST(Split, FrameRelocationOfAnotherKind) {
  std::string text = function("ret") + R"(
    .section .eh_frame,"a",@progbits
.Lcie: .long .Lfde-.-4, 0
    .byte 1,'z','R',0,1,0x78,16,1,0x1b,0,0,0
.Lfde: .long .Lend-.-4, .-.Lcie
    .reloc ., R_X86_64_%, f
    .long 0,1
    .long 0
.Lend:
)";
  auto with = [&](const char* type) {
    Report report;
    std::string unit = text;
    split_text(unit.replace(unit.find('%'), 1, type), report);
    return report;
  };
  EXPECT_TRUE(with("PC32").clean());
  Report refused = with("GOTPC32");
  ASSERT_FALSE(refused.clean());
  EXPECT_EQ(refused.refusals()[0].id, "object-unsupported");
  EXPECT_TRUE(refused.refusals()[0].where.starts_with(".eh_frame+"));
}

// Claim: COMMON symbols become zero variables with their alignment.
TEST(Split, Common) {
  Report report;
  elf::AtomGraph g = split_text(".comm pool,64,32\n", report);
  const elf::Atom& a = g.atoms[find(g, "pool")];
  EXPECT_EQ(a.storage, elf::Storage::Bss);
  EXPECT_EQ(a.size, 64u);
  EXPECT_EQ(a.alignment, 32u);
}

// Claim: members of a COMDAT group are marked.
TEST(Split, Comdat) {
  Report report;
  elf::AtomGraph g = split_text(
      ".section .text.c,\"axG\",@progbits,c,comdat\n.weak c\n.type c,@function\nc: ret\n.size "
      "c,.-c",
      report);
  EXPECT_TRUE(g.atoms[find(g, "c")].comdat);
}

// Claim: thread-local variables are atoms of their own storage.
TEST(Split, ThreadLocal) {
  Report report;
  elf::AtomGraph g = split_text(
      ".section .tbss,\"awT\",@nobits\n.type t,@object\n.size t,4\nt: .zero 4\n", report);
  EXPECT_EQ(g.atoms[find(g, "t")].storage, elf::Storage::TlsBss);
}

}  // namespace
}  // namespace qp::objdiff
