// The table of relocation types.

#include "elf/types.h"

#include <gtest/gtest.h>

namespace qp::elf {
namespace {

// Claim: a type is at its own number in the table.
TEST(RelocTraits, NumbersMatchNames) {
  EXPECT_EQ(find_traits(RelocType::PC32)->name, "R_X86_64_PC32");
  EXPECT_EQ(find_traits(RelocType::SIZE64)->name, "R_X86_64_SIZE64");
  EXPECT_EQ(find_traits(RelocType::Relative64)->name, "R_X86_64_RELATIVE64");
  EXPECT_EQ(find_traits(RelocType::REX_GOTPCRELX)->name, "R_X86_64_REX_GOTPCRELX");
}

// Claim: a number that the psABI does not have is unknown, not guessed.
TEST(RelocTraits, UnknownTypesAreUnknown) {
  EXPECT_EQ(find_traits(static_cast<RelocType>(39)), nullptr);
  EXPECT_EQ(find_traits(static_cast<RelocType>(43)), nullptr);
  EXPECT_EQ(find_traits(static_cast<RelocType>(0xffffffff)), nullptr);
}

}  // namespace
}  // namespace qp::elf
