#include "base/report.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace qp {
namespace {

// Claim: a checkpoint stops with all findings at once, and the exit code is the first one's.
TEST(ReportTest, CheckpointStopsWithAllFindings) {
  Report report;
  report.checkpoint();
  report.refuse("code-differs", "f", "first");
  report.refuse("type-layout", "S", "second");
  try {
    report.checkpoint();
    FAIL();
  } catch (const Refused& refused) {
    ASSERT_EQ(refused.findings().size(), 2u);
    EXPECT_EQ(refused.findings()[1].where, "S");
    EXPECT_EQ(refused.exit_code(), ExitCode::NoMatch);
  }
}

// Claim: a waiver covers the named place of a waivable kind, and is recorded.
TEST(ReportTest, WaiverIsRecorded) {
  Report report(std::set<std::string>{"type-layout:S"});
  report.refuse("type-layout", "S", "grew");
  EXPECT_TRUE(report.clean());
  ASSERT_EQ(report.waived().size(), 1u);
  report.refuse("type-layout", "T", "grew");
  EXPECT_FALSE(report.clean());
}

// Claim: what must never be waived can't be: the proof.
TEST(ReportTest, ProofCantBeWaived) {
  Report report(std::set<std::string>{"code-differs:f"});
  report.refuse("code-differs", "f", "differs");
  EXPECT_FALSE(report.clean());
  EXPECT_FALSE(refusal_kind("busy").waivable);
}

// Claim: the same finding is reported once.
TEST(ReportTest, NoDuplicates) {
  Report report;
  report.refuse("type-layout", "S", "grew");
  report.refuse("type-layout", "S", "grew");
  EXPECT_EQ(report.refusals().size(), 1u);
}

// Claim: an id that the table does not have is a bug, not a refusal.
TEST(ReportTest, UnknownIdIsABug) {
  Report report;
  EXPECT_THROW(report.refuse("no-such-id", "", ""), Bug);
}

// Claim: every refusal has an id of its own, the three texts, and an exit code other than 0.
TEST(RefusalTable, IsComplete) {
  std::set<std::string_view> ids;
  for (const RefusalKind& kind : all_refusals()) {
    EXPECT_TRUE(ids.insert(kind.id).second) << kind.id;
    EXPECT_FALSE(kind.title.empty()) << kind.id;
    EXPECT_FALSE(kind.why.empty()) << kind.id;
    EXPECT_FALSE(kind.remedy.empty()) << kind.id;
    EXPECT_NE(kind.exit_code, ExitCode::Done) << kind.id;
    EXPECT_TRUE(std::all_of(kind.id.begin(), kind.id.end(), [](char c) {
      return c == '-' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    })) << kind.id;
  }
}

}  // namespace
}  // namespace qp
