// One patch, several builds: the patch is made for one file, the process runs another one.

#include "harness/live_case.h"

namespace qp::live {
namespace {

class OtherBuild : public LiveCase {
 protected:
  void make_patch() {
    prepare();
    patch_ = build_patch();
    end_victim();
  }
  void expect_life_of_patch(const std::filesystem::path& program, const std::string& which) {
    start_victim(program);
    const Snapshot before = snapshot();
    expect_answers(victim(), &Probe::before, "before apply, " + which);
    must("check", patch_);
    expect_untouched(before);
    must("apply", patch_);
    expect_answers(victim(), &Probe::after, "after apply, " + which);
    must("apply", patch_);
    const CommandResult reverted = must("revert", only_listed().id);
    expect_answers(victim(), &Probe::reverted, "after revert, " + which);
    expect_untouched(before, reverted.both());
    EXPECT_EQ(victim().finish(), 0);
  }
  void expect_refusal(const std::filesystem::path& program, const std::string& id,
                      const std::string& function) {
    start_victim(program);
    const Snapshot before = snapshot();
    for (const char* verb : {"check", "apply"}) {
      const CommandResult result = on_victim(verb, patch_);
      EXPECT_EQ(result.exit_code, 3) << result.both();
      // Without names the differing code is shown only where the neighbours tell its place.
      EXPECT_TRUE(names(result.both(), id) ||
                  (how().stripped && names(result.both(), "function-missing")))
          << result.both();
      EXPECT_TRUE(names(result.both(), function)) << result.both();
      EXPECT_NE(result.both().find("another build"), std::string::npos) << result.both();
      expect_untouched(before);
    }
    EXPECT_EQ(victim().finish(), 0);
  }
  std::string patch_;
};

// Claim: unrelated code of another optimisation and size, moved data, another linker, and all of it
// together: the patch is proven and bound anew, applied and taken out again.
TEST_P(OtherBuild, gets_the_patch_if_everything_is_proven) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  expect_life_of_patch(workshop().build_another("unrelated", "unrelated.patch"), "unrelated code");
  expect_life_of_patch(workshop().build_another("moved", "moved.patch"), "moved data");
  expect_life_of_patch(
      workshop().build_another("linker", "moved.patch", {"-fuse-ld=lld", "-Wl,--build-id=sha1"}),
      "another linker");
}

// Claim: a build in which the function differs is refused with the first difference, and so is one
// in which only a caller of the function differs.
TEST_P(OtherBuild, is_refused_if_anything_differs) {
  make_patch();
  ASSERT_FALSE(HasFailure());
  expect_refusal(workshop().build_another("changed", "changed.patch"), "code-differs", "price");
  expect_refusal(workshop().build_another("caller", "caller.patch"), "code-differs", "probe");
}

INSTANTIATE_TEST_SUITE_P(Scenario, OtherBuild,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "other_build")), instance_name);

}  // namespace
}  // namespace qp::live
