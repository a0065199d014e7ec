// The conservative scan against a naive one.

#include <gtest/gtest.h>

#include <random>

#include "unwind/unwind.h"

namespace qp::unwind {
namespace {

Bytes stack_of(const std::vector<uint64_t>& words) {
  Bytes out;
  for (uint64_t w : words) {
    append(out, w);
  }
  return out;
}

LiveRange range(uint64_t start, uint64_t end) {
  return {LiveAddr(start), LiveAddr(end)};
}

std::vector<size_t> naive(const std::vector<uint64_t>& words,
                          const std::vector<LiveRange>& ranges) {
  std::vector<size_t> out;
  for (size_t i = 0; i < words.size(); ++i) {
    for (const LiveRange& r : ranges) {
      if (r.start.value <= words[i] && words[i] <= r.end.value) {
        out.push_back(i * 8);
        break;
      }
    }
  }
  return out;
}

// Claim: first byte, last byte and the byte behind count; their neighbours do not.
TEST(Scan, EdgesOfARange) {
  auto hits =
      scan_words(stack_of({0xfff, 0x1000, 0x1fff, 0x2000, 0x2001}), {range(0x1000, 0x2000)});
  EXPECT_EQ(hits, (std::vector<size_t>{8, 16, 24}));
}

// Claim: between two ranges is outside, even if one ends where the next begins.
TEST(Scan, SeveralRanges) {
  std::vector<LiveRange> ranges{range(0x1000, 0x1010), range(0x1010, 0x1020),
                                range(0x3000, 0x3010)};
  std::vector<uint64_t> words{0x1010, 0x1020, 0x1021, 0x2fff, 0x3010, 0x3011, 0};
  EXPECT_EQ(scan_words(stack_of(words), ranges), naive(words, ranges));
}

// Claim: no ranges or no words give no hits; a cut word at the end is not looked at.
TEST(Scan, NothingToFind) {
  EXPECT_TRUE(scan_words(stack_of({1, 2, 3}), {}).empty());
  EXPECT_TRUE(scan_words({}, {range(0, 100)}).empty());
  Bytes stack = stack_of({0x1000});
  stack.pop_back();
  EXPECT_TRUE(scan_words(stack, {range(0x1000, 0x2000)}).empty());
}

// Claim: at the ends of the address space nothing overflows.
TEST(Scan, EndsOfTheAddressSpace) {
  std::vector<LiveRange> ranges{range(0, 0x10), range(~uint64_t{0} - 15, ~uint64_t{0})};
  std::vector<uint64_t> words{0, 0x10, 0x11, ~uint64_t{0} - 16, ~uint64_t{0} - 15, ~uint64_t{0}};
  EXPECT_EQ(scan_words(stack_of(words), ranges), naive(words, ranges));
}

// Claim: on random stacks and ranges it finds exactly what a naive loop finds, also when our copy
// of the stack is not aligned.
TEST(Scan, AgreesWithANaiveLoop) {
  std::mt19937_64 random(7);
  size_t hits = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<LiveRange> ranges;
    uint64_t at = 0x555555554000 + random() % 0x1000;
    for (uint64_t n = random() % 6; n > 0; --n) {
      uint64_t size = random() % 200;
      ranges.push_back(range(at, at + size));
      at += size + random() % 300;
    }
    std::vector<uint64_t> words(random() % 70);
    for (uint64_t& w : words) {
      w = random() % 3 == 0 ? 0x555555554000 + random() % 0x2000 : random() >> (random() % 64);
    }
    Bytes stack(random() % 8);
    size_t shift = stack.size();
    append_bytes(stack, stack_of(words));
    auto expected = naive(words, ranges);
    hits += expected.size();
    ASSERT_EQ(scan_words(ByteView(stack).subspan(shift), ranges), expected);
  }
  EXPECT_GT(hits, 500U);
}

// Claim: signal frames are found by what the kernel writes into all of them; the stack pointer is three
// words before that; a frame that is cut off is none.
TEST(Scan, InterruptedStacks) {
  constexpr uint64_t kSegments = 0x002b'0000'0000'0033, kSp = 0x7ffd'1230, kPc = 0x40'1000;
  EXPECT_EQ(interrupted_stacks(stack_of(
                {1, kSp, kPc, 0x246, kSegments, 2, kSp + 8, kPc, 0x246, kSegments, kSegments + 1})),
            (std::vector<LiveAddr>{LiveAddr(kSp), LiveAddr(kSp + 8)}));
  EXPECT_TRUE(interrupted_stacks(stack_of({kPc, 0x246, kSegments})).empty());
  EXPECT_TRUE(interrupted_stacks({}).empty());
}

}  // namespace
}  // namespace qp::unwind
