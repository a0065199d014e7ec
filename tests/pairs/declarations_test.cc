// Two static locals of one name in one function, told apart by their place in the source when the
// code around them has changed.

#include <gtest/gtest.h>

#include "compiled.h"

namespace qp::pairs {
namespace {

struct Locals {
  std::string before = "", first = "7", between = "", second = "9";
  std::string text() const {
    return "extern void use(int *, const char *); extern int g(int);\n"
           "int f(int x) { " +
           before + "\n  if (x > 3) { static int seen = " + first +
           "; use(&seen, \"a\"); }\n"
           "  x = g(x); " +
           between + "\n  if (x < 3) { static int seen = " + second +
           "; use(&seen, \"b\"); }\n  return x;\n}\n";
  }
};

Outcome compared(const Compiler& compiler, const Locals& patched) {
  return diff_objects(compile(compiler, Locals().text()), compile(compiler, patched.text()));
}

const Compiler kCompilers[] = {{"gcc-12", {"-g", "-O2"}},
                               {"gcc-12", {"-gdwarf-4", "-O1", "-fPIC"}},
                               {"clang-14", {"-g", "-O2"}}};

// Claim: both keep their state when code of their function changes, and both are the right one.
TEST(Declarations, SamePlaceIsTheSameVariable) {
  for (const Compiler& c : kCompilers) {
    Outcome found = compared(c, {.before = "x += g(5) * 3;", .between = "x ^= 0x55;"});
    EXPECT_EQ(found.refusal_ids(), std::set<std::string>()) << c.text() << found.text();
    EXPECT_EQ(found.names(objdiff::Fate::Changed), std::set<std::string>{"f"});
    for (elf::AtomId id = 0; id < found.diff.patched.atoms.size(); ++id) {
      const elf::Atom& atom = found.diff.patched.atoms[id];
      if (elf::is_writable(atom.storage)) {
        ASSERT_TRUE(found.diff.original_of[id]) << c.text();
        EXPECT_EQ(atom.bytes, found.diff.original.atoms[*found.diff.original_of[id]].bytes);
      }
    }
  }
}

// Claim: when one comes, the numbers of lines say nothing certain, and the pair is refused.
TEST(Declarations, AnotherOneIsAmbiguous) {
  for (const Compiler& c : kCompilers) {
    Outcome found =
        compared(c, {.before = "x += g(5) * 3;",
                     .between = "if (x == 3) { static int seen = 8; use(&seen, \"c\"); }"});
    EXPECT_EQ(found.refusal_ids().count("state-ambiguous"), 1u) << c.text() << found.text();
  }
}

// Claim: when one has moved to another line, likewise.
TEST(Declarations, MovedOneIsAmbiguous) {
  for (const Compiler& c : kCompilers) {
    Outcome found = compared(c, {.before = "x += g(5) * 3;", .between = "\n"});
    EXPECT_EQ(found.refusal_ids().count("state-ambiguous"), 1u) << c.text() << found.text();
  }
}

}  // namespace
}  // namespace qp::pairs
