#include "build/line_directives.h"

#include <gtest/gtest.h>

#include "base/fd.h"
#include "base/subprocess.h"

namespace qp::build {
namespace {

// The __LINE__ values that the compiler sees, in order of MARK: each use of MARK(name) becomes
// "name line".
std::string numbers(const std::string& text, std::vector<std::string> options = {}) {
  TempDir dir("qp-test-");
  write_file(dir.path() / "a.c", as_bytes("#define MARK(name) @name __LINE__\n#line 1\n" + text));
  std::vector<std::string> command = {"gcc", "-E", "-P", "-pedantic-errors"};
  command.insert(command.end(), options.begin(), options.end());
  command.push_back((dir.path() / "a.c").string());
  RunResult result = run(command);
  EXPECT_EQ(result.exit_code, 0) << result.err << text;
  std::string out;
  for (size_t at = result.out.find('@'); at != std::string::npos;
       at = result.out.find('@', at + 1)) {
    out += result.out.substr(at + 1, result.out.find('\n', at) - at - 1) + ";";
  }
  return out;
}

// Claim: a text without changes gets no directive.
TEST(LineDirectives, NothingToDo) {
  std::string text = "int x;\n#if A\nint y;\n#endif\nint z;";
  EXPECT_EQ(keep_line_numbers(text, text), text);
}

// Claim: a line that is replaced by one line shifts nothing, so nothing is inserted.
TEST(LineDirectives, SameNumberOfLines) {
  EXPECT_EQ(keep_line_numbers("a;\nb;\nc;\n", "a;\nx;\nc;\n"), "a;\nx;\nc;\n");
}

// Claim: the first unchanged line behind an insertion has its old number.
TEST(LineDirectives, Insertion) {
  EXPECT_EQ(keep_line_numbers("a;\nb;\nc;\n", "a;\nx;\ny;\nb;\nc;\n"),
            "a;\nx;\ny;\n#line 2\nb;\nc;\n");
}

// Claim: the first unchanged line behind a deletion has its old number.
TEST(LineDirectives, Deletion) {
  EXPECT_EQ(keep_line_numbers("a;\nb;\nc;\n", "a;\nc;\n"), "a;\n#line 3\nc;\n");
}

// Claim: each change is set right by itself.
TEST(LineDirectives, SeveralChanges) {
  std::string original = "MARK(a)\nx;\nMARK(b)\ny;\nMARK(c)\n";
  std::string patched = "MARK(a)\nx1;\nx2;\nMARK(b)\nMARK(c)\n";
  EXPECT_EQ(numbers(keep_line_numbers(original, patched)), numbers(original));
}

// Claim: what does not end with a newline stays so.
TEST(LineDirectives, NoNewlineAtTheEnd) {
  EXPECT_EQ(keep_line_numbers("a;\nb;", "x;\na;\nb;"), "x;\n#line 1\na;\nb;");
}

// Claim: inside a call's arguments nothing is inserted; the next statement is right again.
TEST(LineDirectives, WaitsForTheEndOfACall) {
  EXPECT_EQ(keep_line_numbers("f(a,\n  b);\nc;\n", "f(a,\n  x,\n  b);\nc;\n"),
            "f(a,\n  x,\n  b);\n#line 3\nc;\n");
}

// Claim: inside comments, strings and macros nothing is inserted.
TEST(LineDirectives, WaitsForASafePlace) {
  EXPECT_EQ(keep_line_numbers("/* a\n b */\nc;\n", "/* a\n x\n b */\nc;\n"),
            "/* a\n x\n b */\n#line 3\nc;\n");
  EXPECT_EQ(keep_line_numbers("#define A \\\n b\nc;\n", "#define A \\\n x \\\n b\nc;\n"),
            "#define A \\\n x \\\n b\n#line 3\nc;\n");
}

// Claim: a directive in a branch that is not taken does nothing, so the lines behind #endif get
// their own; whichever branch is taken, the numbers are the original's.
TEST(LineDirectives, BranchesNotTaken) {
  std::string original = "#if A\nMARK(a)\n#else\nMARK(b)\n#endif\nMARK(c)\n";
  std::string patched = "#if A\nx;\nMARK(a)\n#else\nMARK(b)\n#endif\nMARK(c)\n";
  std::string kept = keep_line_numbers(original, patched);
  for (const char* option : {"-DA=0", "-DA=1"}) {
    EXPECT_EQ(numbers(kept, {option}), numbers(original, {option})) << kept;
  }
}

// Claim: the same for a conditional without #else, with #elif, and nested ones.
TEST(LineDirectives, NestedBranches) {
  std::string original =
      "#ifdef A\nMARK(a)\n# if B\nMARK(b)\n# elif C\nMARK(c)\n# endif\nMARK(d)\n#endif\nMARK(e)\n"
      "#ifdef A\nMARK(f)\n#endif\nMARK(g)\n";
  std::string patched =
      "#ifdef A\nMARK(a)\n# if B\nx;\ny;\nMARK(b)\n# elif C\nMARK(c)\nz;\n# "
      "endif\nMARK(d)\n#endif\n"
      "MARK(e)\n#ifdef A\nw;\nMARK(f)\n#endif\nMARK(g)\n";
  std::string kept = keep_line_numbers(original, patched);
  for (int i = 0; i < 8; ++i) {
    std::vector<std::string> options;
    if ((i & 1) != 0) {
      options.emplace_back("-DA");
    }
    options.push_back((i & 2) != 0 ? "-DB=1" : "-DB=0");
    options.push_back((i & 4) != 0 ? "-DC=1" : "-DC=0");
    EXPECT_EQ(numbers(kept, options), numbers(original, options)) << kept;
  }
}

// Claim: a generated file's own #line directives are followed, with and without a file name.
TEST(LineDirectives, GeneratedFiles) {
  std::string original = "a;\n#line 100 \"g.y\"\nMARK(a)\nb;\nMARK(b)\n#line 7 \"g.c\"\nMARK(c)\n";
  std::string patched =
      "a;\n#line 100 \"g.y\"\nMARK(a)\nx;\ny;\nb;\nMARK(b)\n#line 7 \"g.c\"\nMARK(c)\n";
  std::string kept = keep_line_numbers(original, patched);
  EXPECT_EQ(numbers(kept), numbers(original)) << kept;
  EXPECT_NE(kept.find("#line 101\nb;"), std::string::npos) << kept;
}

// Claim: a new conditional around old lines keeps their numbers.
TEST(LineDirectives, NewConditional) {
  std::string original = "MARK(a)\nMARK(b)\nMARK(c)\n";
  std::string patched = "MARK(a)\n#ifndef A\nMARK(b)\n#endif\nMARK(c)\n";
  EXPECT_EQ(numbers(keep_line_numbers(original, patched)), numbers(original));
  EXPECT_EQ(numbers(keep_line_numbers(original, patched), {"-DA"}), "a 1;c 3;");
}

// Claim: a file with CRLF line ends compiles and keeps its numbers.
TEST(LineDirectives, CarriageReturns) {
  std::string original = "MARK(a)\r\nMARK(b)\r\n", patched = "MARK(a)\r\nx;\r\nMARK(b)\r\n";
  EXPECT_EQ(numbers(keep_line_numbers(original, patched)), "a 1;b 2;");
}

// Claim: in a header too: __FILE__ stays the header's, and the includer's numbers are not touched.
TEST(LineDirectives, Headers) {
  TempDir dir("qp-test-");
  write_file(dir.path() / "h.h", as_bytes(keep_line_numbers("a;\nFILE_ __FILE__ __LINE__\n",
                                                            "x;\na;\nFILE_ __FILE__ __LINE__\n")));
  write_file(dir.path() / "a.c", as_bytes("#include \"h.h\"\nLINE __LINE__\n"));
  RunOptions options;
  options.directory = dir.path();
  std::string out = run({"gcc", "-E", "-P", "a.c"}, options).out;
  EXPECT_NE(out.find("FILE_ \"h.h\" 2"), std::string::npos) << out;
  EXPECT_NE(out.find("LINE 2"), std::string::npos) << out;
}

}  // namespace
}  // namespace qp::build
