#include "build/command.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "base/error.h"

namespace qp::build {
namespace {

using Words = std::vector<std::string>;

CompileCommand command(Words arguments, const std::string& file = "/s/a.c") {
  return {"/b", file, file, std::move(arguments), ""};
}
Words kept(Words arguments) {
  return make_replay(command(std::move(arguments))).arguments;
}

bool has(const Words& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Claim: outputs, dependency files and other side effects go, in all their spellings.
TEST(Replay, SideEffectsGo) {
  EXPECT_EQ(kept({"gcc", "-MD", "-MMD", "-MP", "-MF", "x.d", "-MT", "x.o", "-MQ", "y", "-MFz.d",
                  "-MTz", "-c", "-o", "x.o", "/s/a.c"}),
            (Words{"gcc", "/s/a.c"}));
  EXPECT_EQ(kept({"gcc", "-ox.o", "-save-temps=obj", "-fdump-tree-all", "-fstack-usage",
                  "-fcallgraph-info=su", "-Wa,-alh=x.lst", "-gsplit-dwarf", "/s/a.c"}),
            (Words{"gcc", "/s/a.c"}));
  EXPECT_EQ(kept({"clang", "-MJ", "x.json", "--serialize-diagnostics", "x.dia", "/s/a.c"}),
            (Words{"clang", "/s/a.c"}));
}

// Claim: the dependency options of Linux's Makefiles (-Wp,-MMD,FILE) go, the rest of the list
// stays.
TEST(Replay, DependenciesInPreprocessorLists) {
  EXPECT_EQ(kept({"gcc", "-Wp,-MMD,./.a.o.d", "-Wp,-D_FORTIFY_SOURCE=2,-MD,x.d,-DX", "/s/a.c"}),
            (Words{"gcc", "-Wp,-D_FORTIFY_SOURCE=2,-DX", "/s/a.c"}));
}

// Claim: whatever can influence the code stays, in its order, also options that nobody knows.
TEST(Replay, EverythingElseStays) {
  Words words = {"gcc",
                 "-O3",
                 "-fno-strict-aliasing",
                 "-march=x86-64-v3",
                 "-DX=1",
                 "-D",
                 "Y=2",
                 "-Iinc",
                 "-include",
                 "config.h",
                 "-std=gnu11",
                 "-fcoverage-x",
                 "--param",
                 "max-inline=3",
                 "-pthread",
                 "-fPIE",
                 "-Wa,--noexecstack",
                 "-x",
                 "c",
                 "/s/a.c"};
  EXPECT_EQ(kept(words), words);
}

// Claim: a warning of the patched file is no reason not to compile it.
TEST(Replay, WarningsAreNoErrors) {
  EXPECT_EQ(kept({"gcc", "-Werror", "-Werror=unused", "-pedantic-errors", "-Wall", "/s/a.c"}),
            (Words{"gcc", "-Wall", "/s/a.c"}));
}

// Claim: the value of an option is not taken for an option or a source.
TEST(Replay, ValuesAreNotOptions) {
  EXPECT_EQ(kept({"gcc", "-D", "-c", "-I", "-o", "/s/a.c"}),
            (Words{"gcc", "-D", "-c", "-I", "-o", "/s/a.c"}));
}

// Claim: of a command for several sources only the entry's own is compiled.
TEST(Replay, OneSourceOfSeveral) {
  EXPECT_EQ(kept({"gcc", "-c", "/s/a.c", "/s/b.c"}), (Words{"gcc", "/s/a.c"}));
}

// Claim: the source is found by what it names, not by how it is written.
TEST(Replay, RelativeSource) {
  EXPECT_EQ(kept({"gcc", "-c", "../s/./a.c"}), (Words{"gcc", "../s/./a.c"}));
}

// Claim: a command that does not name its source can't be replayed, and says so.
TEST(Replay, SourceMustBeNamed) {
  try {
    kept({"gcc", "-c", "/s/other.c"});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "command-unsupported");
    EXPECT_EQ(e.on(), "/s/a.c");
  }
}

// Claim: include directories are found in all spellings, absolute, in order.
TEST(Replay, IncludeDirectories) {
  Replay replay = make_replay(command({"gcc", "-I", "inc", "-I../x", "-isystem", "/sys", "-iquote",
                                       "q", "-include", "c.h", "/s/a.c"}));
  EXPECT_EQ(replay.include_directories,
            (std::vector<std::filesystem::path>{"/b/inc", "/x", "/sys", "/b/q"}));
  EXPECT_EQ(replay.forced_includes, Words{"c.h"});
}

// Claim: -flto is noticed; a later -fno-lto takes it back.
TEST(Replay, Lto) {
  EXPECT_TRUE(make_replay(command({"gcc", "-flto=auto", "/s/a.c"})).lto);
  EXPECT_FALSE(make_replay(command({"gcc", "-flto", "-fno-lto", "/s/a.c"})).lto);
}

// Claim: debug information is asked for only where types are missing; the last option decides.
TEST(ObjectCommand, DebugInformation) {
  auto adds_g = [](Words words) {
    Words out = object_command(make_replay(command(std::move(words))), {}, "/t/o.o");
    return out.size() > 4 && out[out.size() - 4] == "-g";
  };
  EXPECT_TRUE(adds_g({"gcc", "/s/a.c"}));
  EXPECT_TRUE(adds_g({"gcc", "-g", "-g0", "/s/a.c"}));
  EXPECT_TRUE(adds_g({"gcc", "-g1", "/s/a.c"}));
  EXPECT_FALSE(adds_g({"gcc", "-ggdb3", "/s/a.c"}));
  EXPECT_FALSE(adds_g({"gcc", "-g0", "-g", "/s/a.c"}));
}

// Claim: sections are per function and per variable, .L symbols stay, and the object goes where we
// say; these come last, so that they win.
TEST(ObjectCommand, WhatIsAdded) {
  Words words = object_command(
      make_replay(command({"gcc", "-g", "-fno-function-sections", "-c", "-o", "a.o", "/s/a.c"})),
      {}, "/t/o.o");
  EXPECT_EQ(words, (Words{"gcc", "-g", "-fno-function-sections", "/s/a.c", "-ffunction-sections",
                          "-fdata-sections", "-Wa,-L", "-gno-split-dwarf", "-c", "-o", "/t/o.o"}));
}

// Claim: the layout of a C++ class is told in every unit that uses it, in the compiler's own words.
TEST(ObjectCommand, ClassesAreToldEverywhere) {
  auto words = [](const char* compiler) {
    CompileCommand cxx = command({compiler, "-g", "/s/a.cc"});
    cxx.file = cxx.recorded_file = "/s/a.cc";
    return object_command(make_replay(cxx), {}, "/t/o.o");
  };
  EXPECT_TRUE(has(words("g++"), "-femit-class-debug-always"));
  EXPECT_TRUE(has(words("/usr/bin/clang++-14"), "-fstandalone-debug"));
  EXPECT_FALSE(has(words("/usr/bin/clang++-14"), "-femit-class-debug-always"));
}

// Claim: with a copied tree, paths of the source root lead into the copy, macros stay as they are.
TEST(Redirect, PathsButNotMacros) {
  View view;
  view.root = "/s";
  view.copy = "/t/copy";
  EXPECT_EQ(redirect({"/s/bin/gcc", "-I/s/inc", "-I", "/s", "-I/src", "-DP=\"/s/x\"", "-D", "Q=/s",
                      "-fdebug-prefix-map=/s=.", "/s/a.c"},
                     view),
            (Words{"/s/bin/gcc", "-I/t/copy/inc", "-I", "/t/copy", "-I/src", "-DP=\"/s/x\"", "-D",
                   "Q=/s", "-fdebug-prefix-map=/t/copy=.", "/t/copy/a.c"}));
  Replay replay = make_replay(command({"gcc", "/s/a.c"}));
  EXPECT_TRUE(has(object_command(replay, view, "/t/o.o"), "-ffile-prefix-map=/t/copy=/s"));
}

}  // namespace
}  // namespace qp::build
