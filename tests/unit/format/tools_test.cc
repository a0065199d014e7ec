// Everybody's tools read a patch file.

#include <gtest/gtest.h>

#include "base/fd.h"
#include "base/subprocess.h"
#include "format/file.h"
#include "sample.h"

namespace qp::format {
namespace {

// Output of a tool over the sample; fails the test if it complains.
std::string inspect(std::vector<std::string> command) {
  TempDir dir("qpatch-format-test");
  auto path = dir.path() / "sample.qp";
  write_file(path, write_patch(sample_patch()));
  command.push_back(path.string());
  RunResult result = run(command);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  for (const char* complaint : {"arning", "rror", "corrupt", "<unknown>"}) {
    EXPECT_EQ(result.out.find(complaint), std::string::npos) << result.out;
  }
  return result.out;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// Claim: readelf shows one section per atom and the sections of the design.
TEST(Tools, ReadelfSections) {
  std::string out = inspect({"readelf", "-SW"});
  for (const char* name :
       {".text.f", ".text.unlikely.f", ".rodata.f.str1.1", ".bss.zeros", ".tbss.mine0",
        ".qpatch.symtab.dst", ".qpatch.strtab.dst", ".qpatch.symtab.src", ".qpatch.strtab.src",
        ".qpatch.diffdata", ".qpatch.old", ".qpatch.meta"}) {
    EXPECT_TRUE(has(out, name)) << name << out;
  }
}

// Claim: readelf shows both symbol tables, with addresses in the running program and versions.
TEST(Tools, ReadelfSymbols) {
  std::string out = inspect({"readelf", "-sW"});
  EXPECT_TRUE(has(out, "Symbol table '.qpatch.symtab.dst'")) << out;
  EXPECT_TRUE(has(out, "Symbol table '.qpatch.symtab.src'")) << out;
  EXPECT_TRUE(has(out, "0000000000401200     0 NOTYPE  GLOBAL DEFAULT  ABS other")) << out;
  EXPECT_TRUE(has(out, "memcpy@GLIBC_2.14")) << out;
  EXPECT_TRUE(has(out, "FILE    LOCAL  DEFAULT  ABS unit.c")) << out;
}

// Claim: readelf shows each place that refers to the program, with the program's symbol.
TEST(Tools, ReadelfDiffData) {
  std::string out = inspect({"readelf", "-rW"});
  size_t at = out.find("'.qpatch.diffdata'");
  ASSERT_NE(at, std::string::npos) << out;
  // Section 1, offset 1.
  EXPECT_TRUE(has(out.substr(at), "0000000100000001")) << out;
  EXPECT_TRUE(has(out.substr(at), "R_X86_64_PLT32         0000000000401200 other - 4")) << out;
}

// Claim: readelf has nothing to complain about anywhere.
TEST(Tools, ReadelfEverything) {
  inspect({"readelf", "-aW"});
}

// Claim: objdump disassembles the new functions, with relocations by name.
TEST(Tools, Objdump) {
  std::string out = inspect({"objdump", "-dr"});
  EXPECT_TRUE(has(out, "<f>:")) << out;
  EXPECT_TRUE(has(out, "R_X86_64_PLT32\tother-0x4")) << out;
  EXPECT_TRUE(has(out, "R_X86_64_PC32\tcounter-0x4")) << out;
}

// Claim: objdump and nm read the headers and symbols without a warning.
TEST(Tools, ObjdumpHeadersAndNm) {
  inspect({"objdump", "-x"});
  EXPECT_TRUE(has(inspect({"nm"}), "U other"));
}

}  // namespace
}  // namespace qp::format
