#include "build/source_lines.h"

#include <gtest/gtest.h>

#include "build/line_diff.h"

namespace qp::build {
namespace {

// One character per line: 's' safe, '-' not.
std::string safety(std::string_view text) {
  std::string out;
  for (const SourceLine& line : scan_source(split_lines(text))) {
    out += line.safe_before ? 's' : '-';
  }
  return out;
}

// Claim: statements and declarations begin at safe lines.
TEST(SourceLines, PlainCode) {
  EXPECT_EQ(safety("int f(void)\n{\n  x = 1;\n}\n\nint g;\n"), "ssssss");
}

// Claim: no directive may be put into a block comment.
TEST(SourceLines, BlockComments) {
  EXPECT_EQ(safety("/* a\n b\n c */ int x;\nint y;\n"), "s--s");
  EXPECT_EQ(safety("int x; // a /* b\nint y;\n"), "ss");
  EXPECT_EQ(safety("char* s = \"/*\";\nint y;\n"), "ss");
  EXPECT_EQ(safety("/*/\n*/\nint y;\n"), "s-s");
}

// Claim: a line comment ends with its line, unless a backslash continues it.
TEST(SourceLines, LineComments) {
  EXPECT_EQ(safety("// don't \"\nint y;\n"), "ss");
  EXPECT_EQ(safety("// a \\\nb\nint y;\n"), "s-s");
}

// Claim: not inside of parentheses, since they may be a macro's; braces are no obstacle.
TEST(SourceLines, Parentheses) {
  EXPECT_EQ(safety("f(a,\n  b,\n  c);\ng();\n"), "s--s");
  EXPECT_EQ(safety("if (a) {\n  b;\n}\n"), "sss");
  EXPECT_EQ(safety("x = '(';\ny = \"(\";\nz;\n"), "sss");
}

// Claim: not between a name and the parenthesis on the next line.
TEST(SourceLines, ParenthesisOnItsOwnLine) {
  EXPECT_EQ(safety("MACRO\n(a)\nx;\n"), "s-s");
  EXPECT_EQ(safety("MACRO\n/* c */ (a)\nx;\n"), "s-s");
}

// Claim: not into a directive that is continued, by a backslash or by a comment.
TEST(SourceLines, ContinuedDirectives) {
  EXPECT_EQ(safety("#define A(x) \\\n  f(x \\\n  )\nint y;\n"), "s--s");
  EXPECT_EQ(safety("#define A /* x\n y */ 1\nint z;\n"), "s-s");
  EXPECT_EQ(safety("#define A ( \\  \n 1\nint z;\n"), "s-s");
}

// Claim: parentheses in a directive are no code: a macro may hold one half of a pair.
TEST(SourceLines, ParenthesesInDirectives) {
  EXPECT_EQ(safety("#define BEGIN f(\n#define END )\nint y;\n"), "sss");
}

// Claim: not into a string that is continued, nor into a raw string.
TEST(SourceLines, Strings) {
  EXPECT_EQ(safety("s = \"a\\\nb\";\nx;\n"), "s-s");
  EXPECT_EQ(safety("s = R\"x(a\n)\" \"(\n)x\";\ny;\n"), "s--s");
  EXPECT_EQ(safety("s = u8R\"(\n)\";\ny;\n"), "s-s");
  EXPECT_EQ(safety("s = FOOR\"(\";\ny;\n"), "ss");
}

// Claim: an apostrophe in text that no compiler reads does not run on.
TEST(SourceLines, ApostropheInSkippedText) {
  EXPECT_EQ(safety("#if 0\nit's text\n#endif\nx;\n"), "ssss");
}

// Claim: digit separators are no quotes.
TEST(SourceLines, DigitSeparators) {
  EXPECT_EQ(safety("x = 1'000'000 + f(\n1);\ny;\n"), "s-s");
}

// Claim: each branch of #if counts its parentheses from where the #if began.
TEST(SourceLines, ParenthesesPerBranch) {
  EXPECT_EQ(safety("#if X\nif (a &&\n#else\nif (b &&\n#endif\nc) {\nd;\n"), "ss-s--s");
}

// Claim: a function's end sets a count right that went wrong.
TEST(SourceLines, RecoversAtFunctionEnd) {
  EXPECT_EQ(safety("void f() {\n  OPEN ((;\n}\nint x;\n"), "ssss");
}

// Claim: directives are recognised with spaces, comments and as a digraph in front.
TEST(SourceLines, DirectiveForms) {
  auto lines =
      scan_source(split_lines("  #  ifdef X\n/* c */ #else\n%:endif\n#elifdef Y\n# 12 "
                              "\"f.c\"\n#line 7\n#include \"a.h\" // x\n"
                              "x # if\n\"#if\"\n"));
  std::vector<Directive> kinds;
  for (const SourceLine& line : lines) {
    kinds.push_back(line.directive);
  }
  EXPECT_EQ(kinds, (std::vector<Directive>{Directive::If, Directive::Else, Directive::Endif,
                                           Directive::Elif, Directive::Line, Directive::Line,
                                           Directive::Include, Directive::None, Directive::None}));
  EXPECT_EQ(lines[4].number, 12u);
  EXPECT_EQ(lines[5].number, 7u);
  EXPECT_EQ(lines[6].argument, "\"a.h\"");
}

// Claim: layout, linemarkers and line ends don't count in preprocessed text; tokens do.
TEST(Normalise, LayoutDoesNotCount) {
  EXPECT_EQ(normalise_preprocessed("# 1 \"a.c\"\nint  x;\n\n\nint y;\n"),
            normalise_preprocessed("# 5 \"a.c\" 2\nint x;\n#line 9\nint\ny;"));
  EXPECT_NE(normalise_preprocessed("int xy;"), normalise_preprocessed("int x y;"));
  EXPECT_NE(normalise_preprocessed("f(12);"), normalise_preprocessed("f(13);"));
}

// Claim: white space inside of literals counts.
TEST(Normalise, LiteralsStay) {
  EXPECT_NE(normalise_preprocessed("s = \"a  b\";"), normalise_preprocessed("s = \"a b\";"));
  EXPECT_NE(normalise_preprocessed("s = R\"(a\n\nb)\";"),
            normalise_preprocessed("s = R\"(a\nb)\";"));
  EXPECT_NE(normalise_preprocessed("c = ' ';"), normalise_preprocessed("c = '  ';"));
  EXPECT_NE(normalise_preprocessed("s = \"\\\"  x\";"), normalise_preprocessed("s = \"\\\" x\";"));
}

// Claim: pragmas count: they can change the code.
TEST(Normalise, PragmasStay) {
  EXPECT_NE(normalise_preprocessed("#pragma pack(1)\nint x;"), normalise_preprocessed("int x;"));
}

}  // namespace
}  // namespace qp::build
