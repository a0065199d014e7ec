// The place of an image.

#include "link/placement.h"

#include <gtest/gtest.h>

#include <random>

namespace qp::link {
namespace {

constexpr uint64_t kMiB = 1 << 20, kGiB = uint64_t{1} << 30;
constexpr LoadBias kBias{0x555555554000};

LiveRange live(uint64_t start, uint64_t end) {
  return {LiveAddr(start), LiveAddr(end)};
}

PlacementRequest pie() {
  PlacementRequest r;
  r.target = {LinkAddr(0), LinkAddr(0x200000)};
  r.size = 0x5000;
  r.bias = kBias;
  r.occupied = {live(kBias.value, kBias.value + 0x200000)};
  r.avoid = {live(kBias.value + 0x200000, kBias.value + kGiB)};
  return r;
}

PlacementRequest non_pie() {
  PlacementRequest r;
  r.target = {LinkAddr(0x400000), LinkAddr(0x600000)};
  r.size = 0x5000;
  r.occupied = {live(0x400000, 0x600000)};
  r.avoid = {live(0x600000, 0x40000000)};
  return r;
}

void expect_good(const PlacementRequest& r, LinkAddr place) {
  uint64_t start = r.bias(place).value, end = start + r.size;
  EXPECT_EQ(start % kPageSize, 0U);
  EXPECT_GE(start, 0x10000U);
  uint64_t low = std::min(start, r.bias(r.target.start).value);
  uint64_t high = std::max(end, r.bias(r.target.end).value);
  EXPECT_LE(high - low, 2 * kGiB - kMiB);
  for (const LiveRange& o : r.occupied) {
    EXPECT_TRUE(end + kPageSize <= o.start.value || o.end.value + kPageSize <= start);
  }
  for (const LiveRange& o : r.avoid) {
    EXPECT_TRUE(end + kMiB <= o.start.value || o.end.value + kMiB <= start);
  }
}

// Claim: below a PIE, 16 MiB away.
TEST(Placement, BelowAPie) {
  auto place = choose_place(pie());
  ASSERT_TRUE(place);
  expect_good(pie(), *place);
  EXPECT_EQ(place->value, uint64_t{0} - 16 * kMiB - 0x10000);
}

// Claim: the distance is the same for every load bias.
TEST(Placement, SameDistanceForEveryBias) {
  auto first = choose_place(pie());
  for (uint64_t bias : {0x555555555000, 0x55e1234ab000, 0x7f0000001000}) {
    PlacementRequest r = pie();
    r.bias = LoadBias{bias};
    r.occupied = {live(bias, bias + 0x200000)};
    r.avoid.clear();
    EXPECT_EQ(choose_place(r), first);
  }
}

// Claim: a second image goes below the first one.
TEST(Placement, NextToAnotherImage) {
  PlacementRequest r = pie();
  auto first = choose_place(r);
  LiveAddr at = kBias(*first);
  r.occupied.insert(r.occupied.begin(), {at, at + r.size});
  auto second = choose_place(r);
  ASSERT_TRUE(second);
  expect_good(r, *second);
  EXPECT_LT(kBias(*second), at);
  EXPECT_LE(at - kBias(*second), 0x20000);
}

// Claim: if everything below is taken, the place is above, behind the room of the heap.
TEST(Placement, AboveIfBelowIsFull) {
  PlacementRequest r = pie();
  r.occupied.insert(r.occupied.begin(), live(kBias.value - 3 * kGiB, kBias.value - kPageSize));
  auto place = choose_place(r);
  ASSERT_TRUE(place);
  expect_good(r, *place);
  EXPECT_GT(kBias(*place).value, kBias.value + kGiB);
}

// Claim: no room within reach is no place.
TEST(Placement, NoRoom) {
  PlacementRequest r = pie();
  r.occupied = {live(kBias.value - 3 * kGiB, kBias.value + 3 * kGiB)};
  EXPECT_FALSE(choose_place(r));
  r = pie();
  r.size = 3 * kGiB;
  EXPECT_FALSE(choose_place(r));
  r = pie();
  r.target.end = LinkAddr(2 * kGiB);
  r.occupied = {live(kBias.value, kBias.value + 2 * kGiB)};
  EXPECT_FALSE(choose_place(r));
}

// Claim: a non-PIE's image lies below 2 GiB, far above the heap.
TEST(Placement, NonPieBelow2G) {
  for (bool low : {false, true}) {
    PlacementRequest r = non_pie();
    r.low_2g = low;
    auto place = choose_place(r);
    ASSERT_TRUE(place);
    expect_good(r, *place);
    EXPECT_GT(place->value, 0x7f000000U);
    EXPECT_LE(place->value + r.size, 0x7ff00000U);
  }
}

// Claim: 32-bit absolute addresses are never placed above 2 GiB; without them it is a last resort.
TEST(Placement, LowMemoryFull) {
  PlacementRequest r = non_pie();
  r.occupied = {live(0x10000, 0x7fffe000)};
  r.avoid.clear();
  r.low_2g = true;
  EXPECT_FALSE(choose_place(r));
  r.low_2g = false;
  r.occupied = {live(0x10000, 0x7fe00000)};
  auto place = choose_place(r);
  ASSERT_TRUE(place);
  expect_good(r, *place);
}

// Claim: nothing is placed below what the kernel lets processes map.
TEST(Placement, NeverAtTheBottom) {
  PlacementRequest r = non_pie();
  r.occupied = {live(0x11000, 0x7ffff000)};
  r.low_2g = true;
  r.size = kPageSize;
  EXPECT_FALSE(choose_place(r));
}

// Claim: the last gap that is large enough is found wherever it begins, above or below.
TEST(Placement, OnlyOneGap) {
  for (const uint64_t gap : {kBias.value - kGiB + 0x3000, kBias.value - 5 * kPageSize - 0x2000,
                             kBias.value + kGiB + 0x7000}) {
    PlacementRequest r = pie();
    r.avoid.clear();
    const uint64_t end = gap + r.size + 2 * kPageSize;
    r.occupied = {live(kBias.value - 3 * kGiB, gap), live(end, kBias.value + 3 * kGiB)};
    auto place = choose_place(r);
    ASSERT_TRUE(place) << std::hex << gap;
    EXPECT_EQ(kBias(*place).value, gap + kPageSize);
    expect_good(r, *place);
    r.size += kPageSize;
    EXPECT_FALSE(choose_place(r));
  }
  PlacementRequest r = non_pie();
  r.avoid.clear();
  r.low_2g = true;
  r.occupied = {live(0x10000, 0x70003000), live(0x70003000 + r.size + 2 * kPageSize, 4 * kGiB)};
  auto place = choose_place(r);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->value, 0x70004000U);
}

// Claim: whatever the neighbours are, a place that is found respects all of them.
TEST(Placement, RandomNeighbours) {
  std::mt19937_64 random(1);
  int found = 0;
  for (int round = 0; round < 300; ++round) {
    PlacementRequest r = pie();
    r.avoid.clear();
    r.size = (1 + random() % 64) * kPageSize;
    uint64_t at = kBias.value - 2 * kGiB;
    while (at < kBias.value + 2 * kGiB) {
      uint64_t size = (1 + random() % (round % 2 != 0 ? 20000 : 40)) * kPageSize;
      uint64_t gap = (random() % (round % 3 != 0 ? 60 : 12)) * kPageSize;
      r.occupied.push_back(live(at, at + size));
      at += size + gap;
    }
    auto place = choose_place(r);
    if (place) {
      ++found;
      expect_good(r, *place);
    }
  }
  EXPECT_GT(found, 100);
}

// Claim: hostile addresses give no place rather than a wrong one.
TEST(Placement, HostileTargets) {
  for (uint64_t start : {uint64_t{0x8000000000000000}, ~uint64_t{0} << 47, uint64_t{1} << 47}) {
    PlacementRequest r = pie();
    r.target = {LinkAddr(start), LinkAddr(start + 0x1000)};
    EXPECT_FALSE(choose_place(r)) << start;
  }
}

// Claim: a far image gets a place where a near one gets none, and is_near() tells the two apart.
TEST(Placement, FarImage) {
  PlacementRequest r = pie();
  const auto near = choose_place(r);
  ASSERT_TRUE(near);
  EXPECT_TRUE(is_near(r.target, {*near, *near + r.size}, r.bias));
  const LiveAddr middle = r.bias(r.target.start);
  r.occupied = {{middle - (uint64_t{3} << 30), middle + (uint64_t{3} << 30)}};
  EXPECT_FALSE(choose_place(r));
  r.far = true;
  const auto place = choose_place(r);
  ASSERT_TRUE(place);
  EXPECT_FALSE(is_near(r.target, {*place, *place + r.size}, r.bias));
}

}  // namespace
}  // namespace qp::link
