// What the reader and the writer demand of a patch.

#include "format/check.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "format/file.h"
#include "sample.h"

namespace qp::format {
namespace {

void expect_inconsistent(const std::function<void(Patch&)>& damage, std::string_view message) {
  Patch patch = sample_patch();
  damage(patch);
  try {
    check_patch(patch, "damaged");
    ADD_FAILURE() << "accepted; expected: " << message;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "bad-file");
    EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << e.what();
  }
}

// Claim: the sample itself is consistent.
TEST(Check, Sample) {
  check_patch(sample_patch(), "sample");
}

// Claim: the writer calls an inconsistent patch a bug and writes nothing.
TEST(Check, WriterRefuses) {
  Patch patch = sample_patch();
  patch.meta.target_build_id = "";
  EXPECT_THROW(write_patch(patch), Bug);
}

// Claim: a relocation must fit into its atom with the whole width of its field.
TEST(Check, RelocationWidth) {
  expect_inconsistent([](Patch& p) { p.fresh.atoms[1].refs[0].at = 3; }, "a relocation at 0x3");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[1].refs[0].at = ~uint64_t{0}; },
                      "outside or out of order");
  expect_inconsistent(
      [](Patch& p) { p.fresh.atoms[1].refs[0].type = static_cast<elf::RelocType>(40); },
      "unknown type 40");
}

// Claim: zero-filled storage has no relocations.
TEST(Check, NoRelocationsInBss) {
  expect_inconsistent(
      [](Patch& p) {
        p.fresh.atoms[4].refs = {{0, elf::RelocType::R64, 3, 0}};
      },
      "a relocation at 0x0");
}

// Claim: every index names something.
TEST(Check, Indexes) {
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].refs[0].symbol = 99; }, "symbol 99");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].symbol = 99; }, "no symbol of its own");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].symbol = 1; }, "no symbol of its own");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[1].parent = 99; }, "piece of");
  expect_inconsistent([](Patch& p) { p.fresh.symbols[2].atom = 99; }, "atom 99");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].frames[0].lsda->symbol = 99; }, "symbol 99");
  expect_inconsistent([](Patch& p) { p.replaced[0].old_function = 99; }, "is not a function");
  expect_inconsistent([](Patch& p) { p.replaced[0].new_function = 2; }, "is not a function");
  expect_inconsistent(
      [](Patch& p) {  // a piece of a function is none
        elf::Atom piece = p.old.atoms[p.replaced[0].old_function];
        piece.parent = p.replaced[0].old_function;
        piece.symbol = static_cast<elf::AtomSymbolId>(p.old.symbols.size());
        elf::AtomSymbol symbol = p.old.symbols[p.old.atoms[p.replaced[0].old_function].symbol];
        symbol.name += ".cold";
        symbol.atom = static_cast<elf::AtomId>(p.old.atoms.size());
        p.old.symbols.push_back(symbol);
        p.old_bindings.push_back({});
        p.replaced[0].old_function = static_cast<elf::AtomId>(p.old.atoms.size());
        p.old.atoms.push_back(piece);
      },
      "is not a function");
}

// Claim: a piece can't be its own parent, directly or in a circle.
TEST(Check, ParentsEnd) {
  expect_inconsistent([](Patch& p) { p.fresh.atoms[1].parent = 1; }, "piece of");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].parent = 1; }, "piece of");
}

// Claim: sizes and alignments are possible ones.
TEST(Check, SizesAndAlignments) {
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].alignment = 3; }, "alignment");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].alignment = 0; }, "alignment");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].alignment = 8192; }, "alignment");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[4].size = uint64_t{1} << 40; }, "size");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].frames[0].offset = 1; }, "unwind entry");
  expect_inconsistent([](Patch& p) { p.fresh.symbols[6].offset = 6; }, "outside of its atom");
}

// Claim: what the new code refers to is bound, and what is new is not.
TEST(Check, BindingsAreComplete) {
  expect_inconsistent([](Patch& p) { p.fresh_bindings[3] = {}; }, "'other' has no binding");
  expect_inconsistent([](Patch& p) { p.fresh_bindings[0] = p.fresh_bindings[3]; }, "both new");
  expect_inconsistent([](Patch& p) { p.old_bindings.pop_back(); }, "one binding per symbol");
}

// Claim: a replaced function's entry is in its first range, and the list is in order.
TEST(Check, ReplacedFunctions) {
  expect_inconsistent([](Patch& p) { p.replaced[0].entry = LinkAddr(0x401112); }, "outside of it");
  expect_inconsistent([](Patch& p) { p.replaced[0].ranges.clear(); }, "outside of it");
  expect_inconsistent(
      [](Patch& p) {
        p.replaced[0].ranges[1] = {LinkAddr(2), LinkAddr(1)};
      },
      "impossible range");
  expect_inconsistent([](Patch& p) { p.replaced.push_back(p.replaced[0]); }, "order");
}

// Claim: a hook is a function of the new code, and its name is printable.
TEST(Check, Hooks) {
  expect_inconsistent([](Patch& p) { p.hooks[0].function = 99; }, "is not a function");
  expect_inconsistent([](Patch& p) { p.hooks[0].function = 1; }, "is not a function");
  expect_inconsistent([](Patch& p) { p.hooks[0].function = 2; }, "is not a function");
  expect_inconsistent([](Patch& p) { p.hooks[0].name = "\x1b[2J"; }, "control characters");
}

// Claim: a build-id is an even number of lower-case hexadecimal digits.
TEST(Check, BuildId) {
  for (const char* id : {"", "abc", "0g", "AB", "../x"}) {
    expect_inconsistent([&](Patch& p) { p.meta.target_build_id = id; }, "build-id");
  }
}

// Claim: no text of a patch can drive a terminal.
TEST(Check, NoControlCharacters) {
  expect_inconsistent([](Patch& p) { p.fresh.symbols[0].name = "f\x1b[2J"; }, "control");
  expect_inconsistent([](Patch& p) { p.old.symbols[1].file = "a\nb"; }, "control");
  expect_inconsistent([](Patch& p) { p.meta.description = "a\rb"; }, "control");
  expect_inconsistent(
      [](Patch& p) {
        p.replaced[0].why =
            "\xc2\x9b"
            "2J";
      },
      "control");
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].section = ".text\x7f"; }, "control");
}

// Claim: an atom can't pose as a section of the format.
TEST(Check, ReservedSectionNames) {
  expect_inconsistent([](Patch& p) { p.fresh.atoms[0].section = ".qpatch.meta"; }, "section name");
}

}  // namespace
}  // namespace qp::format
