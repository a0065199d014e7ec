// Every relocation type: the value of the field, or the refusal.

#include <gmock/gmock.h>

#include <set>

#include "base/error.h"
#include "patch_builder.h"

namespace qp::link {
namespace {

using elf::RelocType;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kBase = 0x40000000;

// call rel32; ret
Bytes call_code() {
  return bytes_of({0xe8, 0, 0, 0, 0, 0xc3});
}
// mov x(%rip),%rax; ret
Bytes load_code() {
  return bytes_of({0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xc3});
}
// mov $imm32,%eax; ret
Bytes immediate_code() {
  return bytes_of({0xb8, 0, 0, 0, 0, 0xc3});
}
// movq $imm32,%rax (sign-extended); ret
Bytes signed_code() {
  return bytes_of({0x48, 0xc7, 0xc0, 0, 0, 0, 0, 0xc3});
}

uint64_t operand(const Linked& linked, std::string_view function, uint64_t field) {
  uint64_t f = linked.address_of(function);
  return f + field + 4 + static_cast<int64_t>(linked.at<int32_t>(f + field));
}

// Claim: a call of a function of the target is a direct distance.
TEST(Relocation, CallOfTheTargetIsDirect) {
  PatchBuilder b;
  auto f = b.function("f", call_code());
  b.ref(f, 1, RelocType::PLT32, b.bound("g", 0x1234), -4);
  Linked linked(b.patch, kBase);
  EXPECT_TRUE(linked.report.clean());
  EXPECT_EQ(operand(linked, "f", 1), 0x1234U);
  EXPECT_TRUE(linked.image.fills.empty());
}

// Claim: an image below address 0 of a PIE reaches a target at address 0 and up.
TEST(Relocation, ImageBelowZeroReachesThePie) {
  PatchBuilder b;
  auto f = b.function("f", call_code());
  b.ref(f, 1, RelocType::PC32, b.bound("g", 0x1234), -4);
  Linked linked(b.patch, 0xffffffffff000000);
  EXPECT_TRUE(linked.report.clean());
  EXPECT_EQ(operand(linked, "f", 1), 0x1234U);
}

// Claim: a reference to another atom of the patch, at an offset, leads to its place in the image.
TEST(Relocation, AtomsOfThePatchAreInTheImage) {
  PatchBuilder b;
  auto f = b.function("f", load_code());
  b.ref(f, 3, RelocType::PC32, b.data("table", Bytes(64), elf::Storage::ReadOnly), 24 - 4);
  Linked linked(b.patch, kBase);
  EXPECT_EQ(operand(linked, "f", 3), linked.address_of("table") + 24);
}

// Claim: a symbol inside an atom (alias, label) is that atom's address plus its offset.
TEST(Relocation, SymbolOffsetCounts) {
  PatchBuilder b;
  auto f = b.function("f", load_code());
  auto table = b.data("table", Bytes(64));
  elf::AtomSymbol inner = b.patch.fresh.symbols[table];
  inner.name = "inner";
  inner.offset = 16;
  b.patch.fresh.symbols.push_back(inner);
  b.patch.fresh_bindings.emplace_back();
  b.ref(f, 3, RelocType::PC32, table + 1, -4);
  Linked linked(b.patch, kBase);
  EXPECT_EQ(operand(linked, "f", 3), linked.address_of("table") + 16);
  EXPECT_EQ(linked.address_of("inner"), linked.address_of("table") + 16);
}

// Claim: PC64, PC16 and PC8 fields have their width and nothing beside them is touched.
TEST(Relocation, OtherPcRelativeWidths) {
  PatchBuilder b;
  auto d = b.data("d", Bytes(24, std::byte{0xee}));
  auto t = b.data("t", Bytes(8));
  b.ref(d, 0, RelocType::PC64, t);
  b.ref(d, 8, RelocType::PC16, t);
  b.ref(d, 10, RelocType::PC8, t);
  Linked linked(b.patch, kBase);
  uint64_t at = linked.address_of("d"), to = linked.address_of("t");
  EXPECT_TRUE(linked.report.clean());
  EXPECT_EQ(linked.at<int64_t>(at), static_cast<int64_t>(to - at));
  EXPECT_EQ(linked.at<int16_t>(at + 8), static_cast<int16_t>(to - at - 8));
  EXPECT_EQ(linked.at<int8_t>(at + 10), static_cast<int8_t>(to - at - 10));
  EXPECT_EQ(linked.at<uint8_t>(at + 11), 0xee);
}

// Refusal: reloc-range
// Claim: a distance that its field can't hold is refused, for every width.
TEST(Relocation, DistanceOutOfRangeIsRefused) {
  for (auto [type, to] : {std::pair{RelocType::PC32, kBase + 0x80100000},
                          {RelocType::PLT32, kBase + 0x80100000},
                          {RelocType::PC16, kBase + 0x100000},
                          {RelocType::PC8, kBase + 0x100000}}) {
    PatchBuilder b;
    auto d = b.data("d", Bytes(8));
    b.ref(d, 0, type, b.bound("far", to));
    EXPECT_THAT(findings(b.patch, kBase), ElementsAre("reloc-range")) << to;
  }
}

// Claim: the largest and the smallest 32-bit distances are accepted, one byte more is not.
TEST(Relocation, EdgesOfTheRange) {
  for (auto [distance, ok] : {std::pair{0x7fffffffL, true},
                              {0x80000000L, false},
                              {-0x80000000L, true},
                              {-0x80000001L, false}}) {
    PatchBuilder b;
    auto f = b.function("f", load_code());
    b.ref(f, 3, RelocType::PC32, b.bound("g", 0), -4);
    uint64_t base = 0x7000000000;
    uint64_t place = Linked(b.patch, base).address_of("f") + 3;
    b.patch.fresh_bindings[1].address = LinkAddr(place + 4 + static_cast<uint64_t>(distance));
    EXPECT_EQ(findings(b.patch, base).empty(), ok) << distance;
  }
}

// Claim: an imported function is called through the target's own PLT entry if it has one.
TEST(Relocation, ImportThroughTheTargetsStub) {
  PatchBuilder b;
  auto f = b.function("f", call_code());
  b.ref(f, 1, RelocType::PLT32, b.import("puts", 0x1050), -4);
  Linked linked(b.patch, kBase);
  EXPECT_EQ(operand(linked, "f", 1), 0x1050U);
  EXPECT_TRUE(linked.image.fills.empty());
}

// Claim: an import without a stub is called through one veneer and one slot, however often.
TEST(Relocation, ImportThroughAVeneer) {
  PatchBuilder b;
  auto f = b.function("f", call_code());
  auto g = b.function("g", call_code());
  auto puts = b.import("puts");
  b.ref(f, 1, RelocType::PLT32, puts, -4);
  b.ref(g, 1, RelocType::PC32, puts, -4);
  Linked linked(b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  uint64_t veneer = operand(linked, "f", 1);
  EXPECT_EQ(operand(linked, "g", 1), veneer);
  EXPECT_EQ(veneer, linked.address_of("puts.veneer"));
  EXPECT_EQ(linked.at<uint16_t>(veneer), 0x25ff);  // jmp *slot(%rip)
  uint64_t slot = veneer + 6 + static_cast<int64_t>(linked.at<int32_t>(veneer + 2));
  ASSERT_EQ(linked.image.fills.size(), 1U);
  const Fill& fill = linked.image.fills[0];
  EXPECT_EQ(fill.at.value, slot);
  EXPECT_EQ(fill.kind, Fill::Kind::Import);
  EXPECT_EQ(fill.import, puts);
  EXPECT_TRUE(linked.is_writable(slot));
}

// Claim: a PC-relative access to another module's data is refused and names symbol and remedy.
TEST(Relocation, DirectAccessToImportedDataIsRefused) {
  PatchBuilder b;
  auto f = b.function("f", load_code());
  b.ref(f, 3, RelocType::PC32, b.import("stderr"), -4);
  Linked linked(b.patch, kBase);
  ASSERT_THAT(ids(linked.report), ElementsAre("reloc-unsupported"));
  EXPECT_THAT(linked.report.refusals()[0].detail, HasSubstr("stderr"));
  EXPECT_THAT(linked.report.refusals()[0].detail, HasSubstr("-fPIC"));
}

// Claim: GOT loads of imports, target and image keep the load, through a slot per symbol.
TEST(Relocation, GotLoadsGoThroughSlots) {
  for (RelocType type : {RelocType::GOTPCREL, RelocType::GOTPCRELX, RelocType::REX_GOTPCRELX}) {
    PatchBuilder b;
    auto f = b.function("f", load_code());
    auto g = b.function("g", load_code());
    auto h = b.function("h", load_code());
    auto i = b.function("i", load_code());
    auto import = b.import("stderr", 0x1050);
    auto bound = b.bound("counter", 0x4010);
    auto own = b.data("own", Bytes(8));
    b.ref(f, 3, type, import, -4);
    b.ref(g, 3, type, bound, -4);
    b.ref(h, 3, type, own, -4);
    b.ref(i, 3, type, bound, -4);
    Linked linked(b.patch, kBase);
    ASSERT_TRUE(linked.report.clean());
    EXPECT_EQ(linked.image.fills.size(), 3U);
    const Fill* fi = linked.fill_at(operand(linked, "f", 3));
    const Fill* fb = linked.fill_at(operand(linked, "g", 3));
    const Fill* fo = linked.fill_at(operand(linked, "h", 3));
    ASSERT_TRUE(fi != nullptr && fb != nullptr && fo != nullptr);
    EXPECT_EQ(fi->kind, Fill::Kind::Import);
    EXPECT_EQ(fi->import, import);
    EXPECT_EQ(fb->kind, Fill::Kind::Address);
    EXPECT_EQ(fb->address.value, 0x4010U);
    EXPECT_EQ(fo->address.value, linked.address_of("own"));
    EXPECT_EQ(operand(linked, "i", 3), fb->at.value);
    EXPECT_EQ(linked.at<uint16_t>(linked.address_of("g")), 0x8b48);  // still a load
  }
}

// Claim: a pointer in data becomes a fill, with the addend, and the field is zero in the file.
TEST(Relocation, PointersInDataAreFilled) {
  PatchBuilder b;
  auto d = b.data("d", Bytes(24, std::byte{0xee}));
  auto import = b.import("environ");
  b.ref(d, 0, RelocType::R64, b.bound("counter", 0x4010), 8);
  b.ref(d, 8, RelocType::R64, import, 16);
  b.ref(d, 16, RelocType::R64, d, 4);
  Linked linked(b.patch, kBase);
  uint64_t at = linked.address_of("d");
  ASSERT_EQ(linked.image.fills.size(), 3U);
  EXPECT_EQ(linked.fill_at(at)->address.value, 0x4018U);
  EXPECT_EQ(linked.fill_at(at + 8)->import, import);
  EXPECT_EQ(linked.fill_at(at + 8)->addend, 16);
  EXPECT_EQ(linked.fill_at(at + 16)->address.value, at + 4);
  EXPECT_EQ(linked.at<uint64_t>(at), 0U);
  EXPECT_EQ(linked.at<uint64_t>(at + 8), 0U);
}

// Claim: constant data with pointers moves to the writable segment, constant data without stays.
TEST(Relocation, ConstantDataWithPointersIsWritable) {
  PatchBuilder b;
  auto names = b.data("names", Bytes(8), elf::Storage::ReadOnly);
  b.ref(names, 0, RelocType::R64, b.data("plain", Bytes(8), elf::Storage::ReadOnly));
  b.data("relro", Bytes(8), elf::Storage::RelRo);
  Linked linked(b.patch, kBase);
  EXPECT_TRUE(linked.is_writable(linked.address_of("names")));
  EXPECT_TRUE(linked.is_writable(linked.address_of("relro")));
  EXPECT_FALSE(linked.is_writable(linked.address_of("plain")));
}

// Claim: a 64-bit absolute address in code is refused, since code is never written.
TEST(Relocation, PointerInCodeIsRefused) {
  PatchBuilder b;
  auto f = b.function("f", bytes_of({0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xc3}));
  b.ref(f, 2, RelocType::R64, b.bound("counter", 0x4010));
  EXPECT_THAT(findings(b.patch, kBase), ElementsAre("reloc-unsupported"));
}

// Claim: 32-bit absolute fields hold addresses of a non-PIE target and of an image in the low 2
// GiB.
TEST(Relocation, AbsoluteAddressesOfANonPie) {
  PatchBuilder b(false);
  auto f = b.function("f", immediate_code());
  auto g = b.function("g", signed_code());
  b.ref(f, 1, RelocType::R32, b.bound("counter", 0x404010), 4);
  b.ref(g, 3, RelocType::R32S, b.data("own", Bytes(8)));
  Linked linked(b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  EXPECT_EQ(linked.at<uint32_t>(linked.address_of("f") + 1), 0x404014U);
  EXPECT_EQ(linked.at<uint32_t>(linked.address_of("g") + 3), linked.address_of("own"));
}

// Claim: a 32-bit absolute address in a PIE is refused.
TEST(Relocation, AbsoluteAddressInAPieIsRefused) {
  for (RelocType type : {RelocType::R32, RelocType::R32S, RelocType::R16, RelocType::R8}) {
    PatchBuilder b(true);
    auto f = b.function("f", immediate_code());
    b.ref(f, 1, type, b.bound("counter", 0x10));
    EXPECT_THAT(findings(b.patch, kBase), ElementsAre("reloc-unsupported"));
  }
}

// Claim: absolute values are checked against what the processor makes of the field.
TEST(Relocation, AbsoluteRanges) {
  struct Case {
    RelocType type;
    uint64_t value;
    bool ok;
  };
  for (const Case& c : {Case{RelocType::R32, 0xffffffff, true},
                        {RelocType::R32, 0x100000000, false},
                        {RelocType::R32, ~uint64_t{0}, false},
                        {RelocType::R32S, 0x7fffffff, true},
                        {RelocType::R32S, 0x80000000, false},
                        {RelocType::R16, 0xffff, true},
                        {RelocType::R16, 0x10000, false},
                        {RelocType::R8, 0xff, true},
                        {RelocType::R8, 0x100, false}}) {
    PatchBuilder b(false);
    auto d = b.data("d", Bytes(8));
    b.ref(d, 0, c.type, b.bound("x", c.value));
    EXPECT_EQ(findings(b.patch, kBase).empty(), c.ok)
        << static_cast<int>(c.type) << " " << std::hex << c.value;
  }
}

// Claim: a 32-bit absolute address of another module is refused.
TEST(Relocation, AbsoluteAddressOfAnImportIsRefused) {
  PatchBuilder b(false);
  auto f = b.function("f", immediate_code());
  b.ref(f, 1, RelocType::R32, b.import("puts", 0x401050));
  EXPECT_THAT(findings(b.patch, kBase), ElementsAre("reloc-unsupported"));
}

// Claim: the low 2 GiB are needed exactly for 32-bit absolute addresses of the image's own things.
TEST(Relocation, NeedsLow2G) {
  PatchBuilder b(false);
  auto f = b.function("f", immediate_code());
  b.ref(f, 1, RelocType::R32, b.bound("counter", 0x404010));
  EXPECT_FALSE(needs_low_2g(b.patch));
  auto g = b.function("g", immediate_code());
  b.ref(g, 1, RelocType::R32, b.data("own", Bytes(8)));
  EXPECT_TRUE(needs_low_2g(b.patch));
}

// Claim: thread-local variables of an executable are reached by local-exec and initial-exec code.
TEST(Relocation, ThreadLocalOffsets) {
  PatchBuilder b;
  auto f = b.function("f", signed_code());
  auto g = b.function("g", load_code());
  auto tls = b.thread_local_at("state", -24);
  b.ref(f, 3, RelocType::TPOFF32, tls, 8);
  b.ref(g, 3, RelocType::GOTTPOFF, tls, -4);
  Linked linked(b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  EXPECT_EQ(linked.at<int32_t>(linked.address_of("f") + 3), -16);
  EXPECT_EQ(linked.at<int64_t>(operand(linked, "g", 3)), -24);
  EXPECT_TRUE(linked.image.fills.empty());
}

// Claim: a thread-local variable of a library is reached through the target's own slots, and by
// its offset in the module's block; a reference of a kind for which there is no slot is refused.
TEST(Relocation, ThreadLocalsOfALibrary) {
  PatchBuilder b;
  elf::Binding slot{.kind = elf::BindingKind::TlsSlot, .got_slot = LinkAddr(0x4010)};
  elf::Binding offset{.kind = elf::BindingKind::ModuleOffset, .tp_offset = 24};
  for (RelocType type :
       {RelocType::TLSGD, RelocType::TLSLD, RelocType::GOTTPOFF, RelocType::GOTPC32_TLSDESC}) {
    PatchBuilder c;
    auto f = c.function("f", load_code());
    c.ref(f, 3, type, c.undefined("state", slot), -4);
    Linked linked(c.patch, kBase);
    ASSERT_TRUE(linked.report.clean());
    EXPECT_EQ(operand(linked, "f", 3), 0x4010U);
    EXPECT_TRUE(linked.image.fills.empty());
    PatchBuilder d;
    auto g = d.function("g", load_code());
    d.ref(g, 3, type, d.undefined("state", offset), -4);
    EXPECT_THAT(findings(d.patch, kBase), ElementsAre("tls-unsupported"));
  }
  auto f = b.function("f", load_code());
  b.ref(f, 3, RelocType::DTPOFF32, b.undefined("state", offset), 8);
  Linked linked(b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  EXPECT_EQ(linked.at<int32_t>(linked.address_of("f") + 3), 32);
}

// Claim: the offset of a thread-local variable is not taken for an address.
TEST(Relocation, ThreadLocalHasNoAddress) {
  PatchBuilder b;
  auto f = b.function("f", load_code());
  b.ref(f, 3, RelocType::PC32, b.thread_local_at("state", -24), -4);
  EXPECT_THAT(findings(b.patch, kBase), ElementsAre("reloc-unsupported"));
}

// Claim: references to the GOT itself are refused.
TEST(Relocation, GotRelativeIsRefused) {
  for (RelocType type : {RelocType::GOTOFF64, RelocType::GOTPC32, RelocType::GOT64,
                         RelocType::GOTPC64, RelocType::PLTOFF64, RelocType::GOTPCREL64}) {
    PatchBuilder b;
    auto d = b.data("d", Bytes(8));
    b.ref(d, 0, type, b.bound("counter", 0x4010));
    EXPECT_THAT(findings(b.patch, kBase), ElementsAre("reloc-unsupported"));
  }
}

// Claim: SIZE fields hold the size of a symbol of the patch; an unknown size is refused.
TEST(Relocation, Sizes) {
  PatchBuilder b;
  auto d = b.data("d", Bytes(8));
  b.ref(d, 0, RelocType::SIZE64, b.data("table", Bytes(40)), 2);
  Linked linked(b.patch, kBase);
  EXPECT_EQ(linked.at<uint64_t>(linked.address_of("d")), 42U);
  b.ref(d, 0, RelocType::SIZE32, b.bound("counter", 0x4010));
  EXPECT_THAT(findings(b.patch, kBase), ElementsAre("reloc-unsupported"));
}

// Refusal: reloc-unknown
// Claim: a relocation type that the psABI does not have is refused.
TEST(Relocation, UnknownTypeIsRefused) {
  PatchBuilder b;
  auto d = b.data("d", Bytes(8));
  b.ref(d, 0, static_cast<RelocType>(250), b.bound("counter", 0x4010));
  EXPECT_THAT(findings(b.patch, kBase), ElementsAre("reloc-unknown"));
}

// Claim: whatever type of relocation leads from code or data to whatever kind of symbol, it is linked or
// refused with an id; nothing is left to chance.
TEST(Relocation, EveryTypeToEveryKind) {
  const std::set<std::string> known = {"reloc-unsupported", "reloc-unknown", "reloc-range",
                                       "symbol-unbound", "tls-unsupported"};
  const std::vector<elf::BindingKind> kinds = {
      elf::BindingKind::Unbound,  elf::BindingKind::Address, elf::BindingKind::Import,
      elf::BindingKind::TpOffset, elf::BindingKind::TlsSlot, elf::BindingKind::ModuleOffset,
  };
  size_t linked = 0;
  for (const bool pie : {true, false}) {
    for (uint32_t type = 0; type < 64; ++type) {
      for (size_t kind = 0; kind < kinds.size() + 2; ++kind) {
        for (const bool from_code : {true, false}) {
          PatchBuilder b(pie);
          const auto code = b.function("code", Bytes(16, std::byte{0x90}));
          const auto data = b.data("data", Bytes(16));
          elf::Binding binding;
          binding.kind = kinds[kind % kinds.size()];
          binding.address = LinkAddr(0x5000);
          const auto to = kind == kinds.size()       ? code
                          : kind == kinds.size() + 1 ? data
                                                     : b.undefined("outside", binding);
          b.ref(from_code ? code : data, 4, static_cast<RelocType>(type), to, 4);
          Report report;
          link_image(b.patch, LinkAddr(0x400000), 64, report);
          linked += report.clean() ? 1 : 0;
          for (const std::string& id : ids(report)) {
            EXPECT_TRUE(known.contains(id)) << type << ": " << id;
          }
        }
      }
    }
  }
  EXPECT_GT(linked, 100U);
}

// Refusal: symbol-unbound
// Claim: a symbol without a binding is refused.
TEST(Relocation, UnboundSymbolIsRefused) {
  PatchBuilder b;
  auto f = b.function("f", call_code());
  b.ref(f, 1, RelocType::PLT32, b.undefined("lost", {}), -4);
  EXPECT_THAT(findings(b.patch, kBase), ElementsAre("symbol-unbound"));
}

// Claim: all findings are reported at once.
TEST(Relocation, AllFindingsAtOnce) {
  PatchBuilder b;
  auto f = b.function("f", call_code());
  auto g = b.function("g", load_code());
  b.ref(f, 1, RelocType::PLT32, b.undefined("lost", {}), -4);
  b.ref(g, 3, RelocType::PC32, b.import("stderr"), -4);
  EXPECT_THAT(findings(b.patch, kBase), ElementsAre("symbol-unbound", "reloc-unsupported"));
}

// Claim: a relocation that reaches outside of its atom is a bad file, not a stray write.
TEST(Relocation, FieldOutsideOfTheAtomIsABadFile) {
  for (uint64_t at : {uint64_t{5}, uint64_t{100}, ~uint64_t{0}, ~uint64_t{0} - 2}) {
    PatchBuilder b;
    auto d = b.data("d", Bytes(8));
    b.data("neighbour", Bytes(8));
    b.ref(d, at, RelocType::PC32, b.bound("counter", kBase));
    Report report;
    EXPECT_THROW(link_image(b.patch, LinkAddr(kBase), 0, report), Error) << at;
  }
}

}  // namespace
}  // namespace qp::link
