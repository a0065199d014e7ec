// Records of hooks, as the macros of include/qpatch/hooks.h leave them.

#include "objdiff/hooks.h"

#include <gtest/gtest.h>

#include "assembled.h"

namespace qp::objdiff {
namespace {

std::string function(const std::string& name, const std::string& body) {
  return "  .section .text." + name + ",\"ax\",@progbits\n  .type " + name + ",@function\n" + name +
         ":\n" + body + "\n  ret\n  .size " + name + ",.-" + name + "\n";
}

struct Record {
  std::string name, run;
  int when = 1, others = 2, line = 10, version = 1;
};
std::string record(const Record& r) {
  return "  .section .qpatch.hooks,\"aw\",@progbits\n  .align 8\n  .type " + r.name +
         ",@object\n  .size " + r.name + ",16\n" + r.name + ":\n  .quad " + r.run + "\n  .value " +
         std::to_string(r.version) + "\n  .byte " + std::to_string(r.when) + "," +
         std::to_string(r.others) + "\n  .long " + std::to_string(r.line) + "\n";
}

struct Found {
  Report report;
  Diff diff;
  bool refuses(const std::string& id, const std::string& where) const {
    for (const Refusal& r : report.refusals()) {
      if (r.id == id && r.where == where) {
        return true;
      }
    }
    return false;
  }
};
Found compared(const std::string& original, const std::string& patched) {
  Found out;
  elf::AtomGraph a = split_text(original, out.report), b = split_text(patched, out.report);
  out.diff = diff(std::move(a), std::move(b), out.report);
  return out;
}

const std::string kOld = function("f", "  nop");
const std::string kRun = function("qpatch_pre_apply_go", "  xor %eax,%eax");

// Claim: records become hooks with their names, by line, and are no difference that has to be
// explained.
TEST(Hooks, AreRead) {
  const Found found = compared(
      kOld, kOld + kRun + function("run2", "  mov $1,%eax") +
                record({.name = "qpatch_record_pre_apply_go", .run = "qpatch_pre_apply_go"}) +
                record({.name = "_ZN2nsL31qpatch_record_post_revert_lowerE",
                        .run = "run2",
                        .when = 4,
                        .others = 1,
                        .line = 3}));
  EXPECT_TRUE(found.report.clean());
  ASSERT_EQ(found.diff.hooks.size(), 2u);
  EXPECT_EQ(found.diff.hooks[0].name, "lower");
  EXPECT_EQ(found.diff.hooks[0].when, 4);
  EXPECT_EQ(found.diff.hooks[0].others, 1);
  EXPECT_EQ(found.diff.hooks[1].name, "go");
  EXPECT_EQ(found.diff.hooks[1].function, find(found.diff.patched, "qpatch_pre_apply_go"));
  for (const Inclusion& i : found.diff.included) {
    EXPECT_NE(found.diff.patched.atoms[i.patched].section, ".qpatch.hooks");
  }
}

// Claim: a hook that the original has too, unchanged, is the program's and not the patch's; one whose
// function changed runs.
TEST(Hooks, OfAnEarlierPatch) {
  const std::string mark =
      record({.name = "qpatch_record_pre_apply_go", .run = "qpatch_pre_apply_go"});
  EXPECT_TRUE(
      compared(kOld + kRun + mark, function("f", "  inc %eax") + kRun + mark).diff.hooks.empty());
  const Found changed =
      compared(kOld + kRun + mark, kOld + function("qpatch_pre_apply_go", "  mov $1,%eax") + mark);
  EXPECT_TRUE(changed.report.clean());
  EXPECT_EQ(changed.diff.hooks.size(), 1u);
}

// Refusal: hook-invalid
// Claim: what is no hook of the patch is refused: another version, an unknown kind, no function, a
// function that the program has already, one that changed behind a hook of the program.
TEST(Hooks, ThatCannotBeOnes) {
  const std::string name = "qpatch_record_pre_apply_go";
  const Record good{.name = name, .run = "qpatch_pre_apply_go"};
  for (Record bad :
       {Record{name, good.run, 5}, Record{name, good.run, 1, 3}, Record{name, good.run, 1, 2, 1, 2},
        Record{name, "0"}, Record{name, good.run + "+1"}, Record{name, "elsewhere"}}) {
    const Found found = compared(kOld, kOld + kRun + record(bad));
    EXPECT_TRUE(found.refuses("hook-invalid", name)) << bad.run << bad.when << bad.others;
  }
  EXPECT_TRUE(compared(kOld + kRun, kOld + kRun + record(good)).refuses("hook-invalid", "go"));
  const std::string caller = function("qpatch_pre_apply_go", "  call go");
  EXPECT_TRUE(compared(caller + function("go", "  nop") + record(good),
                       caller + function("go", "  inc %eax") + record(good))
                  .refuses("hook-invalid", "go"));
}

}  // namespace
}  // namespace qp::objdiff
