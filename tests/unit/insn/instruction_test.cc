// The decoder's reduction: which encodings fall together, which must stay apart, where fields are.
// Code bytes carry their assembly.

#include "insn/instruction.h"

#include <initializer_list>
#include <optional>

#include <gtest/gtest.h>

namespace qp::insn {
namespace {

Bytes code(std::initializer_list<unsigned> values) {
  Bytes out;
  for (unsigned v : values) {
    out.push_back(static_cast<std::byte>(v));
  }
  return out;
}

Instruction decoded(const Bytes& b) {
  auto i = decode(b, 0);
  if (!i || i->length != b.size()) {
    ADD_FAILURE() << "not one instruction: " << hex(b);
    return {};
  }
  return *i;
}

bool same_shape(const Bytes& a, const Bytes& b) {
  return shape_of(a, 0, decoded(a)) == shape_of(b, 0, decoded(b));
}

// Claim: jmp rel8 and jmp rel32 have one shape, and the distance is a field.
TEST(Shape, JumpWidthDoesNotMatter) {
  Bytes near = code({0xeb, 0x10});                   // jmp +16
  Bytes far = code({0xe9, 0x00, 0x01, 0x00, 0x00});  // jmp +256
  EXPECT_TRUE(same_shape(near, far));
  EXPECT_EQ(*decoded(near).branch_target(), 18);
  EXPECT_EQ(*decoded(far).branch_target(), 261);
}

// Claim: jcc rel8 and rel32 have one shape; another condition is another shape.
TEST(Shape, ConditionMatters) {
  Bytes je8 = code({0x74, 0x10});                  // je +16
  Bytes je32 = code({0x0f, 0x84, 0x10, 0, 0, 0});  // je +16
  Bytes jne8 = code({0x75, 0x10});                 // jne +16
  EXPECT_TRUE(same_shape(je8, je32));
  EXPECT_FALSE(same_shape(je8, jne8));
  EXPECT_EQ(decoded(je32).flow, Flow::Branch);
  EXPECT_EQ(decoded(je8).operation, decoded(je32).operation);
}

// Claim: a jump and a call with the same distance differ.
TEST(Shape, CallIsNotJump) {
  EXPECT_FALSE(same_shape(code({0xe8, 0, 0, 0, 0}), code({0xe9, 0, 0, 0, 0})));
}

// Claim: disp8 and disp32 encodings of one address have one shape and one value.
TEST(Shape, DisplacementWidthDoesNotMatter) {
  Bytes narrow = code({0x8b, 0x43, 0x08});         // mov 8(%rbx),%eax
  Bytes wide = code({0x8b, 0x83, 0x08, 0, 0, 0});  // mov 8(%rbx),%eax with disp32
  EXPECT_TRUE(same_shape(narrow, wide));
  EXPECT_EQ(decoded(narrow).displacement.value, 8);
  EXPECT_EQ(decoded(wide).displacement.value, 8);
}

// Claim: (%rbx) and 0(%rbx) have one shape and both displacements count as 0.
TEST(Shape, AbsentDisplacementIsZero) {
  Bytes none = code({0x8b, 0x03});        // mov (%rbx),%eax
  Bytes zero = code({0x8b, 0x43, 0x00});  // mov 0(%rbx),%eax
  EXPECT_TRUE(same_shape(none, zero));
  EXPECT_EQ(decoded(none).displacement.size, 0);
  EXPECT_EQ(decoded(none).displacement.value, 0);
  EXPECT_EQ(decoded(zero).displacement.value, 0);
}

// Claim: rip-relative, absolute and register-based addressing are different shapes.
TEST(Shape, AddressingFormsDiffer) {
  Bytes rip = code({0x8b, 0x05, 8, 0, 0, 0});             // mov 8(%rip),%eax
  Bytes absolute = code({0x8b, 0x04, 0x25, 8, 0, 0, 0});  // mov 8,%eax
  Bytes rbp = code({0x8b, 0x45, 8});                      // mov 8(%rbp),%eax
  Bytes rsp = code({0x8b, 0x44, 0x24, 8});                // mov 8(%rsp),%eax
  EXPECT_FALSE(same_shape(rip, absolute));
  EXPECT_FALSE(same_shape(rip, rbp));
  EXPECT_FALSE(same_shape(absolute, rsp));
  EXPECT_FALSE(same_shape(rbp, rsp));
  EXPECT_TRUE(decoded(rip).rip_relative);
  EXPECT_FALSE(decoded(rbp).rip_relative);
}

// Claim: EVEX disp8*N and disp32 of one address have one shape and one value.
TEST(Shape, CompressedDisplacementIsScaled) {
  // vmovdqu64 64(%rax),%zmm0
  Bytes compressed = code({0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x40, 0x01});
  Bytes plain = code({0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x80, 0x40, 0, 0, 0});
  EXPECT_TRUE(same_shape(compressed, plain));
  EXPECT_EQ(decoded(compressed).displacement.value, 64);
  EXPECT_EQ(decoded(plain).displacement.value, 64);
}

// Claim: a mask register, zeroing and the vector length of EVEX are part of the shape.
TEST(Shape, EvexFieldsMatter) {
  Bytes masked = code({0x62, 0xf1, 0x7d, 0x49, 0xfe, 0xc1});  // vpaddd %zmm1,%zmm0,%zmm0{%k1}
  Bytes zeroed = code({0x62, 0xf1, 0x7d, 0xc9, 0xfe, 0xc1});  // … {%k1}{z}
  Bytes ymm = code({0x62, 0xf1, 0x7d, 0x29, 0xfe, 0xc1});     // vpaddd %ymm1,%ymm0,%ymm0{%k1}
  EXPECT_FALSE(same_shape(masked, zeroed));
  EXPECT_FALSE(same_shape(masked, ymm));
}

// Claim: registers above 15 are told apart.
TEST(Shape, HighVectorRegisters) {
  Bytes low = code({0x62, 0xf1, 0x7d, 0x48, 0xfe, 0xc1});   // vpaddd %zmm1,%zmm0,%zmm0
  Bytes high = code({0x62, 0xb1, 0x7d, 0x48, 0xfe, 0xc1});  // vpaddd %zmm17,%zmm0,%zmm0
  EXPECT_FALSE(same_shape(low, high));
}

// Claim: imm8 sign-extended and imm32 of one operation have one shape and one value.
TEST(Shape, ImmediateWidthDoesNotMatter) {
  Bytes narrow = code({0x83, 0xc3, 0xff});                  // add $-1,%ebx
  Bytes wide = code({0x81, 0xc3, 0xff, 0xff, 0xff, 0xff});  // add $-1,%ebx
  EXPECT_TRUE(same_shape(narrow, wide));
  EXPECT_EQ(decoded(narrow).immediate.value, -1);
  EXPECT_EQ(decoded(wide).immediate.value, -1);
}

// Claim: operand size, REX.W, lock, rep and segment prefixes are part of the shape.
TEST(Shape, PrefixesMatter) {
  Bytes plain = code({0x01, 0x03});                            // add %eax,(%rbx)
  EXPECT_FALSE(same_shape(plain, code({0x66, 0x01, 0x03})));   // add %ax,(%rbx)
  EXPECT_FALSE(same_shape(plain, code({0x48, 0x01, 0x03})));   // add %rax,(%rbx)
  EXPECT_FALSE(same_shape(plain, code({0xf0, 0x01, 0x03})));   // lock add %eax,(%rbx)
  EXPECT_FALSE(same_shape(plain, code({0x64, 0x01, 0x03})));   // add %eax,%fs:(%rbx)
  EXPECT_FALSE(same_shape(code({0xa4}), code({0xf3, 0xa4})));  // movsb, rep movsb
}

// Claim: the order of legacy prefixes does not matter.
TEST(Shape, PrefixOrderDoesNotMatter) {
  EXPECT_TRUE(same_shape(code({0x66, 0xf0, 0x01, 0x03}), code({0xf0, 0x66, 0x01, 0x03})));
}

// Claim: an empty REX is kept, since it turns %ah into %spl.
TEST(Shape, EmptyRexMatters) {
  EXPECT_FALSE(same_shape(code({0x88, 0xe0}), code({0x40, 0x88, 0xe0})));
}

// Claim: VEX registers and lengths are part of the shape.
TEST(Shape, VexFieldsMatter) {
  Bytes a = code({0xc5, 0xf9, 0xfe, 0xc1});                     // vpaddd %xmm1,%xmm0,%xmm0
  EXPECT_FALSE(same_shape(a, code({0xc5, 0xf1, 0xfe, 0xc1})));  // vpaddd %xmm1,%xmm1,%xmm0
  EXPECT_FALSE(same_shape(a, code({0xc5, 0xfd, 0xfe, 0xc1})));  // vpaddd %ymm1,%ymm0,%ymm0
}

// Claim: both fields of an instruction with displacement and trailing immediate are found.
TEST(Decode, TrailingImmediate) {
  // movl $5,0x10(%rip)
  Instruction i = decoded(code({0xc7, 0x05, 0x10, 0, 0, 0, 5, 0, 0, 0}));
  EXPECT_TRUE(i.rip_relative);
  EXPECT_EQ(i.displacement, (Field{2, 4, 0x10}));
  EXPECT_EQ(i.immediate, (Field{6, 4, 5}));
}

// Claim: the absolute address of mov moffs is an 8-byte displacement.
TEST(Decode, MovMoffs) {
  // movabs 0x1122334455667788,%al
  Instruction i = decoded(code({0xa0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}));
  EXPECT_EQ(i.displacement, (Field{1, 8, 0x1122334455667788}));
}

// Claim: a 64-bit immediate is read whole.
TEST(Decode, Movabs) {
  // movabs $0x8000000000000001,%rax
  Instruction i = decoded(code({0x48, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0x80}));
  EXPECT_EQ(i.immediate, (Field{2, 8, INT64_MIN + 1}));
}

// Claim: ENTER has two immediates.
TEST(Decode, TwoImmediates) {
  Instruction i = decoded(code({0xc8, 0x10, 0x00, 0x01}));  // enter $16,$1
  EXPECT_EQ(i.immediate, (Field{1, 2, 16}));
  EXPECT_EQ(i.immediate2, (Field{3, 1, 1}));
}

// Claim: a push through memory reports the displacement of its operand, not of the stack.
TEST(Decode, HiddenStackOperand) {
  EXPECT_EQ(decoded(code({0xff, 0x73, 0x08})).displacement.value, 8);  // push 8(%rbx)
}

// Claim: every NOP that gas emits as padding is one; endbr64, pause and xchg %r8 are not.
TEST(Decode, Nops) {
  EXPECT_TRUE(decoded(code({0x90})).is_nop);                          // nop
  EXPECT_TRUE(decoded(code({0x66, 0x90})).is_nop);                    // xchg %ax,%ax
  EXPECT_TRUE(decoded(code({0x0f, 0x1f, 0x00})).is_nop);              // nopl (%rax)
  EXPECT_TRUE(decoded(code({0x0f, 0x1f, 0x40, 0x00})).is_nop);        // nopl 0(%rax)
  EXPECT_TRUE(decoded(code({0x0f, 0x1f, 0x80, 0, 0, 0, 0})).is_nop);  // nopl 0L(%rax)
  EXPECT_TRUE(decoded(code({0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0})).is_nop);
  EXPECT_FALSE(decoded(code({0xf3, 0x0f, 0x1e, 0xfa})).is_nop);  // endbr64
  EXPECT_TRUE(decoded(code({0xf3, 0x0f, 0x1e, 0xfa})).is_endbr64);
  EXPECT_FALSE(decoded(code({0xf3, 0x90})).is_nop);  // pause
  EXPECT_FALSE(decoded(code({0x41, 0x90})).is_nop);  // xchg %r8d,%eax
}

// Claim: control flow is classified.
TEST(Decode, Flow) {
  EXPECT_EQ(decoded(code({0xe8, 0, 0, 0, 0})).flow, Flow::Call);    // call
  EXPECT_TRUE(decoded(code({0xff, 0xd0})).is_call);                 // call *%rax
  EXPECT_EQ(decoded(code({0xff, 0xe0})).flow, Flow::IndirectJump);  // jmp *%rax
  EXPECT_EQ(decoded(code({0xff, 0x25, 0, 0, 0, 0})).flow, Flow::IndirectJump);
  EXPECT_EQ(decoded(code({0xc3})).flow, Flow::Return);                    // ret
  EXPECT_EQ(decoded(code({0xf3, 0xc3})).flow, Flow::Return);              // rep ret
  EXPECT_EQ(decoded(code({0x0f, 0x0b})).flow, Flow::Stop);                // ud2
  EXPECT_EQ(decoded(code({0xe2, 0x00})).flow, Flow::Branch);              // loop
  EXPECT_EQ(decoded(code({0xe3, 0x00})).flow, Flow::Branch);              // jrcxz
  EXPECT_EQ(decoded(code({0xc7, 0xf8, 0, 0, 0, 0})).flow, Flow::Branch);  // xbegin
}

// Claim: an AMX instruction decodes.
TEST(Decode, Amx) {
  EXPECT_EQ(decoded(code({0xc4, 0xe2, 0x7b, 0x49, 0xc0})).length, 5);
}  // tilezero

// Claim: cut off or invalid bytes are not an instruction.
TEST(Decode, RefusesGarbage) {
  EXPECT_FALSE(decode(code({0xe8, 0, 0}), 0));
  EXPECT_FALSE(decode(code({0x06}), 0));
  EXPECT_FALSE(decode(code({}), 0));
  EXPECT_FALSE(decode(code({0x90}), 1));
}

// Claim: text is AT&T as objdump writes it.
TEST(Format, AttSyntax) {
  EXPECT_EQ(format(code({0xb8, 1, 0, 0, 0}), 0, 0x1000), "mov $0x1,%eax");
  EXPECT_EQ(format(code({0x8b, 0x43, 0x08}), 0, 0x1000), "mov 0x8(%rbx),%eax");
}

// Claim: the target of a branch is computed from the address.
TEST(Format, BranchTarget) {
  EXPECT_NE(format(code({0xe8, 0, 0, 0, 0}), 0, 0x1000).find("0x1005"), std::string::npos);
}

}  // namespace
}  // namespace qp::insn
