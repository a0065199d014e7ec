// Large objects: of many functions exactly the one that changed is found. How long that takes is
// bench/objdiff_bench.cc's to say; a quadratic step would run into the timeout of the test.

#include <gtest/gtest.h>

#include "compiled.h"
#include "elf/file.h"
#include "insn/instruction.h"
#include "large_unit.h"
#include "objdiff/split.h"

namespace qp::pairs {
namespace {

// Another immediate in the first instruction that has one.
void change(elf::Atom& function) {
  for (uint64_t at = 0; at < function.bytes.size();) {
    auto i = insn::decode(function.bytes, at);
    ASSERT_TRUE(i);
    if (i->immediate.size == 4) {
      function.bytes[at + i->immediate.offset] ^= std::byte{0x40};
      return;
    }
    at += i->length;
  }
  FAIL() << "no immediate";
}

// Claim: in an object with 20,000 functions exactly the one that changed is found.
TEST(Scale, OneOfTwentyThousand) {
  // Each graph is split from an object of its own, as in a build.
  Bytes object = compile({"gcc-12", {"-x", "assembler"}}, large_unit(20000));
  Report report;
  elf::AtomGraph original = objdiff::split(elf::File::parse(Bytes(object), "original.o"), report);
  elf::AtomGraph patched = objdiff::split(elf::File::parse(std::move(object), "patched.o"), report);
  for (elf::AtomId id = 0; id < patched.atoms.size(); ++id) {
    if (patched.name_of(id) == "f7") {
      change(patched.atoms[id]);
    }
  }
  objdiff::Diff diff = objdiff::diff(std::move(original), std::move(patched), report);
  EXPECT_TRUE(report.clean());
  int changed = 0;
  for (const objdiff::Unit& u : diff.units) {
    changed += u.fate != objdiff::Fate::Same ? 1 : 0;
    EXPECT_EQ(u.fate == objdiff::Fate::Changed, u.name == "f7");
  }
  EXPECT_EQ(changed, 1);
}

}  // namespace
}  // namespace qp::pairs
