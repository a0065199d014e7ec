// Large objects: time must stay proportional to size, and an object compared with itself has no
// differences however much is in it.

#include <gtest/gtest.h>

#include <chrono>

#include <fmt/format.h>

#include "compiled.h"
#include "elf/file.h"
#include "insn/instruction.h"
#include "objdiff/split.h"

namespace qp::pairs {
namespace {

// What gcc -O1 makes of functions with a string, a static local of one name each, a common table,
// calls and branches. As assembly, since compiling that many takes half a minute.
std::string source(int functions) {
  std::string s =
      ".section .rodata.shared,\"a\"\n.type shared,@object\n.size shared,10\n"
      "shared: .short 5,4,3,2,1\n";
  for (int n = 0; n < functions; ++n) {
    s += fmt::format(R"(
      .section .rodata.str1.1,"aMS",@progbits,1
.LC{0}: .string "message {0}"
      .section .bss.calls.{0},"aw",@nobits
      .type calls.{0},@object
      .size calls.{0},4
calls.{0}: .zero 4
      .section .text.f{0},"ax",@progbits
      .globl f{0}
      .type f{0},@function
f{0}: .cfi_startproc
      pushq %rbx
      .cfi_def_cfa_offset 16
      .cfi_offset 3, -16
      movl %edi,%ebx
      cmpl $5,%edi
      jle .L{0}
      movl calls.{0}(%rip),%esi
      incl %esi
      movl %esi,calls.{0}(%rip)
      leaq .LC{0}(%rip),%rdi
      movl $0,%eax
      call use@PLT
.L{0}: movl ${1},%edi
      call g@PLT
      movslq %ebx,%rbx
      leaq shared(%rip),%rdx
      movswl (%rdx,%rbx,2),%edx
      addl %edx,%eax
      popq %rbx
      .cfi_def_cfa_offset 8
      ret
      .cfi_endproc
      .size f{0},.-f{0}
)",
                     n, n * 3 + 1000);
  }
  return s;
}

// Another immediate in the first instruction that has one.
void change(elf::Atom& function) {
  for (uint64_t at = 0; at < function.bytes.size();) {
    auto i = insn::decode(function.bytes, at);
    ASSERT_TRUE(i);
    if (i->immediate.size == 4) {
      function.bytes[at + i->immediate.offset] ^= std::byte{0x40};
      return;
    }
    at += i->length;
  }
  FAIL() << "no immediate";
}

// Claim: in an object with 10,000 functions exactly the one that changed is found, in under 2 s (a
// debug build with sanitizers gets ten times that).
TEST(Scale, TenThousandFunctions) {
  // Each graph is split from an object of its own, as in a build.
  Bytes object = compile({"gcc-12", {"-x", "assembler"}}, source(10000));
  Report report;
  auto start = std::chrono::steady_clock::now();
  elf::AtomGraph original = objdiff::split(elf::File::parse(Bytes(object), "original.o"), report);
  elf::AtomGraph patched = objdiff::split(elf::File::parse(std::move(object), "patched.o"), report);
  for (elf::AtomId id = 0; id < patched.atoms.size(); ++id) {
    if (patched.name_of(id) == "f7") {
      change(patched.atoms[id]);
    }
  }
  objdiff::Diff diff = objdiff::diff(std::move(original), std::move(patched), report);
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_TRUE(report.clean());
  int changed = 0;
  for (const objdiff::Unit& u : diff.units) {
    changed += u.fate != objdiff::Fate::Same ? 1 : 0;
    EXPECT_EQ(u.fate == objdiff::Fate::Changed, u.name == "f7");
  }
  EXPECT_EQ(changed, 1);
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
  EXPECT_LT(took.count(), 2.0);
#else
  EXPECT_LT(took.count(), 20.0);
#endif
}

}  // namespace
}  // namespace qp::pairs
