// Which registers code still looks at. Code bytes carry their assembly.

#include "insn/liveness.h"

#include <initializer_list>

#include <gtest/gtest.h>

namespace qp::insn {
namespace {

// Of r10, from the start of the code on.
bool is_free(std::initializer_list<unsigned> values) {
  Bytes code;
  for (unsigned v : values) {
    code.push_back(static_cast<std::byte>(v));
  }
  return is_never_read(code, 0, 10);
}

// Claim: what libc's system calls do behind their `syscall` does not look at r10, on either way.
TEST(Liveness, LibcSystemCall) {
  EXPECT_TRUE(is_free({0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff,     // cmp $-4096,%rax
                       0x77, 0x01,                             // ja 1f
                       0xc3,                                   // ret
                       0xf7, 0xd8,                             // 1: neg %eax
                       0x64, 0x89, 0x02,                       // mov %eax,%fs:(%rdx)
                       0xb8, 0xff, 0xff, 0xff, 0xff, 0xc3}));  // mov $-1,%eax; ret
  EXPECT_TRUE(is_free({0xe8, 0x00, 0x00, 0x00, 0x00, 0xc3}));  // call .; ret
}

// Claim: a read is seen in every form: an operand, a part of an address, a part of the register, a
// system call; and behind a branch and a call.
TEST(Liveness, Reads) {
  EXPECT_FALSE(is_free({0x4c, 0x89, 0xd0, 0xc3}));           // mov %r10,%rax
  EXPECT_FALSE(is_free({0x44, 0x88, 0xd0, 0xc3}));           // mov %r10b,%al
  EXPECT_FALSE(is_free({0x49, 0x8b, 0x02, 0xc3}));           // mov (%r10),%rax
  EXPECT_FALSE(is_free({0x4a, 0x8b, 0x04, 0x10, 0xc3}));     // mov (%rax,%r10),%rax
  EXPECT_FALSE(is_free({0x41, 0x52, 0xc3}));                 // push %r10
  EXPECT_FALSE(is_free({0x49, 0xff, 0xc2, 0xc3}));           // inc %r10
  EXPECT_FALSE(is_free({0x41, 0xb2, 0x01, 0xc3}));           // mov $1,%r10b: the rest stays
  EXPECT_FALSE(is_free({0x4c, 0x0f, 0x44, 0xd0, 0xc3}));     // cmove %rax,%r10
  EXPECT_FALSE(is_free({0x0f, 0x05, 0xc3}));                 // syscall
  EXPECT_FALSE(is_free({0x74, 0x01, 0xc3, 0x4c, 0x89, 0xd0,  // je 1f; ret; 1: mov %r10,%rax
                        0xc3}));
  EXPECT_FALSE(is_free({0xe8, 0x00, 0x00, 0x00, 0x00, 0x4c,  // call .; mov %r10,%rax
                        0x89, 0xd0, 0xc3}));
}

// Claim: a write of 32 or 64 bits ends the search, and so do a loop and the end of the program.
TEST(Liveness, Ends) {
  EXPECT_TRUE(is_free({0x4d, 0x8b, 0x10, 0x4c, 0x89, 0xd0}));  // mov (%r8),%r10; mov %r10,%rax
  EXPECT_TRUE(is_free({0x41, 0xba, 1, 0, 0, 0, 0x4c, 0x89,     // mov $1,%r10d; mov %r10,%rax
                       0xd0}));
  EXPECT_TRUE(is_free({0xeb, 0xfe}));  // 1: jmp 1b
  EXPECT_TRUE(is_free({0x0f, 0x0b}));  // ud2
}

// Claim: what is not seen counts as a read.
TEST(Liveness, OutOfSight) {
  EXPECT_FALSE(is_free({0x90}));        // nop, and the window ends
  EXPECT_FALSE(is_free({0xeb, 0x70}));  // jmp out of it
  EXPECT_FALSE(is_free({0xeb, 0x80}));  // jmp before it
  EXPECT_FALSE(is_free({0xff, 0xe0}));  // jmp *%rax
  EXPECT_FALSE(is_free({0x06, 0xc3}));  // no instruction
  EXPECT_FALSE(is_free({}));
}

}  // namespace
}  // namespace qp::insn
