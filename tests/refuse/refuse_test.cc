// Refusals that a diff or a target causes, for every case below tests/refuse/cases.
//
// "Refused" is easily passed by accident: any crash, any usage error exits with something. So a
// case passes only if the exit code is the expected one, the refusal's id is named, what it is
// about is named (the function, variable or type that the user has to look for), no patch file was
// written, the user's trees are as before, and, where a process is involved, it is untouched and
// answers as before. `check` and `apply` must agree.

#include "harness/live_case.h"

namespace qp::live {
namespace {

class Refused : public LiveCase {
 protected:
  void expect_refusal(const CommandResult& result) {
    const ExpectedRefusal& expected = *what().refusal;
    bool named = expected.ids.empty();
    int exit_code = expected.exit_codes.front();
    for (size_t i = 0; i < expected.ids.size() && !named; ++i) {
      named = names(result.both(), expected.ids[i]);
      exit_code = expected.exit_codes[i];
    }
    EXPECT_TRUE(named) << "none of " << testing::PrintToString(expected.ids) << " in:\n"
                       << result.both();
    EXPECT_EQ(result.exit_code, exit_code) << result.both();
    EXPECT_NE(result.both().find(expected.names), std::string::npos)
        << "'" << expected.names << "' is not named in:\n"
        << result.both();
  }
};

// Claim: that of the case (case.json); and: nothing was written, nothing was touched.
TEST_P(Refused, names_id_and_thing_and_touches_nothing) {
  prepare();
  const std::filesystem::path patch = dir().path() / "fix.qp";
  const auto sources = tree_state(workshop().source_tree());
  const auto objects = tree_state(workshop().build_tree());
  const CommandResult built =
      dir().qpatch(workshop().build_arguments(target(), patch), workshop().source_tree());
  EXPECT_TRUE(tree_state(workshop().source_tree()) == sources) << "the source tree was written to";
  EXPECT_TRUE(tree_state(workshop().build_tree()) == objects) << "the build tree was written to";
  if (what().refusal->command == "build") {
    expect_refusal(built);
    EXPECT_FALSE(std::filesystem::exists(patch)) << "a patch file was written";
    return;
  }
  ASSERT_EQ(built.exit_code, 0) << built.both();
  const Snapshot before = snapshot();
  expect_answers(victim(), &Probe::before, "before");
  for (const char* verb : {"check", "apply"}) {
    SCOPED_TRACE(verb);
    expect_refusal(on_victim(verb, patch));
    expect_untouched(before);
  }
  expect_answers(victim(), &Probe::before, "after the refusal");
  EXPECT_EQ(victim().finish(), 0);
}

INSTANTIATE_TEST_SUITE_P(Case, Refused, testing::ValuesIn(read_cases(QP_CASES)), instance_name);

}  // namespace
}  // namespace qp::live
