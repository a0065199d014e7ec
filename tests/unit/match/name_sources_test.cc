// Names that a stripped target has elsewhere.
#include "match/name_sources.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "programs.h"

namespace qp::match {
namespace {

namespace fs = std::filesystem;

// A program that was linked, and whose symbols were then put elsewhere.
class Named {
 public:
  Named() : dir_("qpatch-names-test") {
    write_file(
        dir_.path() / "a.c",
        as_bytes("static int state = 5; __attribute__((noinline)) static int hidden(int x) { "
                 "return x * 31 + state++; } int main(int c, char** v) { return hidden(c) + "
                 "hidden(2); }"));
    tool({"gcc", "-g", "-O2", "-o", "target", "a.c", "-Wl,--build-id"});
    tool({"cp", "target", "whole"});
  }
  void tool(const Words& command) {
    RunOptions options;
    options.directory = dir_.path();
    const RunResult result = run(command, options);
    ASSERT_EQ(result.exit_code, 0) << command[0] << ": " << result.err;
  }
  fs::path path(const std::string& name) const { return dir_.path() / name; }
  SymbolMap map(const fs::path& explicit_debug = {}) {
    const elf::File file = elf::File::open(path("target"));
    return SymbolMap::from_file(file, find_names(file, path("target"), explicit_debug, warnings));
  }
  std::vector<std::string> warnings;

 private:
  TempDir dir_;
};

std::string code_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.code();
  }
  return "no error";
}

// Claim: a debug file beside the program is found by its debug link and gives all names.
TEST(NameSources, DebugLink) {
  for (const std::string where : {".", ".debug"}) {
    Named program;
    program.tool({"mkdir", "-p", where});
    program.tool({"objcopy", "--only-keep-debug", "target", where + "/target.debug"});
    program.tool(
        {"objcopy", "--strip-all", "--add-gnu-debuglink=" + where + "/target.debug", "target"});
    const SymbolMap map = program.map();
    EXPECT_TRUE(map.has_symtab()) << where;
    ASSERT_EQ(map.named("hidden").size(), 1u);
    EXPECT_EQ(map.named("hidden")[0]->source, Source::DebugFile);
    EXPECT_EQ(map.named("hidden")[0]->file, "a.c");
    EXPECT_TRUE(program.warnings.empty());
  }
}

// Claim: a file of that name that belongs to another build is not used, and that is said.
TEST(NameSources, DebugLinkToAnotherBuild) {
  Named program;
  program.tool({"objcopy", "--only-keep-debug", "target", "target.debug"});
  program.tool({"objcopy", "--strip-all", "--add-gnu-debuglink=target.debug", "target"});
  program.tool({"gcc", "-g", "-O1", "-o", "target.debug", "a.c", "-Wl,--build-id"});
  EXPECT_FALSE(program.map().has_symtab());
  ASSERT_EQ(program.warnings.size(), 1u);
  EXPECT_NE(program.warnings[0].find("build-id"), std::string::npos) << program.warnings[0];
}

// Claim: the debug file that the user names is used, and one of another build is an error.
TEST(NameSources, Explicit) {
  Named program;
  program.tool({"objcopy", "--only-keep-debug", "target", "kept"});
  program.tool({"strip", "target"});
  program.tool({"gcc", "-g", "-O1", "-o", "other", "a.c", "-Wl,--build-id"});
  EXPECT_FALSE(program.map().has_symtab());
  EXPECT_TRUE(program.map(program.path("kept")).has_symtab());
  EXPECT_EQ(code_of([&] { program.map(program.path("other")); }), "debug-mismatch");
  EXPECT_EQ(code_of([&] { program.map(program.path("target")); }),
            "debug-mismatch");  // it has no .symtab either
}

// Claim: .gnu_debugdata names functions; it is no complete table, so the code is searched for what
// it does not name.
TEST(NameSources, MiniDebugData) {
  Named program;
  program.tool({"objcopy", "-S", "--keep-symbol=hidden", "target", "mini"});
  program.tool({"strip", "target"});
  program.tool({"xz", "-k", "mini"});
  program.tool({"objcopy", "--add-section", ".gnu_debugdata=mini.xz", "target"});
  const SymbolMap map = program.map();
  EXPECT_FALSE(map.has_symtab());
  ASSERT_EQ(map.named("hidden").size(), 1u);
  EXPECT_EQ(map.named("hidden")[0]->source, Source::MiniDebug);
  EXPECT_TRUE(map.named("state").empty());
}

// Claim: damaged .gnu_debugdata is an error with a name, whatever byte of it is wrong.
TEST(NameSources, DamagedMiniDebugData) {
  Named program;
  program.tool({"objcopy", "-S", "--keep-symbol=hidden", "target", "mini"});
  program.tool({"strip", "target"});
  program.tool({"xz", "-k", "mini"});
  Bytes packed = read_file(program.path("mini.xz"));
  for (size_t at = 0; at < packed.size(); at += packed.size() / 7) {
    Bytes damaged = packed;
    damaged[at] ^= std::byte{0x40};
    write_file(program.path("bad.xz"), damaged);
    program.tool({"objcopy", "--remove-section", ".gnu_debugdata", "target"});
    program.tool({"objcopy", "--add-section", ".gnu_debugdata=bad.xz", "target"});
    EXPECT_EQ(code_of([&] { program.map(); }), "bad-file") << at;
  }
  packed.resize(packed.size() / 2);
  write_file(program.path("bad.xz"), packed);
  program.tool({"objcopy", "--update-section", ".gnu_debugdata=bad.xz", "target"});
  EXPECT_EQ(code_of([&] { program.map(); }), "bad-file");
}

}  // namespace
}  // namespace qp::match
