#include "build/compdb.h"

#include <fstream>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/fd.h"

namespace qp::build {
namespace {

using Words = std::vector<std::string>;

Words split(std::string_view command) {
  std::string problem;
  Words out = split_command(command, problem);
  EXPECT_EQ(problem, "");
  return out;
}

std::string problem_of(std::string_view command) {
  std::string problem;
  split_command(command, problem);
  return problem;
}

// Claim: words are taken apart as a POSIX shell would (XCU 2.2).
TEST(SplitCommand, QuotesLikeAShell) {
  EXPECT_EQ(split("cc  -c\ta.c\n"), (Words{"cc", "-c", "a.c"}));
  EXPECT_EQ(split(R"(cc -DX=\"a\ b\" 'it is' "a\\b\"c" "a\b" "")"),
            (Words{"cc", "-DX=\"a b\"", "it is", "a\\b\"c", "a\\b", ""}));
  EXPECT_EQ(split("a'b'\"c\"d"), Words{"abcd"});
  EXPECT_EQ(split("'a\\b$c`'"), Words{"a\\b$c`"});
  EXPECT_EQ(split("a\\\nb"), Words{"ab"});
}

// Claim: nothing is expanded: variables and patterns are text.
TEST(SplitCommand, ExpandsNothing) {
  EXPECT_EQ(split("cc -I$HOME *.c ~"), (Words{"cc", "-I$HOME", "*.c", "~"}));
}

// Claim: what a shell would do and we don't is told, not passed to the compiler.
TEST(SplitCommand, TellsWhatItCantDo) {
  EXPECT_NE(problem_of("cc -c a.c && mv a.o b.o").find("'&'"), std::string::npos);
  EXPECT_NE(problem_of("cc `pwd`/a.c"), "");
  EXPECT_NE(problem_of("cc 'a.c"), "");
  EXPECT_NE(problem_of("cc \"a.c"), "");
  EXPECT_EQ(problem_of("cc '-DX=a&&b' \"-DY=a|b\" -DZ=a\\;b"), "");
}

// Claim: both forms of an entry give the same command; relative names are made absolute.
TEST(Compdb, BothForms) {
  auto entries = parse_compdb(R"([
    {"directory": "/b", "file": "../s/a.c", "command": "gcc -c ../s/a.c -o a.o"},
    {"directory": "/b", "file": "../s/b.c", "arguments": ["gcc", "-c", "../s/b.c", "-DX=\"y\""]}
  ])",
                              "/b/compile_commands.json");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].file, "/s/a.c");
  EXPECT_EQ(entries[0].recorded_file, "../s/a.c");
  EXPECT_EQ(entries[0].arguments, (Words{"gcc", "-c", "../s/a.c", "-o", "a.o"}));
  EXPECT_EQ(entries[1].arguments.back(), "-DX=\"y\"");
}

// Claim: two objects of one source are two units (libtool); an exact repetition is one.
TEST(Compdb, TwoObjectsOfOneSource) {
  auto entries = parse_compdb(R"([
    {"directory": "/b", "file": "a.c", "arguments": ["gcc", "-c", "a.c", "-fPIC", "-DPIC", "-o", ".libs/a.o"]},
    {"directory": "/b", "file": "a.c", "arguments": ["gcc", "-c", "a.c", "-o", "a.o"]},
    {"directory": "/b", "file": "a.c", "arguments": ["gcc", "-c", "a.c", "-o", "a.o"]}
  ])",
                              "/b/compile_commands.json");
  EXPECT_EQ(entries.size(), 2u);
}

// Claim: a launcher in front of the compiler is left out, since it could answer from a cache.
TEST(Compdb, LaunchersAreRemoved) {
  auto entries = parse_compdb(
      R"([{"directory": "/b", "file": "a.c", "command": "/usr/bin/ccache gcc -c a.c"}])",
      "/b/c.json");
  EXPECT_EQ(entries[0].arguments[0], "gcc");
}

// Claim: a relative directory is relative to the database.
TEST(Compdb, RelativeDirectory) {
  auto entries =
      parse_compdb(R"([{"directory": "sub", "file": "a.c", "command": "gcc a.c"}])", "/b/c.json");
  EXPECT_EQ(entries[0].file, "/b/sub/a.c");
}

// Claim: an entry that can't be replayed does not spoil the others; it carries its problem.
TEST(Compdb, ProblemStaysWithItsEntry) {
  auto entries = parse_compdb(R"([
    {"directory": "/b", "file": "a.c", "command": "gcc -c a.c | cat"},
    {"directory": "/b", "file": "b.c", "command": "gcc -c b.c"}])",
                              "/b/c.json");
  EXPECT_NE(entries[0].problem, "");
  EXPECT_EQ(entries[1].problem, "");
}

// Claim: a database that is none is an error with the place of what is wrong.
TEST(Compdb, BadFiles) {
  auto error_of = [](const char* text) -> std::string {
    try {
      parse_compdb(text, "/b/c.json");
    } catch (const Error& e) {
      return e.code() + ": " + e.said();
    }
    return "";
  };
  EXPECT_TRUE(error_of("[{").starts_with("bad-file"));
  EXPECT_TRUE(error_of("{}").starts_with("bad-file"));
  EXPECT_EQ(error_of(R"([{"directory": "/b"}])"), "bad-file: entry 0 has no text 'file'");
  EXPECT_EQ(error_of(R"([{"directory": "/b", "file": "a.c", "arguments": "x"}])"),
            "bad-file: 'arguments' of entry 0 is not a list");
  EXPECT_TRUE(error_of("[]").starts_with("no-compile-database"));
}

// Claim: a missing database is an error that says how to get one.
TEST(Compdb, MissingFile) {
  TempDir dir("qp-test-");
  try {
    read_compdb(dir.path());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "no-compile-database");
    EXPECT_EQ(e.on(), (dir.path() / "compile_commands.json").string());
    EXPECT_NE(e.said().find("bear"), std::string::npos);
  }
}

// Claim: response files are read like GCC does, nested; one that is missing stays a word.
TEST(ResponseFiles, AreExpanded) {
  TempDir dir("qp-test-");
  std::ofstream(dir.path() / "a.rsp") << "-DA='x y'\n@b.rsp -O2";
  std::ofstream(dir.path() / "b.rsp") << "-DB";
  EXPECT_EQ(expand_response_files({"gcc", "@a.rsp", "@missing", "a.c"}, dir.path()),
            (Words{"gcc", "-DA=x y", "-DB", "-O2", "@missing", "a.c"}));
}

// Claim: a response file that names itself ends.
TEST(ResponseFiles, RecursionEnds) {
  TempDir dir("qp-test-");
  std::ofstream(dir.path() / "a.rsp") << "-DA @a.rsp";
  EXPECT_FALSE(expand_response_files({"gcc", "@a.rsp"}, dir.path()).empty());
}

}  // namespace
}  // namespace qp::build
