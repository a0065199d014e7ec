// More than one patch in a process. Each has its own image and its own record; none may disturb the
// other, and where they meet in one function the answer must be one that somebody asked for.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "harness/live_case.h"

namespace qp::live {
namespace {

class Stacked : public LiveCase {
 protected:
  void make_two() {
    prepare();
    first_ = build_patch();
    second_ = build_patch(dir().path() / "second.patch", "second.qp");
  }
  std::string answers() { return victim().ask("1") + " " + victim().ask("2"); }
  // Of the patches listed, the one that replaces `function`.
  std::string id_of(const std::string& function) {
    for (const Listed& patch : listed()) {
      if (std::count(patch.functions.begin(), patch.functions.end(), function) != 0) {
        return patch.id;
      }
    }
    ADD_FAILURE() << "no patch of " << function << " is listed";
    return "none";
  }

  // As a run leaves it that died meanwhile; the registry begins the writable part of an image.
  void set_committing(uint64_t registry) {
    const std::string path = "/proc/" + std::to_string(victim().pid()) + "/mem";
    const int memory = open(path.c_str(), O_RDWR | O_CLOEXEC);
    EXPECT_EQ(pwrite(memory, "\2\0\0", 4, static_cast<off_t>(registry + 12)), 4);
    close(memory);
  }

  std::string first_, second_;
};

class TwoPatches : public Stacked {};
class SameFunctionTwice : public Stacked {};

// Claim: of two patches of different functions each can be reverted first, and the other stays.
TEST_P(TwoPatches, come_out_in_either_order) {
  make_two();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  CommandResult reverted;
  for (const bool first_in_first_out : {true, false}) {
    EXPECT_EQ(answers(), "11 21");
    must("apply", first_);
    EXPECT_EQ(answers(), "12 21");
    must("apply", second_);
    EXPECT_EQ(answers(), "12 26");
    EXPECT_EQ(listed().size(), 2U);
    reverted = must("revert", id_of(first_in_first_out ? "first" : "second"));
    EXPECT_EQ(answers(), first_in_first_out ? "11 26" : "12 21");
    EXPECT_EQ(listed().size(), 1U);
    reverted = must("revert", id_of(first_in_first_out ? "second" : "first"));
    EXPECT_EQ(answers(), "11 21");
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_TRUE(listed().empty());
  expect_untouched(before, reverted.both());
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: where two patches were half done, a revert of either undoes both, and says that it is recovered.
TEST_P(TwoPatches, that_are_half_done_are_undone_by_a_revert_of_either) {
  make_two();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  for (const char* function : {"first", "second"}) {
    must("apply", first_);
    must("apply", second_);
    const std::string id = id_of(function);
    for (const MappedRange& m : snapshot().mappings) {
      if (m.name.find("/qpatch-") != std::string::npos && m.rights.starts_with("rw")) {
        set_committing(m.start);
      }
    }
    const CommandResult reverted = must("revert", id);
    EXPECT_TRUE(names(reverted.out, "recovered")) << reverted.both();
    EXPECT_EQ(answers(), "11 21");
    EXPECT_TRUE(listed().empty());
    expect_untouched(before, reverted.both());
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(victim().finish(), 0);
}

// Refusal: already-replaced
// Claim: a second patch of the same function is refused, the first stays as it is, and after its
// revert the second one applies.
TEST_P(SameFunctionTwice, is_refused_until_the_first_is_reverted) {
  make_two();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  must("apply", first_);
  const std::string first_id = only_listed().id;
  EXPECT_EQ(victim().ask("?"), "21");
  const Snapshot patched = snapshot();
  for (const char* verb : {"check", "apply"}) {
    const CommandResult second = on_victim(verb, second_);
    EXPECT_EQ(second.exit_code, 3) << verb << ":\n" << second.both();
    EXPECT_TRUE(names(second.both(), "already-replaced")) << verb << ":\n" << second.both();
    expect_untouched(patched);
  }
  EXPECT_EQ(victim().ask("?"), "21");
  EXPECT_EQ(only_listed().id, first_id);
  must("revert", first_id);
  must("apply", second_);
  EXPECT_EQ(victim().ask("?"), "31");
  const CommandResult reverted = must("revert", only_listed().id);
  EXPECT_EQ(victim().ask("?"), "11");
  expect_untouched(before, reverted.both());
  EXPECT_EQ(victim().finish(), 0);
}

INSTANTIATE_TEST_SUITE_P(Scenario, TwoPatches,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "two_patches")), instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, SameFunctionTwice,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "same_function_twice")),
                         instance_name);

}  // namespace
}  // namespace qp::live
