#include "large_unit.h"

#include <fmt/format.h>

namespace qp::pairs {

// What gcc -O1 makes of functions with a string, a static local of one name each, a common table,
// calls and branches. As assembly, since compiling that many takes half a minute.
std::string large_unit(int functions) {
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

}  // namespace qp::pairs
