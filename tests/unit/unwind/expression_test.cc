// The expressions of unwind tables.

#include "unwind/expression.h"

#include <gtest/gtest.h>

#include "fake_memory.h"

namespace qp::unwind {
namespace {

using Ops = std::vector<elf::FrameOp>;

std::optional<uint64_t> run(const Ops& ops, std::optional<uint64_t> cfa = std::nullopt) {
  FakeMemory memory;
  memory.put(0x1000, {0x1122334455667788});
  FrameRegisters registers;
  registers.values[7] = 0x7000;
  registers.values[16] = 0x401236;
  return evaluate(ops, registers, memory, cfa);
}

// Claim: a register plus an offset, in both encodings, also a negative offset.
TEST(Expression, RegisterAndOffset) {
  EXPECT_EQ(run({{0x77, 16}}), 0x7010U);
  EXPECT_EQ(run({{0x92, 7, 8}}), 0x7008U);
  EXPECT_EQ(run({{0x77, static_cast<uint64_t>(-8)}}), 0x6ff8U);
}

// Claim: the CFA is on the stack at the start, and DW_OP_call_frame_cfa pushes it too.
TEST(Expression, StartsWithTheCfa) {
  EXPECT_EQ(run({{0x23, static_cast<uint64_t>(-16)}}, 0x7000), 0x6ff0U);
  EXPECT_EQ(run({{0x9c}, {0x23, 8}}, 0x7000), 0x7008U);
  EXPECT_EQ(run({}, 0x7000), 0x7000U);
  EXPECT_FALSE(run({{0x9c}}));
}

// Claim: the PLT's rule is 16 before its push and 24 behind it, by the low bits of the pc.
TEST(Expression, PltStub) {
  auto plt = [](uint64_t pc) {
    FakeMemory memory;
    FrameRegisters registers;
    registers.values[7] = 0x7000;
    registers.values[16] = pc;
    return evaluate({{0x77, 8}, {0x80, 0}, {0x3f}, {0x1a}, {0x3b}, {0x2a}, {0x33}, {0x24}, {0x22}},
                    registers, memory, std::nullopt);
  };
  EXPECT_EQ(plt(0x1020), 0x7008U);
  EXPECT_EQ(plt(0x102a), 0x7008U);
  EXPECT_EQ(plt(0x102b), 0x7010U);
}

// Claim: memory is read in the width asked for; what can't be read has no value.
TEST(Expression, Deref) {
  EXPECT_EQ(run({{0x0a, 0x1000}, {0x06}}), 0x1122334455667788U);
  EXPECT_EQ(run({{0x0a, 0x1000}, {0x94, 2}}), 0x7788U);
  EXPECT_FALSE(run({{0x0a, 0x2000}, {0x06}}));
  EXPECT_FALSE(run({{0x0a, 0x1000}, {0x94, 3}}));
}

// Claim: arithmetic and comparisons take the second operand from below, comparisons are signed.
TEST(Expression, Arithmetic) {
  const uint64_t minus_one = ~uint64_t{0};
  struct Case {
    uint8_t op;
    uint64_t a, b, result;
  };
  for (const Case& c : {Case{0x1a, 12, 10, 8},
                        {0x21, 12, 10, 14},
                        {0x27, 12, 10, 6},
                        {0x22, 12, 10, 22},
                        {0x1c, 12, 10, 2},
                        {0x1e, 12, 10, 120},
                        {0x1b, minus_one - 5, 3, minus_one - 1},
                        {0x1d, 12, 10, 2},
                        {0x24, 1, 4, 16},
                        {0x24, 1, 64, 0},
                        {0x25, 256, 4, 16},
                        {0x26, minus_one, 4, minus_one},
                        {0x26, minus_one, 99, minus_one},
                        {0x29, 4, 4, 1},
                        {0x2e, 4, 4, 0},
                        {0x2d, minus_one, 0, 1},
                        {0x2b, minus_one, 0, 0},
                        {0x2a, 3, 3, 1},
                        {0x2c, 4, 3, 0},
                        {0x1b, uint64_t{1} << 63, minus_one, uint64_t{1} << 63}}) {
    EXPECT_EQ(run({{0x0e, c.a}, {0x0e, c.b}, {c.op}}), c.result) << static_cast<int>(c.op);
  }
}

// Claim: the stack operations do what DWARF says.
TEST(Expression, StackOperations) {
  EXPECT_EQ(run({{0x35}, {0x12}, {0x22}}), 10U);                                // 5 dup plus
  EXPECT_EQ(run({{0x35}, {0x31}, {0x13}}), 5U);                                 // 5 1 drop
  EXPECT_EQ(run({{0x35}, {0x31}, {0x16}, {0x1c}}), static_cast<uint64_t>(-4));  // 5 1 swap minus
  EXPECT_EQ(run({{0x35}, {0x31}, {0x14}}), 5U);                                 // 5 1 over
  EXPECT_EQ(run({{0x35}, {0x31}, {0x32}, {0x15, 2}}), 5U);                      // 5 1 2 pick 2
  EXPECT_EQ(run({{0x35}, {0x31}, {0x32}, {0x17}}), 1U);  // 5 1 2 rot -> 2 5 1
}

// Claim: an unknown operation, an unknown register, an empty stack, a division by zero have no
// value.
TEST(Expression, NeverAGuess) {
  EXPECT_FALSE(run({}));
  EXPECT_FALSE(run({{0x03, 0x1000}}));  // DW_OP_addr: of which module?
  EXPECT_FALSE(run({{0x2f, 4}}));       // DW_OP_skip
  EXPECT_FALSE(run({{0xf1}}));          // not DWARF's
  EXPECT_FALSE(run({{0x73, 0}}));       // rbx is not known here
  EXPECT_FALSE(run({{0x92, 40, 0}}));   // no such register
  EXPECT_FALSE(run({{0x22}}));
  EXPECT_FALSE(run({{0x31}, {0x22}}));
  EXPECT_FALSE(run({{0x31}, {0x30}, {0x1b}}));
  EXPECT_FALSE(run({{0x31}, {0x30}, {0x1d}}));
  EXPECT_FALSE(run({{0x13}}));
  EXPECT_FALSE(run({{0x31}, {0x13}}));
  EXPECT_FALSE(run(Ops(1000, {0x31})));  // too deep
}

}  // namespace
}  // namespace qp::unwind
