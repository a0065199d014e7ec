// Shadow variables: a field that the objects of a running program did not have, per object right, and
// by all threads.

#include "harness/library_victim.h"
#include "harness/live_case.h"

namespace qp::live {
namespace {

class Shadow : public LiveCase {};

std::vector<Instance> also_static(std::vector<Instance> instances) {
  instances.front().how.pie = true;
  Instance fixed = instances.front();
  fixed.how.pie = false;
  fixed.what.link_flags.emplace_back("-static");
  instances.push_back(fixed);
  return instances;
}

// Claim: objects that were there before the patch get a variable each, from a hook while everything
// stands still; threads that work at the same time lose no count; after a revert the variables are
// kept, and the patch finds them when it is applied again, but for the one that was detached.
TEST_P(Shadow, variables_belong_to_their_objects) {
  prepare();
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  EXPECT_EQ(victim().ask("3"), "3");
  must("apply", patch);
  EXPECT_EQ(victim().ask("3"), "1004");
  EXPECT_EQ(victim().ask("run 50"), "ok");
  EXPECT_EQ(victim().ask("3"), "1205");
  EXPECT_EQ(victim().ask("299"), "1500");
  const CommandResult reverted = must("revert", only_listed().id);
  EXPECT_TRUE(names(reverted.both(), "kept")) << reverted.both();
  EXPECT_EQ(victim().ask("3"), "3");
  must("apply", patch);
  EXPECT_EQ(victim().ask("3"), "1206");
  EXPECT_EQ(victim().ask("0"), "1001");
  must("revert", only_listed().id);
  EXPECT_EQ(victim().ask("0"), "0");
  EXPECT_EQ(victim().finish(), 0);
}

INSTANTIATE_TEST_SUITE_P(Scenario, Shadow,
                         testing::ValuesIn(also_static(scenario(QP_SCENARIOS, "shadow"))),
                         instance_name);

// Claim: hooks and shadow variables work in a library that was loaded with dlopen.
TEST(LibraryHooks, and_shadow_variables) {
  LibraryRecipe recipe;
  recipe.host = "void host_start(void) {}\n";
  recipe.original = "static volatile int base = 10;\nint answer(int x) { return base + x; }\n";
  recipe.patched = R"(#include <qpatch/hooks.h>
static volatile int base = 20;
int answer(int x) {
  int* calls = qpatch_shadow_attach((const void*)&base, (unsigned long)x, sizeof *calls);
  return calls ? base + x + 100 * ++*calls : -1;
}
static int set_base(struct qpatch_hook_context* context) {
  base = context->when == QPATCH_WHEN_PRE_APPLY ? 20 : 10;
  return 0;
}
QPATCH_PRE_APPLY(set_base, QPATCH_STOPPED);
QPATCH_POST_REVERT(set_base, QPATCH_RUNNING);
)";
  Workdir dir("LibraryHooks");
  LibraryVictim library(dir, recipe, Loading::ByDlopenLocal);
  const CommandResult built = library.build_patch({"--allow=initialiser-changed:base"});
  ASSERT_EQ(built.exit_code, 0) << built.both();
  auto victim = library.start();
  const std::string pid = std::to_string(victim->pid());
  EXPECT_EQ(victim->ask("1"), "11");
  const CommandResult applied = dir.qpatch({"apply", library.patch(), "--pid", pid});
  ASSERT_EQ(applied.exit_code, 0) << applied.both();
  EXPECT_EQ(victim->ask("1"), "121");
  EXPECT_EQ(victim->ask("1"), "221");
  EXPECT_EQ(victim->ask("2"), "122");
  const CommandResult again = dir.qpatch({"apply", library.patch(), "--pid", pid, "--json"});
  const size_t at = again.out.find("\"patch\": \"");
  ASSERT_NE(at, std::string::npos) << again.both();
  const CommandResult reverted = dir.qpatch({"revert", again.out.substr(at + 10, 8), "--pid", pid});
  EXPECT_EQ(reverted.exit_code, 0) << reverted.both();
  EXPECT_EQ(victim->ask("1"), "11");
  EXPECT_EQ(victim->finish(), 0);
}

}  // namespace
}  // namespace qp::live
