#include "build/touched_units.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "project.h"

namespace qp::build {
namespace {

struct Found {
  std::string compiled;  // names, with spaces between
  std::vector<std::string> not_compiled;
  std::string skipped;  // "name: reason; "
  std::vector<std::string> warnings;
};

Found find(Project& project, const std::map<std::string, std::string>& changed) {
  Found out;
  std::filesystem::path diff = project.diff(changed);
  std::string before = project.fingerprint();
  PatchedTree tree({diff}, project.commands(), out.warnings);
  TouchedUnits units = find_touched_units(project.commands(), tree, 2, out.warnings);
  for (const TouchedUnit& unit : units.units) {
    out.compiled += (out.compiled.empty() ? "" : " ") + unit.replay.source.filename().string();
  }
  for (const UnitResult& unit : units.skipped) {
    out.skipped += unit.source + ": " + unit.reason + "; ";
  }
  out.not_compiled = units.not_compiled;
  EXPECT_EQ(project.fingerprint(), before);
  return out;
}

// Claim: of a project only the unit whose source changed is compiled.
TEST(TouchedUnits, SourceItself) {
  Project project{{"a.c", "int a;\n"}, {"b.c", "int b;\n"}};
  project.add_command("a.c");
  project.add_command("b.c");
  Found found = find(project, {{"a.c", "int a = 1;\n"}});
  EXPECT_EQ(found.compiled, "a.c");
  EXPECT_EQ(found.skipped, "");
}

// Claim: a source of the diff that nothing compiles is told, changed or added; one that another
// source includes is compiled.
TEST(TouchedUnits, SourcesThatNothingCompiles) {
  Project project{{"a.c", "int a;\n#include \"part.c\"\n"},
                  {"b.c", "int b;\n"},
                  {"part.c", "int part;\n"},
                  {"unused.h", "int u;\n"}};
  project.add_command("a.c");
  Found found = find(project, {{"a.c", "int a = 1;\n#include \"part.c\"\n#include \"more.c\"\n"},
                               {"b.c", "int b = 1;\n"},
                               {"part.c", "int part = 1;\n"},
                               {"more.c", "int more;\n"},
                               {"new.c", "int n;\n"},
                               {"unused.h", "long u;\n"}});
  EXPECT_EQ(found.compiled, "a.c");
  EXPECT_EQ(found.not_compiled, (std::vector<std::string>{"b.c", "new.c"}));
}

// Claim: a header is followed through options that are spelled in other ways, through an #include
// that is taken apart, through .include of the assembler, and from a name through a link.
TEST(TouchedUnits, HeaderIsFollowedThroughOddSpellings) {
  Project project({{"joined.c", "int a;\n"},
                   {"long.c", "int b;\n"},
                   {"list.c", "int c;\n"},
                   {"passed.c", "int d;\n"},
                   {"split.c", "#inc\\\nlude \"include/h.h\"\n"},
                   {"assembler.c", "__asm__(\".include \\\"../include/h.h\\\"\");\n"},
                   {"neither.c", "int e;\n"},
                   {"include/h.h", "\n"}});
  project.add_command("joined.c", {"-include../include/h.h"});
  project.add_command("long.c", {"--include=../include/h.h"});
  project.add_command("list.c", {"-Wp,-include,../include/h.h"});
  project.add_command("passed.c",
                      {"-Xpreprocessor", "-include", "-Xpreprocessor", "../include/h.h"});
  project.add_command("split.c");
  project.add_command("assembler.c");
  project.add_command("neither.c", {"-Wp,-D_FORTIFY_SOURCE=2", "-Dinclude=1"});
  Found found = find(project, {{"include/h.h", "extern long h;\n"}});
  EXPECT_EQ(found.compiled, "joined.c long.c list.c passed.c split.c assembler.c");

  Project linked({{"a.c", "#include \"real/h.h\"\n"}, {"real/h.h", "\n"}});
  linked.add_command("a.c");
  std::filesystem::create_directory_symlink("real", linked.root() / "link");
  EXPECT_EQ(find(linked, {{"link/h.h", "extern long h;\n"}}).compiled, "a.c");
}

// Claim: a name with a quote and a backslash in it is recognised in linemarkers.
TEST(TouchedUnits, QuotesInNames) {
  Project project{{"b \"x\\.c", "int b;\n"}};
  project.add_command("b \"x\\.c");
  Found found = find(project, {{"b \"x\\.c", "int b = 1;\n"}});
  EXPECT_EQ(found.compiled, "b \"x\\.c");
}

// Claim: a header is followed to every unit that includes it, through other headers, in other
// directories, in circles and by -include.
TEST(TouchedUnits, HeaderIsFollowed) {
  Project project(
      {{"direct.c", "#include \"deep/h.h\"\n"},
       {"through.c", "#include <outer.h>\n"},
       {"forced.c", "int x;\n"},
       {"neither.c", "#include <other.h>\n"},
       {"include/outer.h", "#pragma once\n#include \"circle.h\"\n"},
       {"include/circle.h", "#pragma once\n#include \"outer.h\"\n#include \"deep/h.h\"\n"},
       {"include/other.h", "int o;\n"},
       {"include/deep/h.h", "extern int h;\n"}});
  project.add_command("direct.c");
  project.add_command("through.c");
  project.add_command("forced.c", {"-include", "../include/deep/h.h"});
  project.add_command("neither.c");
  Found found = find(project, {{"include/deep/h.h", "extern long h;\n"}});
  EXPECT_EQ(found.compiled, "direct.c through.c forced.c");
  EXPECT_EQ(found.skipped, "");
}

// Claim: a unit whose preprocessed text is equal is skipped, with the reason: comments, code that
// is not compiled.
TEST(TouchedUnits, EqualTextIsSkipped) {
  Project project{{"a.c", "#include \"h.h\"\nint a;\n"},
                  {"b.c", "#define WITH_X\n#include \"h.h\"\nint b;\n"},
                  {"include/h.h", "#ifdef WITH_X\nextern int x;\n#endif\n"}};
  project.add_command("a.c");
  project.add_command("b.c");
  Found found = find(project, {{"a.c", "#include \"h.h\"\n\n/* new */\nint a;\n"},
                               {"include/h.h", "#ifdef WITH_X\nextern long x;\n#endif\n"}});
  EXPECT_EQ(found.compiled, "b.c");
  EXPECT_EQ(found.skipped, "../a.c: preprocessed text is equal (reads a.c, include/h.h); ");
}

// Claim: a line that is added above an assert changes nothing below it.
TEST(TouchedUnits, LineNumbersAreKept) {
  Project project{{"a.c", "void f(int);\n\nvoid g(void) { f(__LINE__); }\n"}};
  project.add_command("a.c");
  EXPECT_EQ(
      find(project, {{"a.c", "void f(int);\n\n\n// x\nvoid g(void) { f(__LINE__); }\n"}}).compiled,
      "");
}

// Claim: a computed #include can be anything: the unit is examined.
TEST(TouchedUnits, ComputedInclude) {
  Project project{{"a.c", "#include HEADER\nint a = X;\n"},
                  {"b.c", "#include HEADER\nint b;\n"},
                  {"include/h.h", "#define X 1\n"},
                  {"include/i.h", "#define X 1\n"}};
  project.add_command("a.c", {"-DHEADER=\"h.h\""});
  project.add_command("b.c", {"-DHEADER=\"i.h\""});
  Found found = find(project, {{"include/h.h", "#define X 2\n"}});
  EXPECT_EQ(found.compiled, "a.c");
  EXPECT_EQ(found.skipped, "../b.c: reads none of the changed files; ");
}

// Claim: a header that a branch includes only is found.
TEST(TouchedUnits, IncludeInABranch) {
  Project project(
      {{"a.c", "#ifdef A\n# include \"h.h\"\n#endif\nint a;\n"}, {"include/h.h", "int h;\n"}});
  project.add_command("a.c", {"-DA"});
  project.add_command("a.c", {"-UA"});
  Found found = find(project, {{"include/h.h", "long h;\n"}});
  EXPECT_EQ(found.compiled, "a.c");
  EXPECT_EQ(found.skipped, "../a.c: reads none of the changed files; ");
}

// Claim: a new header that hides another one of its name is seen.
TEST(TouchedUnits, NewHeaderHidesAnother) {
  Project project{{"lib/a.c", "#include \"h.h\"\n"}, {"include/h.h", "int h;\n"}};
  project.add_command("lib/a.c");
  EXPECT_EQ(find(project, {{"lib/h.h", "long h;\n"}, {"include/h.h", "int h; // x\n"}}).compiled,
            "a.c");
}

// Claim: two objects of one source are both compiled.
TEST(TouchedUnits, TwoObjectsOfOneSource) {
  Project project{{"a.c", "int a;\n"}};
  project.add_command("a.c");
  project.add_command("a.c", {"-fPIC", "-DPIC"});
  EXPECT_EQ(find(project, {{"a.c", "long a;\n"}}).compiled, "a.c a.c");
}

// Claim: a unit that asks for its position without __LINE__ is compiled, whatever its text.
TEST(TouchedUnits, BuiltinLine) {
  Project project{{"a.c", "int f(int x) { return x +\n __builtin_LINE(); }\n"}};
  project.add_command("a.c");
  EXPECT_EQ(
      find(project, {{"a.c", "// x\nint f(int x) { return x +\n __builtin_LINE(); }\n"}}).compiled,
      "a.c");
}

// Claim: a changed file that nothing reads is named.
TEST(TouchedUnits, UnreadFilesAreNamed) {
  Project project{{"a.c", "int a;\n"}, {"NEWS", "old\n"}};
  project.add_command("a.c");
  Found found = find(project, {{"NEWS", "new\n"}, {"a.c", "long a;\n"}});
  ASSERT_EQ(found.warnings.size(), 1u);
  EXPECT_TRUE(found.warnings[0].starts_with("NEWS: ")) << found.warnings[0];
}

// Claim: a unit that the compiler can't read is an error that says which version, and what the
// compiler said.
TEST(TouchedUnits, CompilerFailure) {
  Project project{{"a.c", "int a;\n"}};
  project.add_command("a.c");
  try {
    find(project, {{"a.c", "#error no\n"}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "compile-failed");
    EXPECT_NE(std::string(e.what()).find("patched"), std::string::npos);
    EXPECT_NE(e.said().find("#error no"), std::string::npos);
  }
}

// Claim: a touched unit whose command can't be replayed is an error; an untouched one is none.
TEST(TouchedUnits, UnreplayableCommand) {
  Project project{{"a.c", "int a;\n"}, {"b.c", "int b;\n"}};
  project.add_command("a.c");
  project.add_command("b.c");
  std::vector<CompileCommand> commands = project.commands();
  commands[1].problem = "the command uses the shell operator '|'";
  std::vector<std::string> warnings;
  PatchedTree first({project.diff({{"a.c", "long a;\n"}})}, commands, warnings);
  EXPECT_EQ(find_touched_units(commands, first, 1, warnings).units.size(), 1u);
  PatchedTree second({project.diff({{"b.c", "long b;\n"}})}, commands, warnings);
  EXPECT_THROW(find_touched_units(commands, second, 1, warnings), Error);
}

}  // namespace
}  // namespace qp::build
