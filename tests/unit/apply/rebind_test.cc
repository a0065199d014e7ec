// A patch that is to be tied to another build.
#include "apply/rebind.h"

#include <gtest/gtest.h>

namespace qp::apply {
namespace {

class NoMemory : public TargetReader {
 public:
  size_t read_some(LinkAddr, ByteSpan) const override { return 0; }
};

// Claim: a patch of hooks alone has nothing that could be proven in another build, and is refused there.
TEST(Rebind, HooksAloneAreForTheirBuild) {
  format::Patch patch;
  patch.hooks.push_back({"go", "", format::Hook::When::PreApply, format::Hook::Others::Stopped, 0});
  const NoMemory memory;
  const match::SymbolMap symbols;
  Report report;
  EXPECT_FALSE(rebind(patch, {memory, symbols, std::nullopt}, "0123", report));
  ASSERT_EQ(report.refusals().size(), 1U);
  EXPECT_EQ(report.refusals()[0].id, "hook-invalid");
  EXPECT_EQ(report.refusals()[0].where, "go");
}

}  // namespace
}  // namespace qp::apply
