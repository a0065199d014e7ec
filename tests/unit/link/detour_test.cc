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

// xor %eax,%eax; ret, with another function right behind it.
Bytes crowded() {
  Bytes code = bytes_of({0x31, 0xc0, 0xc3});
  code.resize(32, std::byte{0x55});
  return code;
}

// Claim: a function of three bytes gets a jump of two to the nearest five spare bytes, on either side,
// and these hold the long jump.
TEST(ShortDetour, IslandNearby) {
  const std::vector<Spare> spares = {{kEntry - 100, Bytes(20, std::byte{0xcc})},
                                     {kEntry + 40, Bytes(8, std::byte{0x90})}};
  auto d = plan_leap("f", kEntry, 3, crowded(), kNew, kEntry + 3, {true}, spares, {});
  ASSERT_TRUE(d);
  EXPECT_EQ(d->at, kEntry);
  EXPECT_EQ(d->expected, bytes_of({0x31, 0xc0}));
  EXPECT_EQ(d->jump, bytes_of({0xeb, 38}));
  ASSERT_TRUE(d->island);
  EXPECT_EQ(d->island->at, kEntry + 40);
  EXPECT_EQ(d->island->expected, Bytes(5, std::byte{0x90}));
  EXPECT_EQ(d->island->jump, encode_jump(kEntry + 40, kNew));
  d = plan_leap("f", kEntry, 3, crowded(), kNew, kEntry + 3, {true}, {spares.front()}, {});
  ASSERT_TRUE(d && d->island);
  EXPECT_EQ(d->island->at, kEntry - 85);
  EXPECT_EQ(d->jump, bytes_of({0xeb, 0x100 - 87}));
}

// Claim: what is taken is not used twice, and no island lies where the short jump can't reach.
TEST(ShortDetour, TakenOrTooFar) {
  const std::vector<Spare> near = {{kEntry + 40, Bytes(8, std::byte{0x90})}};
  EXPECT_FALSE(plan_leap("f", kEntry, 3, crowded(), kNew, kEntry + 3, {true}, near,
                         {{kEntry + 43, kEntry + 44}}));
  auto d = plan_leap("f", kEntry, 3, crowded(), kNew, kEntry + 3, {true}, near,
                     {{kEntry + 40, kEntry + 43}});
  ASSERT_TRUE(d && d->island);
  EXPECT_EQ(d->island->at, kEntry + 43);
  EXPECT_FALSE(plan_leap("f", kEntry, 3, crowded(), kNew, kEntry + 3, {true},
                         {{kEntry + 130, Bytes(5, std::byte{0x90})}}, {}));
  EXPECT_FALSE(plan_leap("f", kEntry, 3, crowded(), kNew, kEntry + 3, {true},
                         {{kEntry - 131, Bytes(5, std::byte{0x90})}}, {}));
  EXPECT_TRUE(plan_leap("f", kEntry, 3, crowded(), kNew, kEntry + 3, {true},
                        {{kEntry + 129, Bytes(5, std::byte{0x90})}}, {}));
}

// Claim: a function of one byte has no room for two, and a symbol inside them is a way in.
TEST(ShortDetour, NoRoomForTwoBytes) {
  const std::vector<Spare> near = {{kEntry + 40, Bytes(8, std::byte{0x90})}};
  EXPECT_FALSE(plan_leap("f", kEntry, 1, crowded(), kNew, kEntry + 1, {true}, near, {}));
  EXPECT_FALSE(plan_leap("f", kEntry, 3, crowded(), kNew, kEntry + 1, {true}, near, {}));
}

// One function of 16 bytes at `entry`, and padding behind it.
std::vector<Detour> plan_at(LinkAddr entry, uint64_t padding) {
  format::Patch patch;
  Image image;
  patch.replaced.push_back({.name = "f", .entry = entry, .ranges = {{entry, entry + 16}}});
  image.new_functions.push_back({"f", {kNew, kNew + 16}, 0});
  const TargetText target{
      [](LinkAddr, size_t size) { return Bytes(size, std::byte{0x55}); },
      [&](LinkAddr at, uint64_t size) { return at + size + padding; },
      [&](LinkRange, uint64_t size) {
        return padding < size ? std::vector<Spare>()
                              : std::vector<Spare>{{entry + 16, Bytes(padding, std::byte{0xcc})}};
      },
      {}};
  Report report;
  std::vector<Detour> out = plan_detours(patch, image, target, {}, report);
  EXPECT_TRUE(report.clean());
  return out;
}

// Claim: a jump of five bytes that would lie on two pages is a short one, if two bytes are on the first
// page and there is room for an island; otherwise it stays what it is.
TEST(ShortDetour, AtTheEndOfAPage) {
  for (const uint64_t on_first : {2, 3, 4}) {
    const std::vector<Detour> all = plan_at(LinkAddr(0x2000 - on_first), 16);
    ASSERT_EQ(all.size(), 1U);
    EXPECT_TRUE(all.front().island) << on_first;
    EXPECT_EQ(all.front().jump.size(), 2U);
  }
  for (const uint64_t on_first : {1, 5}) {
    EXPECT_FALSE(plan_at(LinkAddr(0x2000 - on_first), 16).front().island) << on_first;
  }
  EXPECT_FALSE(plan_at(LinkAddr(0x2000 - 2), 0).front().island);
}

// Claim: no island lies on two pages.
TEST(ShortDetour, IslandIsOnOnePage) {
  const std::vector<Spare> spare = {{LinkAddr(0x2000 - 4), Bytes(12, std::byte{0x90})}};
  const auto d =
      plan_leap("f", LinkAddr(0x1fc0), 3, crowded(), kNew, LinkAddr(0x1fc3), {true}, spare, {});
  ASSERT_TRUE(d && d->island);
  EXPECT_EQ(d->island->at, LinkAddr(0x2000));
}

// Claim: of several functions, those with room of their own come first; then each gets its own
// island, and the one that gets none is refused as too short.
TEST(ShortDetour, SeveralFunctions) {
  format::Patch patch;
  Image image;
  Bytes text(64, std::byte{0x55});
  for (const auto& [name, at] : {std::pair{"a", 0}, {"b", 3}, {"c", 6}, {"long", 9}}) {
    const LinkAddr entry = kEntry + static_cast<uint64_t>(at);
    patch.replaced.push_back({.name = name, .entry = entry, .ranges = {{entry, entry + 3}}});
    image.new_functions.push_back({name, {kNew, kNew + 16}, 0});
  }
  // Behind `long` are 14 bytes of padding, of which it needs two itself.
  std::fill(text.begin() + 12, text.begin() + 26, std::byte{0xcc});
  const TargetText target{
      [&](LinkAddr at, size_t) { return copy(ByteView(text).subspan((at - kEntry))); },
      [](LinkAddr at, uint64_t size) { return at + (size == 3 && at >= kEntry + 9 ? 30 : 3); },
      [&](LinkRange, uint64_t) {
        return std::vector<Spare>{{kEntry + 12, Bytes(14, std::byte{0xcc})}};
      },
      {}};
  Report report;
  const std::vector<Detour> all = plan_detours(patch, image, target, {}, report);
  EXPECT_THAT(ids(report), ElementsAre("function-short"));
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0].island->at, kEntry + 14);
  EXPECT_EQ(all[1].island->at, kEntry + 19);
  EXPECT_EQ(report.refusals().front().where, "c");
  EXPECT_FALSE(all[2].island);
  for (const Detour& a : all) {
    for (const Detour& b : all) {
      for (const LinkRange x : overwritten_by(a)) {
        for (const LinkRange y : overwritten_by(b)) {
          EXPECT_TRUE(&a == &b || !x.overlaps(y)) << a.function << " " << b.function;
        }
      }
    }
  }
}

// Claim: where the new function is out of reach, five bytes lead to an island that holds its address in
// the process, and a short function's two lead to one as well; without room for it, that is refused.
TEST(FarDetour, IslandHoldsTheAddress) {
  const LinkAddr away(0x7f0000000000);
  const LoadBias bias{0x10000000};
  const std::vector<Spare> spares = {{kEntry + 100, Bytes(20, std::byte{0xcc})}};
  const Bytes code = padded(bytes_of({0x55, 0x48, 0x89, 0xe5, 0x31, 0xc0, 0x5d, 0xc3}));
  auto d = plan_leap("f", kEntry, 8, code, away, kEntry + 16, {false, bias}, spares, {});
  ASSERT_TRUE(d && d->island);
  EXPECT_EQ(d->jump, encode_jump(kEntry, kEntry + 100));
  EXPECT_EQ(d->expected, bytes_of({0x55, 0x48, 0x89, 0xe5, 0x31}));
  EXPECT_EQ(d->island->at, kEntry + 100);
  EXPECT_EQ(d->island->expected, Bytes(14, std::byte{0xcc}));
  EXPECT_EQ(d->island->jump, bytes_of({0xff, 0x25, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0x7f, 0, 0}));
  d = plan_leap("f", kEntry, 3, crowded(), away, kEntry + 3, {true, bias}, spares, {});
  ASSERT_TRUE(d && d->island);
  EXPECT_EQ(d->jump, bytes_of({0xeb, 98}));
  EXPECT_EQ(d->island->jump.size(), 14U);
  EXPECT_FALSE(plan_leap("f", kEntry, 8, code, away, kEntry + 16, {false, bias},
                         {{kEntry + 100, Bytes(13, std::byte{0xcc})}}, {}));
}

// Claim: the nearest padding is taken, and none is a refusal that says what is missing.
TEST(FarDetour, NearestPadding) {
  format::Patch patch;
  Image image;
  const LinkAddr entry(0x200000);
  patch.replaced.push_back({.name = "f", .entry = entry, .ranges = {{entry, entry + 16}}});
  image.new_functions.push_back({"f", {LinkAddr(0x7f0000000000), LinkAddr(0x7f0000000010)}, 0});
  std::vector<Spare> all = {{entry - 100000, Bytes(14)}, {entry - 20000, Bytes(14)}};
  const TargetText target{[&](LinkAddr, size_t) { return Bytes(32, std::byte{0x90}); },
                          [](LinkAddr at, uint64_t size) { return at + size; },
                          [&](LinkRange window, uint64_t) {
                            std::vector<Spare> out;
                            for (const Spare& spare : all) {
                              if (window.contains(spare.at) && window.contains(spare.at + 13)) {
                                out.push_back(spare);
                              }
                            }
                            return out;
                          },
                          {}};
  Report report;
  const std::vector<Detour> plans = plan_detours(patch, image, target, {}, report);
  ASSERT_EQ(plans.size(), 1U);
  EXPECT_EQ(plans[0].island->at, entry - 20000);
  all.clear();
  EXPECT_TRUE(plan_detours(patch, image, target, {}, report).empty());
  EXPECT_THAT(ids(report), ElementsAre("no-room"));
}

}  // namespace
}  // namespace qp::link
