// Hooks on their way from the database into the patch.
#include "build/analysis.h"
#include "program.h"

namespace qp::build {
namespace {

constexpr const char* kMain = "int f(int);\nint main(int c, char** v) { return f(c); }\n";
constexpr const char* kUnit = "int limit = 3;\nint f(int x) { return x * limit; }\n";
constexpr const char* kNothing = "/* no code yet */\n";
constexpr const char* kHook =
    "int raise_limit(struct qpatch_hook_context* context) { limit = 4; return 0; }\n"
    "QPATCH_PRE_APPLY(raise_limit, QPATCH_STOPPED);\n";

std::map<std::string, std::string> with_hook(const std::string& file, const std::string& text) {
  return {{file, "#include <qpatch/hooks.h>\n" + text + kHook}};
}

// Claim: a unit that gains nothing but a hook has to be in the target as it was compiled.
TEST(BuildHooks, NeedAProvenFunction) {
  Program program{{"main.c", kMain}, {"f.c", kUnit}};
  EXPECT_EQ(program.refusal(with_hook("f.c", kUnit)), "");
  const std::string other = "int limit = 3;\nint f(int x) { return x * limit + 7; }\n";
  program.project().write("f.c", other);
  EXPECT_EQ(program.refusal(with_hook("f.c", other)), "hook-invalid");
}

// Claim: a unit that had no code gains a hook only beside another one that is in the target.
TEST(BuildHooks, OfANewFileNeedAProvenFunction) {
  Program program{{"main.c", kMain}, {"f.c", kUnit}, {"hooks.c", kNothing}};
  std::map<std::string, std::string> change = with_hook("hooks.c", "extern int limit;\n");
  EXPECT_EQ(program.refusal(change), "hook-invalid");
  change["f.c"] = "int limit = 3;\nint f(int x) { return x * limit + 1; }\n";
  EXPECT_EQ(program.refusal(change), "");
}

// Claim: a hook of a unit that the database has twice runs once.
TEST(BuildHooks, OfAUnitThatIsTwiceInTheDatabase) {
  Program program{{"main.c", kMain}, {"f.c", kUnit}, {"hooks.c", kNothing}};
  program.add_entry("f.c", "again.o", {});
  EXPECT_EQ(program.patch(with_hook("f.c", kUnit)).hooks.size(), 1u);
  program.add_entry("hooks.c", "hooks_again.o", {});
  std::map<std::string, std::string> change = with_hook("hooks.c", "extern int limit;\n");
  change["f.c"] = "int limit = 3;\nint f(int x) { return x * limit + 1; }\n";
  EXPECT_EQ(program.patch(change).hooks.size(), 1u);
}

// Refusal: hook-invalid
// Claim: a hook of a source that is twice in the target is refused: it would run for one of them.
TEST(BuildHooks, OfAUnitThatIsTwiceInTheTarget) {
  TouchedUnit touched;
  touched.replay.source = "/f.c";
  std::vector<Analysis> units(2);
  for (size_t i = 0; i < units.size(); ++i) {
    units[i].unit = &touched;
    units[i].diff.emplace();
    units[i].diff->units.push_back({"f", objdiff::Fate::Changed, {}, {}, {}, {}, {}});
    units[i].diff->hooks.push_back({"raise_limit", 1, 2, 10, 0});
    units[i].matched.replaced.push_back({0, LinkAddr(0x1000 * (i + 1)), {}});
  }
  Report report;
  std::vector<std::string> warnings;
  choose(units, report, warnings);
  ASSERT_EQ(report.refusals().size(), 1u);
  EXPECT_EQ(report.refusals()[0].id, "hook-invalid");
}

}  // namespace
}  // namespace qp::build
