// The compact encoding.

#include "format/encoding.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "base/error.h"

namespace qp::format {
namespace {

// Claim: numbers of every length come back, signed ones with their sign.
TEST(Encoding, Numbers) {
  for (uint64_t v : {uint64_t{0}, uint64_t{127}, uint64_t{128}, uint64_t{1} << 35, UINT64_MAX}) {
    Encoder out;
    out.number(v);
    Bytes bytes = out.finish();
    Decoder in(bytes, "f", "s");
    EXPECT_EQ(in.number(), v);
    in.finish();
  }
  for (int64_t v : {int64_t{0}, int64_t{-1}, int64_t{63}, int64_t{64}, int64_t{-64}, int64_t{-65},
                    INT64_MIN, INT64_MAX}) {
    Encoder out;
    out.signed_number(v);
    Bytes bytes = out.finish();
    Decoder in(bytes, "f", "s");
    EXPECT_EQ(in.signed_number(), v);
    in.finish();
  }
}

// Claim: bytes that are left over are an error.
TEST(Encoding, LeftOver) {
  Encoder out;
  out.number(1);
  out.number(2);
  Bytes bytes = out.finish();
  Decoder in(bytes, "f", "s");
  in.number();
  EXPECT_THROW(in.finish(), Error);
}

// Claim: a count that the rest of the section can't hold is refused before anything is allocated.
TEST(Encoding, ImpossibleCount) {
  Encoder out;
  out.number(uint64_t{1} << 60);
  Bytes bytes = out.finish();
  Decoder in(bytes, "f", "s");
  EXPECT_THROW(in.count(), Error);
}

// Claim: a long string that is named many times is refused before it fills the memory.
TEST(Encoding, LongStringManyTimes) {
  Encoder out;
  for (int i = 0; i < 2000; ++i) {
    out.text(std::string(1 << 20, 'x'));
  }
  Bytes bytes = out.finish();
  Decoder in(bytes, "f", "s");
  EXPECT_THROW(
      for (int i = 0; i < 2000; ++i) { in.text(); }, Error);
}

}  // namespace
}  // namespace qp::format
