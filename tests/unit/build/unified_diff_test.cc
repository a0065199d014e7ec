#include "build/unified_diff.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace qp::build {
namespace {

// Claim: names end at the tab; git's prefixes stay for patch -p to cut.
TEST(UnifiedDiff, Names) {
  auto files = parse_unified_diff(
      "diff --git a/lib/x.c b/lib/x.c\nindex 1..2 100644\n--- a/lib/x.c\t2024-01-01 00:00:00\n"
      "+++ b/lib/x.c\t2024-01-02\n@@ -1 +1 @@\n-a\n+b\n",
      "d");
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].old_name, "a/lib/x.c");
  EXPECT_EQ(files[0].new_name, "b/lib/x.c");
  EXPECT_FALSE(files[0].creates || files[0].deletes);
}

// Claim: removed lines that look like headers belong to their hunk.
TEST(UnifiedDiff, HeadersInsideOfHunks) {
  auto files = parse_unified_diff(
      "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- a/y\n+++ b/y\n z\n--- a/w\n+++ b/w\n@@ -1 +1 "
      "@@\n-a\n+b\n",
      "d");
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[1].old_name, "a/w");
}

// Claim: created and deleted files are told by /dev/null, and by the hunk where `diff -N` made it.
TEST(UnifiedDiff, CreatedAndDeleted) {
  auto files = parse_unified_diff(
      "--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+a\n--- a/o\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"
      "--- old/p\n+++ new/p\n@@ -0,0 +1,2 @@\n+a\n+b\n",
      "d");
  ASSERT_EQ(files.size(), 3u);
  EXPECT_TRUE(files[0].creates);
  EXPECT_TRUE(files[1].deletes);
  EXPECT_FALSE(files[1].creates);
  EXPECT_TRUE(files[2].creates);
}

// Claim: text around the diff (a mail, a commit message) is skipped.
TEST(UnifiedDiff, TextAround) {
  EXPECT_EQ(
      parse_unified_diff("From: x\n\nmsg\n---\n x | 2 +-\n\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n"
                         "\\ No newline at end of file\n+b\n-- \n2.39\n",
                         "d")
          .size(),
      1u);
}

// Claim: git's quoted names are unquoted.
TEST(UnifiedDiff, QuotedNames) {
  auto files = parse_unified_diff("--- \"a/\\303\\274 x.c\"\n+++ \"b/\\303\\274 x.c\"\n", "d");
  EXPECT_EQ(files[0].old_name, "a/\303\274 x.c");
}

// Claim: what is no diff, is cut off, or would leave the source tree is an error.
TEST(UnifiedDiff, Errors) {
  auto code_of = [](const char* text) -> std::string {
    try {
      parse_unified_diff(text, "d");
    } catch (const Error& e) {
      return e.code();
    }
    return "";
  };
  EXPECT_EQ(code_of("hello\n"), "bad-file");
  EXPECT_EQ(code_of("--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n"), "bad-file");
  EXPECT_EQ(code_of("--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n*b\n"), "bad-file");
  EXPECT_EQ(code_of("--- a/../../etc/passwd\n+++ b/x\n"), "patch-unsupported");
  EXPECT_EQ(code_of("--- /etc/passwd\n+++ /etc/passwd\n"), "patch-unsupported");
  EXPECT_EQ(code_of("diff --git a/x b/y\nrename from x\nrename to y\n"), "patch-unsupported");
  EXPECT_EQ(code_of("diff --git a/x b/x\nGIT binary patch\n"), "patch-unsupported");
}

// Claim: components are cut as patch -p does.
TEST(StripComponents, Levels) {
  EXPECT_EQ(strip_components("a/b/c", 0), "a/b/c");
  EXPECT_EQ(strip_components("a/b/c", 2), "c");
  EXPECT_EQ(strip_components("a", 1), "");
  EXPECT_EQ(strip_components("./a/b", 1), "b");
}

}  // namespace
}  // namespace qp::build
