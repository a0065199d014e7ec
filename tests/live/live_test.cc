// The life of a patch, for every case below tests/live/cases: a victim answers in the old way; its
// diff becomes a patch; after apply it answers as the program built from the patched source does;
// after revert it answers in the old way again, and nothing of it differs from before.
//
// The expected answers stand in case.json and are checked three times: against the target, against
// the program built from the patched source (the oracle; without it a wrong expectation and a wrong
// patch could agree), and against the patched process. Stateful victims answer by their history, so
// the oracle, which starts anew, may have answers of its own ("fresh").

#include <algorithm>

#include "harness/live_case.h"

namespace qp::live {
namespace {

class Patched : public LiveCase {
 protected:
  // The expectation is right: the program built from the patched source answers so.
  void check_oracle() {
    Victim oracle(workshop().build_oracle());
    expect_answers(oracle, &Probe::fresh, "of the program built from the patched source");
    EXPECT_EQ(oracle.finish(), 0);
  }

  void check_functions(const Listed& patch) {
    for (const std::string& name : what().functions) {
      EXPECT_TRUE(std::count(patch.functions.begin(), patch.functions.end(), name) == 1)
          << name << " is not listed as replaced";
    }
    if (what().only_functions) {
      EXPECT_EQ(patch.functions.size(), what().functions.size())
          << testing::PrintToString(patch.functions);
    }
  }
};

// Claim: that of the case (case.json); and: apply gives the patched source's behaviour, a second
// apply is no error, revert gives the old behaviour and the old bytes.
TEST_P(Patched, behaves_as_rebuilt_and_reverts) {
  prepare();
  check_oracle();
  expect_answers(victim(), &Probe::before, "before apply");
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();

  must("check", patch);
  expect_untouched(before);
  must("apply", patch);
  ASSERT_FALSE(HasFailure());
  expect_answers(victim(), &Probe::after, "after apply");
  const Listed applied = only_listed();
  check_functions(applied);
  EXPECT_EQ(wrongly_applied(before, snapshot(), applied.functions.size()), "");

  const CommandResult again = must("apply", patch);
  EXPECT_TRUE(names(again.both(), "already")) << again.both();
  EXPECT_EQ(listed().size(), 1U);

  const CommandResult reverted = must("revert", applied.id);
  ASSERT_FALSE(HasFailure());
  expect_answers(victim(), &Probe::reverted, "after revert");
  EXPECT_TRUE(listed().empty());
  expect_untouched(before, reverted.both());
  EXPECT_EQ(victim().finish(), 0);
}

INSTANTIATE_TEST_SUITE_P(Case, Patched, testing::ValuesIn(read_cases(QP_CASES)), instance_name);

// Claim: no case is without probes, without a claim, or with probes that a patch does not change.
TEST(Cases, say_what_they_show) {
  for (const Instance& instance : read_cases(QP_CASES)) {
    EXPECT_FALSE(instance.what.claim.empty()) << instance.what.name;
    EXPECT_TRUE(std::any_of(instance.what.probes.begin(), instance.what.probes.end(),
                            [](const Probe& p) { return p.before != p.after; }))
        << instance.what.name;
  }
}

}  // namespace
}  // namespace qp::live
