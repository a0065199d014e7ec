// Unwind tables of an image, read back by the reader that the stack check uses.

#include <gmock/gmock.h>

#include "base/error.h"
#include "elf/cfi.h"
#include "patch_builder.h"

namespace qp::link {
namespace {

using Kind = elf::RegisterRule::Kind;

constexpr uint64_t kBase = 0x40000000;

// "zR": CFA = rsp + 8, return address at CFA − 8.
Bytes plain_cie() {
  return bytes_of({1, 'z', 'R', 0, 1, 0x78, 0x10, 1, 0x1b, 0x0c, 7, 8, 0x90, 1});
}

elf::FrameEntry entry(uint64_t size, Bytes instructions = {}, Bytes cie = plain_cie()) {
  elf::FrameEntry e;
  e.size = size;
  e.cie = std::move(cie);
  e.instructions = std::move(instructions);
  return e;
}

// push %rbp (1 byte); …
elf::FrameEntry pushing_entry() {
  return entry(16, bytes_of({0x41, 0x0e, 16, 0x86, 2}));  // loc+1; CFA = rsp + 16; rbp at CFA − 16
}

int64_t cfa_offset(const elf::FrameRules& rules) {
  EXPECT_EQ(rules.cfa.size(), 1U);
  return static_cast<int64_t>(rules.cfa.at(0).atom == 0x92 ? rules.cfa[0].number2
                                                           : rules.cfa[0].number);
}

elf::CfiTable table(const Linked& linked) {
  return elf::CfiTable::from_file(linked.file);
}

// Claim: the rules of each function are found at its place in the image.
TEST(Frames, RulesTravelWithTheFunction) {
  for (uint64_t base : {kBase, uint64_t{0xffffffffff000000}}) {
    PatchBuilder b;
    b.atom_of(b.function("f", Bytes(16, std::byte{0x90}))).frames = {pushing_entry()};
    b.atom_of(b.function("g", Bytes(40, std::byte{0x90}))).frames = {entry(40)};
    Linked linked(b.patch, base);
    ASSERT_TRUE(linked.report.clean());
    auto cfi = table(linked);
    LinkAddr f(linked.address_of("f")), g(linked.address_of("g"));
    auto at_entry = cfi.find_rules(f), after_push = cfi.find_rules(f + 1), in_g = cfi.find_rules(g);
    ASSERT_TRUE(at_entry && after_push && in_g) << std::hex << base;
    EXPECT_EQ(cfa_offset(*at_entry), 8);
    EXPECT_EQ(cfa_offset(*after_push), 16);
    EXPECT_EQ(after_push->registers[elf::kDwarfRbp].kind, Kind::AtAddress);
    EXPECT_EQ(cfa_offset(*in_g), 8);
    EXPECT_TRUE(cfi.find_rules(f + 15));
    EXPECT_TRUE(cfi.find_rules(g + 39));
    EXPECT_FALSE(cfi.find_rules(g + 40));
  }
}

// Claim: the search table of .eh_frame_hdr is sorted and complete for many functions.
TEST(Frames, SearchTableOfManyFunctions) {
  PatchBuilder b;
  for (int i = 0; i < 100; ++i) {
    auto size = static_cast<unsigned>(16 + i);
    b.atom_of(b.function("f" + std::to_string(i), Bytes(size))).frames = {entry(size)};
  }
  Linked linked(b.patch, kBase);
  auto cfi = table(linked);
  for (int i = 0; i < 100; ++i) {
    LinkAddr f(linked.address_of("f" + std::to_string(i)));
    EXPECT_EQ(cfi.find_range(f + 15), (LinkRange{f, f + 16 + static_cast<uint64_t>(i)}));
  }
}

// Claim: a function with several entries (ranges) keeps them all.
TEST(Frames, SeveralRangesOfOneFunction) {
  PatchBuilder b;
  auto second = pushing_entry();
  second.offset = 16;
  b.atom_of(b.function("f", Bytes(32, std::byte{0x90}))).frames = {entry(16), second};
  Linked linked(b.patch, kBase);
  LinkAddr f(linked.address_of("f"));
  EXPECT_EQ(cfa_offset(*table(linked).find_rules(f + 15)), 8);
  EXPECT_EQ(cfa_offset(*table(linked).find_rules(f + 17)), 16);
}

// Claim: a veneer can be unwound.
TEST(Frames, VeneersHaveRules) {
  PatchBuilder b;
  auto f = b.function("f", bytes_of({0xe8, 0, 0, 0, 0, 0xc3}));
  b.ref(f, 1, elf::RelocType::PLT32, b.import("puts"), -4);
  Linked linked(b.patch, kBase);
  auto rules = table(linked).find_rules(LinkAddr(linked.address_of("puts.veneer")));
  ASSERT_TRUE(rules);
  EXPECT_EQ(cfa_offset(*rules), 8);
}

// Claim: equal CIEs are written once.
TEST(Frames, CiesAreShared) {
  auto size_with = [](int functions) {
    PatchBuilder b;
    for (int i = 0; i < functions; ++i) {
      b.atom_of(b.function("f" + std::to_string(i), Bytes(16))).frames = {entry(16)};
    }
    return Linked(b.patch, kBase).file->find_section(".eh_frame")->size;
  };
  EXPECT_EQ(size_with(3) - size_with(2), 24U);  // one FDE: 4 + 4 + 4 + 4 + 1, padded
}

// Claim: the mark of a signal frame is kept.
TEST(Frames, SignalFrameIsKept) {
  PatchBuilder b;
  Bytes cie = bytes_of({1, 'z', 'R', 'S', 0, 1, 0x78, 0x10, 1, 0x1b, 0x0c, 7, 8, 0x90, 1});
  b.atom_of(b.function("f", Bytes(16))).frames = {entry(16, {}, cie)};
  Linked linked(b.patch, kBase);
  EXPECT_TRUE(table(linked).find_rules(LinkAddr(linked.address_of("f")))->signal_frame);
}

// "zPLR" with an absolute (0x03) or pcrel indirect (0x9b) personality.
Bytes personality_cie(unsigned encoding) {
  return bytes_of({1, 'z', 'P', 'L', 'R',  0,    1,    0x78, 0x10, 7,    encoding,
                   0, 0,   0,   0,   0x1b, 0x1b, 0x0c, 7,    8,    0x90, 1});
}

struct ReadBack {
  uint8_t personality_encoding;
  uint64_t personality, lsda;
};
// The first CIE and FDE; layout as written for "zPLR".
ReadBack read_back(const Linked& linked) {
  uint64_t cie = linked.file->find_section(".eh_frame")->address.value;
  uint64_t p = cie + 8 + 1 + 5 + 3 + 1;  // ids; version; "zPLR"; factors, column; length
  uint64_t fde = cie + 4 + linked.at<uint32_t>(cie);
  uint64_t lsda = fde + 16 + 1;
  auto relative = [&](uint64_t at) { return at + static_cast<int64_t>(linked.at<int32_t>(at)); };
  return {linked.at<uint8_t>(p), relative(p + 1), relative(lsda)};
}

// Claim: a personality routine of another module is reached through a slot that is filled; the
// LSDA is the patch's own.
TEST(Frames, ImportedPersonality) {
  PatchBuilder b;
  auto f = b.function("f", Bytes(16));
  auto lsda = b.data("lsda", Bytes(8), elf::Storage::ReadOnly);
  auto personality = b.import("__gcc_personality_v0");
  auto e = entry(16, {}, personality_cie(0x03));
  e.personality = elf::Ref{0, elf::RelocType::R32, personality, 0};
  e.lsda = elf::Ref{0, elf::RelocType::R32, lsda, 4};
  b.atom_of(f).frames = {e};
  Linked linked(b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  ReadBack back = read_back(linked);
  EXPECT_EQ(back.personality_encoding, 0x9b);
  ASSERT_NE(linked.fill_at(back.personality), nullptr);
  EXPECT_EQ(linked.fill_at(back.personality)->import, personality);
  EXPECT_EQ(back.lsda, linked.address_of("lsda") + 4);
}

// Claim: a personality word (DW.ref.…) of the target is referred to as it is.
TEST(Frames, PersonalityWordOfTheTarget) {
  PatchBuilder b;
  auto f = b.function("f", Bytes(16));
  auto e = entry(16, {}, personality_cie(0x9b));
  e.personality = elf::Ref{0, elf::RelocType::PC32, b.bound("DW.ref.x", kBase - 0x1000), 0};
  b.atom_of(f).frames = {e};
  Linked linked(b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  ReadBack back = read_back(linked);
  EXPECT_EQ(back.personality_encoding, 0x9b);
  EXPECT_EQ(back.personality, kBase - 0x1000);
}

// Claim: an unbound personality routine is refused.
TEST(Frames, UnboundPersonalityIsRefused) {
  PatchBuilder b;
  auto f = b.function("f", Bytes(16));
  auto e = entry(16, {}, personality_cie(0x03));
  e.personality = elf::Ref{0, elf::RelocType::R32, b.undefined("lost", {}), 0};
  b.atom_of(f).frames = {e};
  EXPECT_THAT(findings(b.patch, kBase), testing::ElementsAre("symbol-unbound"));
}

// Claim: a malformed entry is a bad file.
TEST(Frames, MalformedEntriesAreBadFiles) {
  for (const Bytes& cie :
       {Bytes{}, bytes_of({1}), bytes_of({9, 0, 1, 0x78, 0x10}),
        bytes_of({1, 'q', 0, 1, 0x78, 0x10}), bytes_of({1, 'z', 'P', 0, 1, 0x78, 0x10, 1, 0x0f}),
        bytes_of({1, 0, 1, 0x78, 0x11}),
        bytes_of({1, 'z', 'R', 0, 1, 0x78, 0x10, 0xff, 0x7f, 0x1b}), personality_cie(0x03)}) {
    PatchBuilder b;
    b.atom_of(b.function("f", Bytes(16))).frames = {entry(16, {}, cie)};
    EXPECT_THROW(findings(b.patch, kBase), Error) << hex(cie);
  }
  PatchBuilder b;
  b.atom_of(b.function("f", Bytes(16))).frames = {entry(17)};
  EXPECT_THROW(findings(b.patch, kBase), Error);
}

}  // namespace
}  // namespace qp::link
