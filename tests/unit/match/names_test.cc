#include "match/names.h"

#include <gtest/gtest.h>

namespace qp::match {
namespace {

// Claim: numbers that a compiler put behind a name go, the words that say what it is stay.
TEST(Names, PlainNameDropsNumbersOnly) {
  EXPECT_EQ(plain_name("aaa.1593"), "aaa");
  EXPECT_EQ(plain_name("foo.constprop.0"), "foo.constprop");
  EXPECT_EQ(plain_name("foo.isra.0.cold"), "foo.isra.cold");
  EXPECT_EQ(plain_name("foo.cold.12"), "foo.cold");
  EXPECT_EQ(plain_name("foo"), "foo");
  EXPECT_EQ(plain_name("foo2"), "foo2");
  EXPECT_EQ(plain_name(".hidden.1"), ".hidden");
  EXPECT_EQ(plain_name(""), "");
}

// Claim: suffixes of link-time optimisation go completely.
TEST(Names, PlainNameDropsLinkTimeSuffixes) {
  EXPECT_EQ(plain_name("foo.lto_priv.0"), "foo");
  EXPECT_EQ(plain_name("foo.llvm.123456"), "foo");
  EXPECT_EQ(plain_name("foo.lto_priv.0.constprop.1"), "foo.constprop");
}

// Claim: a specialised clone is not the function itself.
TEST(Names, ClonesAreNotTheFunction) {
  EXPECT_NE(plain_name("foo.isra.0"), plain_name("foo"));
  EXPECT_NE(plain_name("foo.cold"), plain_name("foo"));
}

// Claim: FILE symbols are compared without directories.
TEST(Names, BaseName) {
  EXPECT_EQ(base_name("src/a.c"), "a.c");
  EXPECT_EQ(base_name("a.c"), "a.c");
}

}  // namespace
}  // namespace qp::match
