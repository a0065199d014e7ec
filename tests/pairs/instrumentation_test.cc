// Code that compilers were told to add things to: what these say about the source differs with it, and
// is no state of the program.

#include <gtest/gtest.h>

#include "compiled.h"

namespace qp::pairs {
namespace {

using Names = std::set<std::string>;

constexpr const char* kText = R"(
int g(int);
int f(int x) { static int n = 3; n += x; return n; }
int h(int x) { static int n = 7; n *= x; return g(n) + n; }
int k(int x) { return g(x * 5) - 1; }
)";

std::string edited(const std::string& what, const std::string& with) {
  std::string text = kText;
  return text.replace(text.find(what), what.size(), with);
}

// Nothing is refused, and these functions are changed, but for those that write what was counted.
void expect_changed(const Compiler& c, const std::string& patched, const Names& changed,
                    const Names& fresh = {}) {
  const Outcome found = diff_objects(compile(c, kText), compile(c, patched));
  EXPECT_EQ(found.refusal_ids(), Names()) << c.text() << found.text();
  Names names = found.names(objdiff::Fate::Changed);
  std::erase_if(names, [](const std::string& name) { return name.starts_with("__llvm_gcov_"); });
  EXPECT_EQ(names, changed) << c.text() << found.text();
  EXPECT_EQ(found.names(objdiff::Fate::New), fresh) << c.text() << found.text();
}

std::vector<Compiler> compilers(const std::string& flag) {
  return {{"gcc-12", {"-O2", "-g", flag}}, {"gcc-12", {"-O0", flag}}, {"clang-14", {"-O2", flag}}};
}

// Claim: descriptions of checked places, which hold lines and columns, go with the function that they
// are of.
TEST(Instrumentation, UndefinedBehaviourSanitizer) {
  for (const Compiler& c : compilers("-fsanitize=undefined")) {
    expect_changed(c, edited("n += x;", "n += 2 * x;"), {"f"});
    expect_changed(c, edited("g(x * 5)", "g(x * 6)"), {"k"});
    expect_changed(c, edited("int k(", "int j(int x) { return g(x + 1); } int k("), {"k"}, {"j"});
  }
}

// Claim: checksums of the source are no initial values that have to be kept, and a function with other
// paths gets counters of its own.
TEST(Instrumentation, Coverage) {
  for (const Compiler& c : compilers("--coverage")) {
    expect_changed(c, edited("n += x;", "n += 2 * x;"), {"f"});
    expect_changed(c, edited("n += x;", "if (x > 3) { n += g(x); } else { n += x; }"), {"f"});
    expect_changed(c, edited("int k(", "int j(int x) { return g(x + 1); }\nint k("), {}, {"j"});
  }
}

// Claim: lists of places that tracers patch stay as they are, also where a place is in front of the
// function.
TEST(Instrumentation, PatchableFunctionEntries) {
  for (const char* flag : {"-fpatchable-function-entry=2", "-fpatchable-function-entry=5,3"}) {
    for (const Compiler& c : compilers(flag)) {
      expect_changed(c, edited("n += x;", "n += 2 * x;"), {"f"});
      expect_changed(c, edited("int k(", "int j(int x) { return g(x + 1); }\nint k("), {}, {"j"});
    }
  }
}

// Claim: static locals that nothing refers to, and that the compiler kept, stand in nobody's way when
// their numbers change.
TEST(Instrumentation, UnusedStaticLocals) {
  const std::string before =
      "int f(int x) { static int unused = 4; static int m = 5; return m += x; }\n"
      "int h(int x) { static int unused = 6; return x * 3; }\n";
  const std::string added =
      "int first(int x) { static int unused = 9, n = 1; return n += x; }\n" + before;
  for (const char* level : {"-O0", "-O2"}) {
    for (const char* compiler : {"gcc-12", "clang-14"}) {
      const Compiler c{compiler, {level, "-g"}};
      const Outcome found = diff_objects(compile(c, before), compile(c, added));
      EXPECT_EQ(found.refusal_ids(), Names()) << c.text() << found.text();
      EXPECT_EQ(found.names(objdiff::Fate::New), Names{"first"}) << c.text() << found.text();
    }
  }
}

}  // namespace
}  // namespace qp::pairs
