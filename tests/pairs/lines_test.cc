// Source lines of first differences, from the debug information of objects with function sections.

#include "objdiff/lines.h"

#include <gtest/gtest.h>

#include "compiled.h"
#include "elf/file.h"
#include "objdiff/split.h"

namespace qp::pairs {
namespace {

// The lines of the only changed unit: "12 → 13".
std::string lines_of_change(const Compiler& compiler, const std::string& original,
                            const std::string& patched) {
  elf::File a = elf::File::parse(compile(compiler, original), "original.o");
  elf::File b = elf::File::parse(compile(compiler, patched), "patched.o");
  Report report;
  objdiff::Diff diff = objdiff::diff(objdiff::split(a, report), objdiff::split(b, report), report);
  objdiff::add_lines(diff, a, b);
  std::string out;
  for (const objdiff::Unit& u : diff.units) {
    if (u.fate == objdiff::Fate::Changed) {
      const objdiff::Difference& d = *u.first_difference;
      out += d.original_line.substr(d.original_line.rfind('/') + 1) + " → " +
             d.patched_line.substr(d.patched_line.rfind('/') + 1) + "\n";
    }
  }
  return out;
}

const char* const kOriginal =
    "int before(int x) {\n  return x * 3;\n}\n\n"
    "int g(int);\nint f(int x) {\n  x += 5;\n  g(x);\n  return g(77);\n}\n";
std::string changed() {
  std::string text = kOriginal;
  text.replace(text.find("77"), 2, "78");
  return "\n" + text;
}

// Claim: the line of the first differing instruction is told for both sides, whatever section the
// function has, for all DWARF versions and compressed sections.
TEST(Lines, OfTheFirstDifference) {
  for (const Compiler& c :
       {Compiler{"gcc-12", {"-g", "-O1"}}, Compiler{"gcc-12", {"-gdwarf-4", "-gz", "-O0", "-fPIC"}},
        Compiler{"clang-14", {"-g", "-O1"}}}) {
    EXPECT_EQ(lines_of_change(c, kOriginal, changed()), "unit.c:9 → unit.c:10\n") << c.text();
  }
}

// Claim: without debug information there are no lines, and that is no failure.
TEST(Lines, Unknown) {
  EXPECT_EQ(lines_of_change({"gcc-12", {"-O1"}}, kOriginal, changed()), " → \n");
}

}  // namespace
}  // namespace qp::pairs
