// Where the jump goes, and where it must not go.

#include <gmock/gmock.h>

#include "base/error.h"
#include "patch_builder.h"

namespace qp::link {
namespace {

using testing::ElementsAre;

constexpr LinkAddr kEntry(0x1000), kNew(0x400000);

Bytes padded(Bytes code, unsigned fill = 0xcc) {
  code.resize(32, static_cast<std::byte>(fill));
  return code;
}

// Claim: the jump is e9 and the distance from its end, forwards and backwards.
TEST(Detour, JumpEncoding) {
  EXPECT_EQ(encode_jump(LinkAddr(0x1000), LinkAddr(0x1010)), bytes_of({0xe9, 0x0b, 0, 0, 0}));
  EXPECT_EQ(encode_jump(LinkAddr(0x1000), LinkAddr(0x1000)),
            bytes_of({0xe9, 0xfb, 0xff, 0xff, 0xff}));
}

// Claim: a jump that does not reach is a bug of the caller.
TEST(Detour, JumpOutOfRangeIsABug) {
  EXPECT_THROW(encode_jump(LinkAddr(0), LinkAddr(0x80000005)), Bug);
  EXPECT_NO_THROW(encode_jump(LinkAddr(0), LinkAddr(0x80000004)));
}

// Claim: an ordinary function is detoured at its entry, and the old bytes are kept.
TEST(Detour, OrdinaryFunction) {
  Report report;
  Bytes code = padded(bytes_of({0x55, 0x48, 0x89, 0xe5, 0x31, 0xc0, 0x5d, 0xc3}));
  auto d = plan_detour("f", kEntry, 8, code, kNew, LinkAddr(0x1010), report);
  ASSERT_TRUE(d);
  EXPECT_EQ(d->at, kEntry);
  EXPECT_EQ(d->expected, bytes_of({0x55, 0x48, 0x89, 0xe5, 0x31}));
  EXPECT_EQ(d->jump, encode_jump(kEntry, kNew));
}

// Claim: endbr64 stays; the jump comes behind it.
TEST(Detour, LandingPadStays) {
  Report report;
  Bytes code = padded(bytes_of({0xf3, 0x0f, 0x1e, 0xfa, 0x31, 0xc0, 0x90, 0x90, 0xc3}));
  auto d = plan_detour("f", kEntry, 9, code, kNew, LinkAddr(0x1010), report);
  ASSERT_TRUE(d);
  EXPECT_EQ(d->at, kEntry + 4);
  EXPECT_EQ(d->jump, encode_jump(kEntry + 4, kNew));
}

// Claim: a short function is detoured into NOP, int3 or zero padding behind it.
TEST(Detour, ShortFunctionWithPadding) {
  const Bytes xor_ret = bytes_of({0x31, 0xc0, 0xc3});
  Bytes nops = xor_ret;  // cs nopw 0x0(%rax,%rax,1)
  append_bytes(nops, bytes_of({0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}));
  for (const Bytes& code :
       {padded(xor_ret, 0xcc), padded(xor_ret, 0), padded(xor_ret, 0x90), padded(nops)}) {
    Report report;
    EXPECT_TRUE(plan_detour("f", kEntry, 3, code, kNew, LinkAddr(0x1010), report)) << hex(code);
  }
}

// Claim: a short function whose neighbour's code follows at once is refused.
TEST(Detour, ShortFunctionWithoutPaddingIsRefused) {
  Report report;
  Bytes code = padded(bytes_of({0x31, 0xc0, 0xc3, 0x55, 0x48, 0x89, 0xe5}));
  EXPECT_FALSE(plan_detour("f", kEntry, 3, code, kNew, std::nullopt, report));
  EXPECT_THAT(ids(report), ElementsAre("function-short"));
}

// Claim: padding ends where the next symbol begins, even if that begins with a NOP.
TEST(Detour, NextSymbolBoundsThePadding) {
  Report report;
  Bytes code = padded(bytes_of({0x31, 0xc0, 0xc3}), 0x90);
  EXPECT_FALSE(plan_detour("f", kEntry, 3, code, kNew, kEntry + 4, report));
  EXPECT_THAT(ids(report), ElementsAre("function-short"));
  EXPECT_TRUE(plan_detour("f", kEntry, 3, code, kNew, kEntry + 5, report));
}

// Claim: a symbol inside the five bytes of a long function is refused: it is a second way in.
TEST(Detour, SymbolInsideTheJumpIsRefused) {
  Report report;
  EXPECT_FALSE(plan_detour("f", kEntry, 20, Bytes(32, std::byte{0x90}), kNew, kEntry + 2, report));
  EXPECT_THAT(ids(report), ElementsAre("function-short"));
}

// Claim: endbr64; ret needs padding for the bytes behind the landing pad.
TEST(Detour, LandingPadCountsForShortness) {
  Report report;
  Bytes code = bytes_of({0xf3, 0x0f, 0x1e, 0xfa, 0xc3, 0x90, 0x90, 0x90, 0x55});
  code.resize(32, std::byte{0x55});
  EXPECT_FALSE(plan_detour("f", kEntry, 5, code, kNew, std::nullopt, report));
  code[8] = std::byte{0x90};
  EXPECT_TRUE(plan_detour("f", kEntry, 5, code, kNew, std::nullopt, report));
}

// Claim: code that ends where the mapping ends is refused.
TEST(Detour, EndOfTheMapping) {
  Report report;
  EXPECT_FALSE(plan_detour("f", kEntry, 1, bytes_of({0xc3, 0xcc}), kNew, std::nullopt, report));
  EXPECT_FALSE(plan_detour("f", kEntry, 0, {}, kNew, std::nullopt, report));
  EXPECT_FALSE(report.clean());
}

// Claim: a new function that the jump can't reach is refused.
TEST(Detour, OutOfReachIsRefused) {
  Report report;
  EXPECT_FALSE(plan_detour("f", kEntry, 20, Bytes(32, std::byte{0x90}), LinkAddr(0x90000000),
                           std::nullopt, report));
  EXPECT_THAT(ids(report), ElementsAre("reloc-range"));
}

}  // namespace
}  // namespace qp::link
