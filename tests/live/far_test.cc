// Processes in which nothing near the target is free: what the image gets is a place somewhere else, and
// its code reaches the target all the same (link/far.h).

#include <algorithm>

#include "harness/library_victim.h"
#include "harness/live_case.h"

namespace qp::live {
namespace {

constexpr uint64_t kReach = uint64_t{1} << 31;

// The distance from the target's code to the image.
uint64_t distance_of_image(const Snapshot& snapshot, const std::string& target) {
  uint64_t at = 0, image = 0;
  for (const MappedRange& m : snapshot.mappings) {
    if (m.rights == "r-xp") {
      at = m.name == target ? m.start : at;
      image = m.name.find(".qpi") != std::string::npos ? m.start : image;
    }
  }
  EXPECT_NE(at, 0U);
  EXPECT_NE(image, 0U);
  return std::max(at, image) - std::min(at, image);
}

const std::vector<std::string> kQuestions = {"1", "2", "3", "4", "5", "6", "1"};

class Far : public LiveCase {};

// Claim: a program whose image is out of reach of its code answers as the one built from the patched
// source, and after the revert by its old code, again and again.
TEST_P(Far, is_as_if_rebuilt) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  Victim oracle(workshop().build_oracle()), unpatched(target());
  // All three are asked the same, so that their variables stay equal.
  const auto compare = [&](const std::string& question, bool patched) {
    const std::string answer = victim().ask(question), rebuilt = oracle.ask(question),
                      old = unpatched.ask(question);
    EXPECT_EQ(answer, patched ? rebuilt : old) << question;
    EXPECT_NE(rebuilt, old);
  };
  const Snapshot before = snapshot();
  compare("1", false);
  for (int round = 0; round < 2; ++round) {
    must("apply", patch);
    ASSERT_FALSE(HasFailure());
    const Snapshot after = snapshot();
    EXPECT_EQ(wrongly_applied(before, after, what().functions.size()), "");
    EXPECT_GT(distance_of_image(after, target()), kReach);
    for (const std::string& question : kQuestions) {
      compare(question, true);
    }
    const CommandResult stacks = on_victim("stacks", only_listed().id);
    EXPECT_EQ(stacks.exit_code, 0) << stacks.both();
    const CommandResult reverted = must("revert", only_listed().id);
    expect_untouched(before, reverted.both());
    compare("1", false);
  }
  EXPECT_EQ(victim().finish(), 0);
}

std::vector<Instance> programs() {
  std::vector<Instance> out;
  for (const char* name : {"far", "far_hole", "far_static"}) {
    for (Instance& instance : scenario(QP_SCENARIOS, name)) {
      out.push_back(std::move(instance));
    }
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Scenario, Far, testing::ValuesIn(programs()), instance_name);

constexpr const char* kLibrary = R"(
#include <stdlib.h>
#include <string.h>
static __thread int local = 3;
__thread int global = 4;
static __thread int fixed __attribute__((tls_model("initial-exec"))) = 5;
static int count = 6;
int exported = 7;
__attribute__((noinline)) int helper(int x) { return x + 1; }
static int (*volatile step)(int) = helper;
int answer(int x) {
  local++, global += 2, fixed += 3, count += 4, exported += 5;
  return EXTRA + local + global + fixed + count + exported + helper(x) + step(x) + abs(-x) +
         (int)strlen(getenv("LIBRARY"));
}
int last(int x) { return x; }
)";

class FarLibrary : public testing::TestWithParam<std::vector<std::string>> {};

// Claim: so it is with a library that was opened where nothing is free: its thread-local variables are
// found through the words that ld.so has filled, and other modules through its own stubs.
TEST_P(FarLibrary, reaches_what_the_old_code_reached) {
  Workdir dir(std::string("FarLibrary.") + (GetParam().empty() ? "calls" : "descriptors"));
  const auto text = [](const char* extra) {
    std::string out = kLibrary;
    return out.replace(out.find("EXTRA"), 5, extra);
  };
  LibraryRecipe recipe;
  recipe.original = text("0");
  recipe.patched = text("1000");
  recipe.flags = GetParam();
  recipe.host = read_text(std::filesystem::path(QP_SCENARIOS) / "far/reserve.c") +
                "void host_start(void) { reserve_near(address_in_library(\"answer\")); }\n";
  LibraryVictim made(dir, recipe, Loading::ByDlopenLocal);
  const CommandResult built = made.build_patch();
  ASSERT_EQ(built.exit_code, 0) << built.both();
  const std::unique_ptr<Victim> victim = made.start(), unpatched = made.start();
  const auto difference = [&] {
    return std::stoi(victim->ask("2")) - std::stoi(unpatched->ask("2"));
  };
  EXPECT_EQ(difference(), 0);
  const Snapshot before = take_snapshot(victim->pid());
  const std::string pid = std::to_string(victim->pid());
  const CommandResult applied = dir.qpatch({"apply", made.patch(), "--pid", pid});
  ASSERT_EQ(applied.exit_code, 0) << applied.both();
  const Snapshot after = take_snapshot(victim->pid());
  EXPECT_EQ(wrongly_applied(before, after, 1), "");
  EXPECT_GT(distance_of_image(after, made.library()), kReach);
  EXPECT_EQ(difference(), 1000);
  EXPECT_EQ(difference(), 1000);
  const std::string info = dir.qpatch({"info", made.patch(), "--json"}).out;
  const std::string id = info.substr(info.find("\"id\": \"") + 7, 8);
  const CommandResult reverted = dir.qpatch({"revert", id, "--pid", pid});
  EXPECT_EQ(reverted.exit_code, 0) << reverted.both();
  EXPECT_EQ(left_behind(before, take_snapshot(victim->pid())), "") << reverted.both();
  EXPECT_EQ(difference(), 0);
  EXPECT_EQ(victim->finish(), 0);
}

INSTANTIATE_TEST_SUITE_P(Model, FarLibrary,
                         testing::Values(std::vector<std::string>{},
                                         std::vector<std::string>{"-mtls-dialect=gnu2"}),
                         [](const auto& test) {
                           return test.param.empty() ? "calls" : "descriptors";
                         });

}  // namespace
}  // namespace qp::live
