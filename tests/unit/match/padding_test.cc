// Padding: what is shown to be some, and what only looks like it.
#include "match/padding.h"

#include <gtest/gtest.h>

#include "programs.h"

namespace qp::match {
namespace {

// Functions in assembly, so that every byte is ours.
constexpr const char* kFunctions = R"(
  .text
  .macro begin name
  .globl \name
  .type \name, @function
\name:
  .cfi_startproc
  .endm
  .macro finish name
  .cfi_endproc
  .size \name, . - \name
  .endm

  .balign 64
  begin ends_in_ret
  xor %eax, %eax
  ret
  finish ends_in_ret
  .balign 16
  begin ends_in_jump
  jmp ends_in_ret
  finish ends_in_jump
  .balign 16, 0xcc
  .globl without_record
  .type without_record, @function
without_record:
  nop
  nop
  nop
  nop
  nop
  nop
  ret
  .size without_record, . - without_record
  .balign 16, 0xcc
  begin runs_on
  xor %eax, %eax
  finish runs_on
  .balign 16, 0x90
  begin jumps_behind
  jmp 1f
  .byte 0xc3
  finish jumps_behind
  nop
  nop
1:
  .balign 16, 0x90
  begin padded_start
  nop
  nop
  nop
  nop
  nop
  nop
  ret
  finish padded_start
  .byte 0xc3
  .globl main
  .type main, @function
main:
  ret
  .size main, . - main
)";

std::vector<Padding> around(const Program& program, LinkAddr middle) {
  return find_padding(program.target(), {middle - 200, middle + 200}, 5);
}

bool has(const std::vector<Padding>& all, LinkAddr at, size_t size) {
  return std::any_of(all.begin(), all.end(),
                     [&](const Padding& p) { return p.at == at && p.bytes.size() == size; });
}

// Claim: padding is found behind functions that end in a return or a jump, up to the next function; not
// behind one that runs on or jumps there, nor in functions that begin with NOPs. Without names it
// is the same.
TEST(Padding, IsWhatNothingRunsInto) {
  Program program({{"functions.s", kFunctions}}, {});
  const LinkAddr first = *program.truth("ends_in_ret");
  for (const bool stripped : {false, true}) {
    if (stripped) {
      program.strip();
    }
    const std::vector<Padding> all = around(program, first);
    EXPECT_TRUE(has(all, first + 3, 13));
    EXPECT_TRUE(has(all, first + 18, 14));
    EXPECT_EQ(has(all, first + 39, 9), !stripped);  // behind the function without a record
    for (const Padding& p : all) {
      EXPECT_FALSE(p.at > first + 39 && p.at < *program.truth("main")) << p.at - first;
    }
  }
}

// Claim: zeros behind a function are padding up to the next round address; what follows can be data.
TEST(Padding, ZerosEndAtARoundAddress) {
  const Program program({{"functions.s",
                          "  .text\n  .balign 64\n  .globl main\n  .type main, @function\nmain:\n"
                          "  ret\n  .size main, . - main\n  .balign 16, 0\n  .zero 16\n"
                          "  .globl next\n  .type next, @function\nnext:\n  ret\n"
                          "  .size next, . - next\n"}},
                        {});
  const LinkAddr main = *program.truth("main");
  ASSERT_EQ(*program.truth("next") - main, 32u);
  const std::vector<Padding> all = around(program, main);
  EXPECT_TRUE(has(all, main + 1, 15));
  EXPECT_FALSE(has(all, main + 1, 31));
}

}  // namespace
}  // namespace qp::match
