// DWARF that nobody means well: it is read as far as the file's size explains, and in that file only.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include "base/error.h"
#include "compiled.h"
#include "elf/types_dwarf.h"

namespace qp::elf {
namespace {

const std::vector<std::string> kCompile = {"gcc", "-g", "-c", "-o", "{out}", "{in}"};

// Each struct holds eight members of the nameless type in the one before.
std::string nested_types(int levels) {
  std::string source = "struct s0 { struct { int x; } m; } v0;\n";
  for (int i = 1; i <= levels; ++i) {
    source += fmt::format("struct s{} {{ struct {{ __typeof__(v{}.m) ", i, i - 1);
    for (int k = 0; k < 8; ++k) {
      source += fmt::format("{}a{}", k == 0 ? "" : ", ", k);
    }
    source += fmt::format("; }} m; }} v{};\n", i);
  }
  return source;
}

// Claim: types whose text grows eightfold at each level are an error, not all memory.
TEST(Dwarf, TextOfTypesIsBounded) {
  EXPECT_TRUE(read_types(parse_compiled(nested_types(2), kCompile)).types.contains("s2"));
  const File file = parse_compiled(nested_types(10), kCompile);
  try {
    read_types(file);
    FAIL() << "8^10 members were written out";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "bad-file");
  }
}

// Claim: a unit whose DWARF is in another file has no types here, instead of none that differ.
TEST(Dwarf, SkeletonUnitsHaveNoTypes) {
  const std::string source = "struct s { int a; } v;\n";
  EXPECT_TRUE(read_types(parse_compiled(source, kCompile)).available);
  for (const char* version : {"-gdwarf-4", "-gdwarf-5"}) {
    const File file = parse_compiled(
        source, {"gcc", "-g", version, "-gsplit-dwarf", "-c", "-o", "{out}", "{in}"});
    EXPECT_FALSE(read_types(file).available) << version;
  }
}

// Claim: a file that shares its DWARF with others (dwz) is read as one without, so that no other file
// is opened.
TEST(Dwarf, AlternateFilesAreNotOpened) {
  const Bytes object = compile("struct s { int a; } v;\n", kCompile);
  TempDir dir("qpatch-elf-test");
  const auto in = dir.path() / "in.o", out = dir.path() / "out.o", link = dir.path() / "link";
  qp::write_file(in, object);
  qp::write_file(link, as_bytes(std::string_view("/dev/zero\0abcdefghijklmnopqrst", 30)));
  ASSERT_EQ(run({"objcopy", "--add-section", ".gnu_debugaltlink=" + link.string(), in.string(),
                 out.string()})
                .exit_code,
            0);
  EXPECT_FALSE(read_types(File::open(out)).available);
}

}  // namespace
}  // namespace qp::elf
