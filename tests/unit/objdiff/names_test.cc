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
  EXPECT_EQ(stem("last.0.lto_priv.1"), "last");
  EXPECT_EQ(stem("f.lto_priv.0.cold"), "f.cold");
  EXPECT_EQ(stem("f.cold"), "f.cold");
  EXPECT_EQ(stem("f.aaa.2"), "f.aaa");
  EXPECT_EQ(stem(".compoundliteral.4"), ".compoundliteral");
  EXPECT_EQ(stem("v1.2x"), "v1.2x");
}

// Claim: C++ counts inside names, and these numbers go as well; what only looks like one stays.
TEST(Names, StemOfCountedNames) {
  EXPECT_EQ(stem("_ZZ1fiE4seen"), "_ZZ1fiE4seen");
  EXPECT_EQ(stem("_ZZ1fiE4seen_0"), "_ZZ1fiE4seen");
  EXPECT_EQ(stem("_ZZ1fiE4seen__12_"), "_ZZ1fiE4seen");
  EXPECT_EQ(stem("_ZGVZ1fiE4seen_3"), "_ZGVZ1fiE4seen");
  EXPECT_EQ(stem("_ZZ1fiE6seen_0"), "_ZZ1fiE6seen_0");  // its name is seen_0
  EXPECT_EQ(stem("_ZZ1fiE6seen_0_1"), "_ZZ1fiE6seen_0");
  EXPECT_EQ(stem("_ZZ1fiENUliE0_4_FUNEi"), stem("_ZZ1fiENUliE_4_FUNEi"));
  EXPECT_EQ(stem("_ZZ1fiEN3$_08__invokeEi"), stem("_ZZ1fiEN3$_18__invokeEi"));
  EXPECT_NE(stem("_ZZ1fiEN3$_08__invokeEi"), stem("_ZZ1hiEN3$_08__invokeEi"));
  EXPECT_EQ(stem("_ZZ1fiENKUliE2_clEi.constprop.0"), "_ZZ1fiENKUliE_clEi.constprop");
  EXPECT_EQ(stem("_ZZ1fiEN99999999999999999999999$_0E"), "_ZZ1fiEN$_");  // no mangled name at all
  EXPECT_EQ(stem("_Z3fooE5_3"), "_Z3fooE5_3");
  for (const char* name : {"_ZZ1fiE4seen", "_ZGVZ1fiE4seen", "_ZNK3$_1clEv", "f.part.0", "a.1"}) {
    EXPECT_TRUE(is_counted(name)) << name;
  }
  for (const char* name : {"f", "_Z1fi", "_ZN1A1bE", "_ZL4seen", "_ZTV5Shape"}) {
    EXPECT_FALSE(is_counted(name)) << name;
  }
}

// Claim: the compiler's own data is recognised, a programmer's is not.
TEST(Names, Generated) {
  for (const char* name : {"CSWTCH.13", "C.0.1", "__func__.2", "__PRETTY_FUNCTION__.0",
                           "switch.table.f", "reltable.f", "__const.f.t", "GCC_except_table12"}) {
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
