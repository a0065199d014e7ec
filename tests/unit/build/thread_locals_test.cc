// Where the attribute goes that makes compilers ask for the place of a new thread-local variable.

#include <gtest/gtest.h>

#include "build/thread_locals.h"

namespace qp::build {
namespace {

const std::string kAttribute = " __attribute__((tls_model(\"global-dynamic\")))";

std::string changed(std::string text, const std::string& name, int64_t line) {
  const auto out = make_dynamic(text, name, line);
  return out ? *out : "none";
}

// Claim: it stands behind the specifier of the declaration, whichever of the three that is, and no
// line moves.
TEST(ThreadLocals, AttributeFollowsTheSpecifier) {
  for (const std::string specifier : {"__thread", "_Thread_local", "thread_local"}) {
    const std::string before = "int a;\nstatic " + specifier, after = " int calls = 5;\nint b;\n";
    EXPECT_EQ(changed(before + after, "calls", 2), before + kAttribute + after);
  }
  EXPECT_EQ(changed("static __thread\n  int\n  x;\n", "x", 3),
            "static __thread" + kAttribute + "\n  int\n  x;\n");
  EXPECT_EQ(changed("__thread int a; __thread int b;", "b", 1),
            "__thread int a; __thread" + kAttribute + " int b;");
}

// Claim: it is put there once, for all variables of a declaration.
TEST(ThreadLocals, AttributeIsThereOnce) {
  const std::string once = changed("static __thread int a, b;\n", "a", 1);
  EXPECT_EQ(once, "static __thread" + kAttribute + " int a, b;\n");
  EXPECT_EQ(changed(once, "b", 1), once);
}

// Claim: of several lines with one number the one is meant that has the name and a specifier; other
// names that contain it do not count.
TEST(ThreadLocals, LineIsThePresumedOne) {
  const std::string text = "int x;\nstatic __thread int calls;\n#line 2\nint calls_of(void);\n";
  EXPECT_EQ(changed(text, "calls", 2),
            "int x;\nstatic __thread" + kAttribute + " int calls;\n#line 2\nint calls_of(void);\n");
  EXPECT_EQ(changed("#line 50\n__thread int y;\n", "y", 50),
            "#line 50\n__thread" + kAttribute + " int y;\n");
  EXPECT_EQ(changed("#line 50\n__thread int y;\n", "y", 2), "none");
}

// Claim: where a macro has the specifier the attribute stands behind the declarator, and a specifier of
// another declaration is not taken for it; in the parentheses of a macro nothing is changed.
TEST(ThreadLocals, SpecifierFromAMacro) {
  EXPECT_EQ(changed("PER_THREAD int calls;\n", "calls", 1),
            "PER_THREAD int calls" + kAttribute + ";\n");
  EXPECT_EQ(changed("__thread int a;\nPER_THREAD int calls[2] [3] = {1};\n", "calls", 2),
            "__thread int a;\nPER_THREAD int calls[2] [3]" + kAttribute + " = {1};\n");
  EXPECT_EQ(changed("int my__thread; int calls, b;\n", "calls", 1),
            "int my__thread; int calls" + kAttribute + ", b;\n");
  EXPECT_EQ(changed("int calls; __thread int b;\n", "calls", 1),
            "int calls" + kAttribute + "; __thread int b;\n");
  EXPECT_EQ(changed("__thread int a;\nPER_THREAD(int, calls);\n", "calls", 2), "none");
  EXPECT_EQ(changed("PER_THREAD int calls(void);\n", "calls", 1), "none");
  EXPECT_EQ(changed("#line 2\nint calls;\n#line 2\n__thread int calls;\n", "calls", 2),
            "#line 2\nint calls;\n#line 2\n__thread" + kAttribute + " int calls;\n");
}

}  // namespace
}  // namespace qp::build
