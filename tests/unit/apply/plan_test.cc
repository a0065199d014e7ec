// The pure parts of planning.

#include "apply/plan.h"

#include <gtest/gtest.h>

namespace qp::apply {
namespace {

LiveRange range(uint64_t start, uint64_t end) {
  return {LiveAddr(start), LiveAddr(end)};
}

// Claim: ranges come out sorted, joined where they touch or overlap, and none is lost.
TEST(Plan, NormaliseJoinsRanges) {
  auto out = normalise({range(30, 40), range(10, 20), range(20, 25), range(15, 18), range(50, 60)});
  EXPECT_EQ(out, (std::vector<LiveRange>{range(10, 25), range(30, 40), range(50, 60)}));
}

}  // namespace
}  // namespace qp::apply
