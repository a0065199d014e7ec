// The image as a file and as memory.

#include "link/image.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "patch_builder.h"

namespace qp::link {
namespace {

using testing::ElementsAre;

constexpr uint64_t kBase = 0x40000000;

// One of everything.
PatchBuilder everything() {
  PatchBuilder b;
  auto f = b.function("f", bytes_of({0xe8, 0, 0, 0, 0, 0xc3}));
  b.ref(f, 1, elf::RelocType::PLT32, b.import("puts"), -4);
  b.data("text", bytes_of({'h', 'i', 0}), elf::Storage::ReadOnly, 1);
  b.data("wide", Bytes(64), elf::Storage::ReadOnly, 32);
  auto pointer = b.data("pointer", Bytes(8), elf::Storage::RelRo);
  b.ref(pointer, 0, elf::RelocType::R64, f);
  b.data("counter", bytes_of({7, 0, 0, 0}), elf::Storage::Data, 4);
  b.atom("zeros", elf::AtomKind::Variable, elf::Storage::Bss, {}, 64, 5000);
  b.replaces("f", f, 0x1234);
  return b;
}

// Claim: no segment is writable and executable; code, constants and data are each where they
// belong.
TEST(Image, NothingIsWritableAndExecutable) {
  Linked linked(everything().patch, kBase);
  ASSERT_EQ(linked.image.segments.size(), 3U);
  EXPECT_EQ(linked.image.segments[0].flags, elf::kSegR);
  EXPECT_EQ(linked.image.segments[1].flags, elf::kSegR | elf::kSegX);
  EXPECT_EQ(linked.image.segments[2].flags, elf::kSegR | elf::kSegW);
  for (const elf::Segment& s : linked.file->segments()) {
    EXPECT_NE(s.flags & (elf::kSegW | elf::kSegX), elf::kSegW | elf::kSegX);
  }
}

// Claim: the segments cover the range without gap, page by page, and the file holds all of them at
// offsets that equal the distance from the base.
TEST(Image, SegmentsAreWholePagesOfTheFile) {
  Linked linked(everything().patch, kBase);
  LinkAddr at(kBase);
  for (const ImageSegment& s : linked.image.segments) {
    EXPECT_EQ(s.address, at);
    EXPECT_EQ(s.memory_size % kPageSize, 0U);
    EXPECT_EQ(s.offset.value, s.address.value - kBase);
    EXPECT_LE(s.offset.value + s.memory_size, linked.image.file.size());
    at += s.memory_size;
  }
  EXPECT_EQ(linked.image.range, (LinkRange{LinkAddr(kBase), at}));
}

// Claim: large zero-initialised variables cost no file: they are a segment without content, between two
// that the file has, and everything behind it has its content in the file.
TEST(Image, ManyZerosAreNotInTheFile) {
  PatchBuilder b = everything();
  const auto large =
      b.atom("large", elf::AtomKind::Variable, elf::Storage::Bss, {}, 4096, uint64_t{200} << 20);
  const auto pointer = b.data("to_large", Bytes(8));
  b.ref(pointer, 0, elf::RelocType::R64, large, 4);
  Linked linked(b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  EXPECT_LT(linked.image.file.size(), 64U << 10);
  LinkAddr at(kBase);
  uint64_t in_file = 0;
  size_t without = 0;
  for (const ImageSegment& s : linked.image.segments) {
    EXPECT_EQ(s.address, at);
    EXPECT_EQ(s.offset.value, in_file);
    EXPECT_TRUE(s.file_size == s.memory_size || s.file_size == 0);
    without += s.file_size == 0 ? 1 : 0;
    at += s.memory_size;
    in_file += s.file_size;
  }
  EXPECT_EQ(without, 1U);
  EXPECT_NE(linked.image.segments.back().file_size, 0U);
  EXPECT_EQ(linked.image.range, (LinkRange{LinkAddr(kBase), at}));
  EXPECT_EQ(linked.address_of("large") % 4096, 0U);
  EXPECT_TRUE(linked.is_writable(linked.address_of("large") + (uint64_t{200} << 20) - 1));
  const Fill* fill = linked.fill_at(linked.address_of("to_large"));
  ASSERT_NE(fill, nullptr);
  EXPECT_EQ(fill->address.value, linked.address_of("large") + 4);
  EXPECT_EQ(linked.at<uint64_t>(linked.image.registry.start.value), 0U);
}

// Claim: more zeros than an image can have, or than there can be, are refused with the variable's name,
// and not allocated.
TEST(Image, TooManyZeros) {
  for (uint64_t size : {uint64_t{3} << 29, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 4096}) {
    PatchBuilder b = everything();
    b.atom("vast", elf::AtomKind::Variable, elf::Storage::Bss, {}, 16, size);
    Report report;
    link_image(b.patch, LinkAddr(kBase), 256, report);
    ASSERT_FALSE(report.clean());
    EXPECT_EQ(report.refusals().front().id, "object-unsupported");
    EXPECT_EQ(report.refusals().front().where, "vast");
    EXPECT_LT(image_size(b.patch, 256), uint64_t{1} << 20);
  }
}

// Claim: what an image has to reach goes from the first to the last place that it or its detours use.
TEST(Image, UsedRange) {
  PatchBuilder b;
  const auto f = b.function("f", Bytes(16));
  b.replaces("f", f, 0x5000);
  b.patch.replaced.front().ranges = {{LinkAddr(0x5000), LinkAddr(0x5010)}};
  EXPECT_EQ(used_range(b.patch), (LinkRange{LinkAddr(0x5000), LinkAddr(0x5018)}));
  b.ref(f, 0, elf::RelocType::PC32, b.bound("low", 0x2000), 0x10);
  b.ref(f, 4, elf::RelocType::PLT32, b.import("stub", 0x9000), -4);
  b.ref(f, 8, elf::RelocType::R64, b.bound("far", 0xf0000000));  // any distance will do
  b.bound("unused", 0x100);
  EXPECT_EQ(used_range(b.patch), (LinkRange{LinkAddr(0x2010), LinkAddr(0x9008)}));
}

// Claim: what follows the segments in the file (symbols, section headers) is not in memory.
TEST(Image, TailOfTheLastPageIsZero) {
  Linked linked(everything().patch, kBase);
  uint64_t zeros = linked.address_of("zeros");
  for (uint64_t at = zeros; at < linked.image.range.end.value; ++at) {
    ASSERT_EQ(linked.at<uint8_t>(at), 0) << at - zeros;
  }
}

// Claim: the registry has its room at the start of the writable segment, zero in the file.
TEST(Image, RegistryRoom) {
  Linked linked(everything().patch, kBase, 5000);
  EXPECT_EQ(linked.image.registry.size(), 5000U);
  EXPECT_EQ(linked.image.registry.start, linked.image.segments[2].address);
  for (LinkAddr at = linked.image.registry.start; at < linked.image.registry.end; at += 8) {
    ASSERT_EQ(linked.at<uint64_t>(at.value), 0U);
  }
  for (const Fill& f : linked.image.fills) {
    EXPECT_FALSE(linked.image.registry.contains(f.at));
  }
}

// Claim: the alignment of every atom is kept, that of functions is at least 16.
TEST(Image, AlignmentIsKept) {
  PatchBuilder b = everything();
  b.atom("packed", elf::AtomKind::Function, elf::Storage::Text, bytes_of({0xc3}), 1);
  Linked linked(b.patch, kBase);
  EXPECT_EQ(linked.address_of("packed") % 16, 0U);
  EXPECT_EQ(linked.address_of("wide") % 32, 0U);
  EXPECT_EQ(linked.address_of("zeros") % 64, 0U);
}

// Claim: an alignment that a load bias can't keep is refused.
TEST(Image, AlignmentAboveAPageIsRefused) {
  PatchBuilder b;
  b.data("huge", Bytes(8), elf::Storage::Data, 8192);
  EXPECT_THAT(findings(b.patch, kBase), ElementsAre("object-unsupported"));
}

// Claim: atoms do not overlap.
TEST(Image, AtomsDoNotOverlap) {
  PatchBuilder b;
  std::vector<std::string> names;
  for (int i = 0; i < 200; ++i) {
    names.push_back("v" + std::to_string(i));
    b.data(names.back(), Bytes(1 + i % 37, std::byte(i)), static_cast<elf::Storage>(i % 4),
           1U << (i % 6));
  }
  Linked linked(b.patch, kBase);
  for (int i = 0; i < 200; ++i) {
    for (int k = 0; k < 1 + i % 37; ++k) {
      ASSERT_EQ(linked.at<uint8_t>(linked.address_of(names[i]) + k), i);
    }
  }
}

// Claim: the same patch at the same place gives the same bytes; another place another build-id.
TEST(Image, Deterministic) {
  Linked a(everything().patch, kBase), b(everything().patch, kBase);
  Linked c(everything().patch, kBase + 0x10000);
  EXPECT_EQ(a.image.file, b.image.file);
  EXPECT_EQ(a.image.build_id, b.image.build_id);
  EXPECT_NE(a.image.build_id, c.image.build_id);
}

// Claim: the build-id in the file is the one that is returned, and depends on every byte.
TEST(Image, BuildIdIsTheContent) {
  PatchBuilder b = everything();
  Linked first(b.patch, kBase);
  EXPECT_EQ(first.file->build_id(), first.image.build_id);
  EXPECT_EQ(first.image.build_id.size(), 40U);
  b.patch.fresh.atoms[1].bytes[0] = std::byte{'H'};
  EXPECT_NE(Linked(b.patch, kBase).image.build_id, first.image.build_id);
}

// Claim: the room that is asked for is the room that is used, wherever the image goes.
TEST(Image, SizeIsKnownBefore) {
  PatchBuilder b = everything();
  for (uint64_t base : {kBase, uint64_t{0xffffffffff000000}, uint64_t{0x10000}}) {
    EXPECT_EQ(image_size(b.patch, 700), Linked(b.patch, base, 700).image.range.size());
  }
}

// Claim: new functions are reported per replaced one, in its order, and hold its code.
TEST(Image, NewFunctions) {
  PatchBuilder b = everything();
  auto g = b.function("g", bytes_of({0x31, 0xc0, 0xc3}));
  b.replaces("g", g, 0x2000);
  Linked linked(b.patch, kBase);
  ASSERT_EQ(linked.image.new_functions.size(), 2U);
  const auto& second = linked.image.new_functions[1];
  EXPECT_EQ(second.name, "g");
  EXPECT_EQ(second.replaced, 1U);
  EXPECT_EQ(second.range.start.value, linked.address_of("g"));
  EXPECT_EQ(second.range.size(), 3U);
  EXPECT_EQ(linked.at<uint16_t>(second.range.start.value), 0xc031);
}

// Claim: anonymous atoms have no symbol in the image.
TEST(Image, AnonymousAtomsHaveNoSymbol) {
  PatchBuilder b = everything();
  b.patch.fresh.symbols[b.data("text2", Bytes(4))].anonymous = true;
  Linked linked(b.patch, kBase);
  for (const elf::Symbol& s : linked.file->symbols()) {
    EXPECT_NE(s.name, "text2");
  }
}

// Claim: a patch without data and registry has no writable segment.
TEST(Image, NoEmptySegments) {
  PatchBuilder b;
  b.function("f", bytes_of({0xc3}));
  Linked linked(b.patch, kBase, 0);
  EXPECT_EQ(linked.image.segments.size(), 2U);
}

// Claim: fills come in the order of their addresses, and lie in writable memory.
TEST(Image, FillsAreSorted) {
  PatchBuilder b;
  auto d = b.data("d", Bytes(32));
  for (uint64_t at : {16U, 0U, 24U, 8U}) {
    b.ref(d, at, elf::RelocType::R64, d);
  }
  Linked linked(b.patch, kBase);
  ASSERT_EQ(linked.image.fills.size(), 4U);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(linked.image.fills[i].at.value, linked.address_of("d") + 8 * i);
    EXPECT_TRUE(linked.is_writable(linked.image.fills[i].at.value));
  }
}

}  // namespace
}  // namespace qp::link
