// What is left of a write whose writer died.

#include "apply/switch.h"

#include <gtest/gtest.h>

namespace qp::apply {
namespace {

constexpr LiveAddr kAt(0x1ffe);  // two bytes on the first page

Bytes bytes(std::initializer_list<int> values) {
  Bytes out;
  for (const int value : values) {
    out.push_back(static_cast<std::byte>(value));
  }
  return out;
}

// Claim: a write that is cut at the end of a page is told from both of its sides, and from anything else.
TEST(Cut, AtTheEndOfAPage) {
  const Bytes before = bytes({1, 2, 3, 4, 5}), after = bytes({11, 12, 13, 14, 15});
  EXPECT_TRUE(is_cut(kAt, bytes({11, 12, 3, 4, 5}), before, after));
  EXPECT_TRUE(is_cut(kAt, bytes({1, 2, 13, 14, 15}), before, after));
  EXPECT_FALSE(is_cut(kAt, before, before, after));
  EXPECT_FALSE(is_cut(kAt, after, before, after));
  EXPECT_FALSE(is_cut(kAt, bytes({11, 12, 13, 4, 5}), before, after));
  EXPECT_FALSE(is_cut(kAt, bytes({11, 12, 9, 4, 5}), before, after));
  EXPECT_FALSE(is_cut(kAt - 3, bytes({11, 12, 3, 4, 5}), before, after)) << "it is on one page";
  EXPECT_FALSE(is_cut(kAt, bytes({11, 12}), before, after));
}

}  // namespace
}  // namespace qp::apply
