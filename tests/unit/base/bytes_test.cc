#include "base/bytes.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace qp {
namespace {

// Claim: a slice that ends behind the bytes is an error, also when offset + size wraps around.
TEST(Bytes, SliceNeverLeavesItsBytes) {
  Bytes b(8);
  EXPECT_EQ(slice(b, 4, 4).size(), 4u);
  EXPECT_EQ(slice(b, 8, 0).size(), 0u);
  EXPECT_THROW(slice(b, 5, 4), Error);
  EXPECT_THROW(slice(b, 9, 0), Error);
  EXPECT_THROW(slice(b, 4, UINT64_MAX - 2), Error);
}

// Claim: load and store are each other's inverse, little-endian, and bounded.
TEST(Bytes, LoadIsTheInverseOfStore) {
  Bytes b(6);
  store<uint32_t>(b, 1, 0x11223344);
  EXPECT_EQ(b[1], std::byte{0x44});
  EXPECT_EQ(load<uint32_t>(b, 1), 0x11223344u);
  EXPECT_THROW(store<uint32_t>(b, 3, 0), Error);
  EXPECT_THROW(load<uint64_t>(b, 0), Error);
}

// Claim: LEB128 numbers are read as DWARF defines them (examples of DWARF 5, figures 22 and 23).
TEST(Bytes, Leb128) {
  Bytes b{std::byte{0x82}, std::byte{0x01}, std::byte{0x80}, std::byte{0x7f}};
  ByteCursor cursor(b, "test");
  EXPECT_EQ(cursor.read_uleb128(), 130u);
  EXPECT_EQ(cursor.read_sleb128(), -128);
  EXPECT_TRUE(cursor.done());
}

// Claim: a LEB128 number that does not fit 64 bits is an error, not a wrapped value.
TEST(Bytes, Leb128TooLarge) {
  Bytes b(11, std::byte{0xff});
  EXPECT_THROW(ByteCursor(b, "test").read_uleb128(), Error);
  EXPECT_THROW(ByteCursor(b, "test").read_sleb128(), Error);
}

// Claim: a string without its NUL is an error, never read past the end.
TEST(Bytes, CstringNeedsItsEnd) {
  ByteCursor cursor(as_bytes(std::string_view("ab\0cd", 5)), "test");
  EXPECT_EQ(cursor.read_cstring(), "ab");
  EXPECT_THROW(cursor.read_cstring(), Error);
}

// Claim: the content hash is BLAKE2b-256 (RFC 7693's function with 32 bytes), as other tools
// compute.
TEST(Bytes, ContentHashIsBlake2b) {
  EXPECT_EQ(content_hash(as_bytes("")),
            "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
}

}  // namespace
}  // namespace qp
