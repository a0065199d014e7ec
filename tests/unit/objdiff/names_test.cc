// What compilers append to names, and what they make up.

#include "objdiff/names.h"

#include <gtest/gtest.h>

#include "objdiff/pieces.h"

namespace qp::objdiff {
namespace {

// Claim: numbers go, words stay.
TEST(Names, Stem) {
  EXPECT_EQ(stem("aaa"), "aaa");
  EXPECT_EQ(stem("aaa.1593"), "aaa");
  EXPECT_EQ(stem("f.constprop.0"), "f.constprop");
  EXPECT_EQ(stem("f.constprop.0.isra.3"), "f.constprop.isra");
  EXPECT_EQ(stem("f.cold"), "f.cold");
  EXPECT_EQ(stem("f.aaa.2"), "f.aaa");
  EXPECT_EQ(stem(".compoundliteral.4"), ".compoundliteral");
  EXPECT_EQ(stem("v1.2x"), "v1.2x");
}

// Claim: the compiler's own data is recognised, a programmer's is not.
TEST(Names, Generated) {
  for (const char* name : {"CSWTCH.13", "C.0.1", "__func__.2", "__PRETTY_FUNCTION__.0",
                           "switch.table.f", "reltable.f", "__const.f.t"}) {
    EXPECT_TRUE(is_generated_name(name)) << name;
  }
  for (const char* name : {"CSWTCH", "C", "table", "table.3", "Cat.1", "f.table", "C.x"}) {
    EXPECT_FALSE(is_generated_name(name)) << name;
  }
}

// Claim: a cold piece names its parent.
TEST(Names, Parent) {
  EXPECT_EQ(parent_name("f.cold"), "f");
  EXPECT_EQ(parent_name("f.cold.7"), "f");
  EXPECT_EQ(parent_name("f.constprop.0.cold"), "f.constprop.0");
  EXPECT_EQ(parent_name("f.colder"), "");
  EXPECT_EQ(parent_name("f.part.0"), "");
  EXPECT_EQ(parent_name(".cold"), "");
}

}  // namespace
}  // namespace qp::objdiff
