// Thread-local variables: dynamic models that are made static, byte by byte, and new variables.

#include <gmock/gmock.h>

#include "patch_builder.h"

namespace qp::link {
namespace {

using elf::RelocType;
using testing::ElementsAre;

constexpr uint64_t kBase = 0x40000000;

// psABI, "Thread-Local Storage": what compilers emit. The fields are 0.
struct Sequence {
  std::string name;
  RelocType type;
  Bytes code;
  uint64_t field, call;  // of the lea, of the call
  RelocType call_type;
  Bytes local_exec;  // of a variable at -24
};

std::vector<Sequence> sequences() {
  const Bytes gd =
      bytes_of({0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0,          // mov %fs:0,%rax
                0x48, 0x8d, 0x80, 0xe8, 0xff, 0xff, 0xff, 0xc3});  // lea -24(%rax),%rax
  const Bytes ld = bytes_of({0x66, 0x66, 0x66, 0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0xc3});
  Bytes long_ld = bytes_of({0x66});
  long_ld.insert(long_ld.end(), ld.begin(), ld.end());
  return {
      {"gd", RelocType::TLSGD,
       bytes_of({0x66, 0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0, 0xc3}), 4,
       12, RelocType::PLT32, gd},
      {"gd without PLT", RelocType::TLSGD,
       bytes_of({0x66, 0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0x66, 0x48, 0xff, 0x15, 0, 0, 0, 0, 0xc3}), 4,
       12, RelocType::GOTPCRELX, gd},
      {"ld", RelocType::TLSLD, bytes_of({0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0xc3}), 3,
       8, RelocType::PLT32, ld},
      {"ld without PLT", RelocType::TLSLD,
       bytes_of({0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0xff, 0x15, 0, 0, 0, 0, 0xc3}), 3, 9,
       RelocType::GOTPCRELX, long_ld},
  };
}

Bytes code_of(const Linked& linked, const std::string& function, size_t size) {
  Bytes out(size);
  EXPECT_TRUE(elf::FileReader(*linked.file).try_read(LinkAddr(linked.address_of(function)), out));
  return out;
}

elf::AtomSymbolId use(PatchBuilder& b, const Sequence& s, elf::AtomSymbolId variable,
                      elf::AtomSymbolId call, Bytes code) {
  auto f = b.function("f", std::move(code));
  b.ref(f, s.field, s.type, variable, -4);
  b.ref(f, s.call, s.call_type, call, -4);
  return f;
}

// Claim: in an executable general- and local-dynamic code becomes local-exec code, as the psABI has
// it; nothing is left of the call, also if the function is in the target itself (a static one).
TEST(ThreadLocal, DynamicCodeOfAnExecutableBecomesStatic) {
  for (const Sequence& s : sequences()) {
    for (const bool inside : {false, true}) {
      PatchBuilder b;
      const char* const name = "__tls_get_addr";
      use(b, s, b.thread_local_at("state", -24), inside ? b.bound(name, 0x1000) : b.import(name),
          s.code);
      Linked linked(b.patch, kBase);
      ASSERT_TRUE(linked.report.clean()) << s.name;
      EXPECT_EQ(code_of(linked, "f", s.code.size()), s.local_exec) << s.name << inside;
      EXPECT_TRUE(linked.image.fills.empty()) << s.name;
    }
  }
}

// Claim: so do descriptors, with any register.
TEST(ThreadLocal, DescriptorsOfAnExecutableBecomeStatic) {
  PatchBuilder b;
  auto state = b.thread_local_at("state", -24);
  auto f = b.function("f", bytes_of({0x48, 0x8d, 0x05, 0, 0, 0, 0,  // lea state@tlsdesc(%rip),%rax
                                     0x4c, 0x8d, 0x0d, 0, 0, 0, 0,  // the same, %r9
                                     0xff, 0x10, 0xc3}));           // call *(%rax)
  b.ref(f, 3, RelocType::GOTPC32_TLSDESC, state, -4);
  b.ref(f, 10, RelocType::GOTPC32_TLSDESC, state, -4);
  b.ref(f, 14, RelocType::TLSDESC_CALL, state);
  Linked linked(b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  EXPECT_EQ(code_of(linked, "f", 17), bytes_of({0x48, 0xc7, 0xc0, 0xe8, 0xff, 0xff, 0xff,  //
                                                0x49, 0xc7, 0xc1, 0xe8, 0xff, 0xff, 0xff,  //
                                                0x66, 0x90, 0xc3}));
}

// Claim: the offset of a variable in local-dynamic code is one from the thread pointer then.
TEST(ThreadLocal, OffsetsFollowTheBlock) {
  const Sequence ld = sequences()[2];
  PatchBuilder b;
  auto state = b.thread_local_at("state", -24);
  Bytes code = ld.code;
  code.back() = std::byte{0x48};
  for (unsigned byte : {0x8d, 0x80, 0, 0, 0, 0, 0xc3}) {  // lea state@dtpoff(%rax),%rax
    append(code, static_cast<uint8_t>(byte));
  }
  auto f = use(b, ld, state, b.import("__tls_get_addr"), code);
  b.ref(f, 15, RelocType::DTPOFF32, state, 8);
  Linked linked(b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  EXPECT_EQ(linked.at<int32_t>(linked.address_of("f") + 15), -16);
}

// Claim: a sequence with one other byte is refused, whichever it is.
TEST(ThreadLocal, OtherSequencesAreRefused) {
  for (const Sequence& s : sequences()) {
    for (size_t at = 0; at + 1 < s.code.size(); ++at) {
      const bool field = (s.field <= at && at < s.field + 4) || (s.call <= at && at < s.call + 4);
      if (field) {
        continue;
      }
      PatchBuilder b;
      Bytes code = s.code;
      code[at] ^= std::byte{0x04};
      use(b, s, b.thread_local_at("state", -24), b.import("__tls_get_addr"), code);
      EXPECT_THAT(findings(b.patch, kBase), testing::Contains("tls-unsupported"))
          << s.name << " at " << at;
    }
    PatchBuilder b;
    use(b, s, b.thread_local_at("state", -24), b.import("another"), s.code);
    EXPECT_THAT(findings(b.patch, kBase), testing::Contains("tls-unsupported")) << s.name;
  }
}

// A patch with new variables: `first` at 0 of the block, a pointer to `second`; 64 bytes of zeros,
// aligned, behind it.
struct NewVariables {
  PatchBuilder b;
  elf::AtomSymbolId second = b.data("second", Bytes(8));
  elf::AtomSymbolId first = b.data("first", Bytes(8), elf::Storage::TlsData);
  elf::AtomSymbolId zeros =
      b.atom("zeros", elf::AtomKind::Variable, elf::Storage::TlsBss, {}, 64, 100);
  elf::AtomSymbolId finder = b.function(kTlsGetAddr, bytes_of({0xc3}));

  NewVariables() { b.ref(first, 0, RelocType::R64, second); }
};

uint64_t operand(const Linked& linked, std::string_view function, uint64_t field) {
  uint64_t f = linked.address_of(function);
  return f + field + 4 + static_cast<int64_t>(linked.at<int32_t>(f + field));
}

// Claim: code that asks for a new variable gets the description of the patch's block and the
// variable's place in it, and calls the patch's function; the content of the block is in the image,
// with its pointers filled.
TEST(ThreadLocal, NewVariablesAreInABlock) {
  for (const Sequence& s : sequences()) {
    NewVariables n;
    use(n.b, s, n.zeros, n.finder, s.code);
    Linked linked(n.b.patch, kBase);
    ASSERT_TRUE(linked.report.clean()) << s.name;
    const uint64_t index = operand(linked, "f", s.field);
    const Fill* description = linked.fill_at(index);
    ASSERT_NE(description, nullptr) << s.name;
    EXPECT_EQ(linked.at<uint64_t>(index + 8), s.type == RelocType::TLSLD ? 0U : 64U);
    const uint64_t block = description->address.value;
    const Fill* content = linked.fill_at(block);
    ASSERT_NE(content, nullptr);
    EXPECT_EQ(linked.at<uint64_t>(block + 8), 8U);
    EXPECT_EQ(linked.at<uint64_t>(block + 16), 164U);
    const Fill* pointer = linked.fill_at(content->address.value);
    ASSERT_NE(pointer, nullptr);
    EXPECT_EQ(pointer->address.value, linked.address_of("second"));
    const uint64_t call = operand(linked, "f", s.call);
    const uint64_t finder = linked.address_of(kTlsGetAddr);
    if (s.call_type == RelocType::PLT32) {
      EXPECT_EQ(call, finder);
    } else {
      ASSERT_NE(linked.fill_at(call), nullptr);
      EXPECT_EQ(linked.fill_at(call)->address.value, finder);
    }
  }
}

// Claim: where the target has no words for a variable of a library or of another module, those of the
// image are filled with the module's number and the variable's place, and ld.so's function is called.
TEST(ThreadLocal, ExistingVariablesGetWordsOfTheImage) {
  const elf::Binding own{.kind = elf::BindingKind::ModuleOffset, .tp_offset = 24};
  for (const Sequence& s : sequences()) {
    PatchBuilder b;
    use(b, s, b.undefined("state", own), b.import("__tls_get_addr", 0x2000), s.code);
    Linked linked(b.patch, kBase);
    ASSERT_TRUE(linked.report.clean()) << s.name;
    const uint64_t words = operand(linked, "f", s.field);
    ASSERT_NE(linked.fill_at(words), nullptr) << s.name;
    EXPECT_EQ(linked.fill_at(words)->kind, Fill::Kind::OwnTlsModule);
    EXPECT_EQ(linked.at<uint64_t>(words + 8), s.type == RelocType::TLSLD ? 0U : 24U);
  }
  PatchBuilder b;
  const Sequence gd = sequences()[0];
  auto other = b.import("other");
  auto f = use(b, gd, other, b.import("__tls_get_addr", 0x2000), gd.code);
  auto g = b.function("g", bytes_of({0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xc3}));
  b.ref(g, 3, RelocType::GOTTPOFF, other, -4);
  (void)f;
  Linked linked(b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  const uint64_t words = operand(linked, "f", gd.field), slot = operand(linked, "g", 3);
  ASSERT_NE(linked.fill_at(words), nullptr);
  EXPECT_EQ(linked.fill_at(words)->kind, Fill::Kind::TlsModule);
  ASSERT_NE(linked.fill_at(words + 8), nullptr);
  EXPECT_EQ(linked.fill_at(words + 8)->kind, Fill::Kind::TlsOffset);
  ASSERT_NE(linked.fill_at(slot), nullptr);
  EXPECT_EQ(linked.fill_at(slot)->kind, Fill::Kind::TpOffset);
  EXPECT_EQ(linked.fill_at(slot)->import, other);
}

// Claim: a descriptor of a new variable names the patch's function for it.
TEST(ThreadLocal, NewVariablesHaveDescriptors) {
  NewVariables n;
  auto function = n.b.function(kTlsDescriptor, bytes_of({0xc3}));
  auto f = n.b.function("f", bytes_of({0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xff, 0x10, 0xc3}));
  n.b.ref(f, 3, RelocType::GOTPC32_TLSDESC, n.zeros, -4);
  n.b.ref(f, 7, RelocType::TLSDESC_CALL, n.zeros);
  (void)function;
  Linked linked(n.b.patch, kBase);
  ASSERT_TRUE(linked.report.clean());
  const uint64_t at = operand(linked, "f", 3);
  ASSERT_NE(linked.fill_at(at), nullptr);
  EXPECT_EQ(linked.fill_at(at)->address.value, linked.address_of(kTlsDescriptor));
  ASSERT_NE(linked.fill_at(at + 8), nullptr);
  EXPECT_EQ(linked.at<uint64_t>(at + 16), 64U);
}

// Claim: code that takes a new variable to have a fixed place in a thread is refused, and so is code
// that calls ld.so for it.
TEST(ThreadLocal, NewVariablesHaveNoFixedPlace) {
  for (RelocType type : {RelocType::TPOFF32, RelocType::GOTTPOFF, RelocType::TPOFF64}) {
    NewVariables n;
    auto f = n.b.function("f", Bytes(16));
    n.b.ref(f, 3, type, n.zeros, -4);
    EXPECT_THAT(findings(n.b.patch, kBase), ElementsAre("tls-unsupported"));
  }
  for (const Sequence& s : sequences()) {
    NewVariables n;
    use(n.b, s, n.zeros, n.b.import("__tls_get_addr"), s.code);
    EXPECT_THAT(findings(n.b.patch, kBase), ElementsAre("tls-unsupported"));
  }
}

// Claim: code that takes new and existing variables from one block is refused, also if a piece of
// the function does the one and the function the other.
TEST(ThreadLocal, NewAndExistingVariablesShareNoBlock) {
  const Sequence ld = sequences()[2];
  for (bool new_block : {false, true}) {
    NewVariables n;
    elf::Binding offset{.kind = elf::BindingKind::ModuleOffset, .tp_offset = 24};
    elf::Binding slot{.kind = elf::BindingKind::TlsSlot, .got_slot = LinkAddr(0x4010)};
    auto old = n.b.undefined("old", offset);
    use(n.b, ld, new_block ? n.zeros : n.b.undefined("base", slot),
        new_block ? n.finder : n.b.import("__tls_get_addr", 0x2000), ld.code);
    auto cold = n.b.function("f.cold", Bytes(16));
    n.b.atom_of(cold).parent = n.b.patch.fresh.symbols[cold].atom.value() - 1;
    n.b.ref(cold, 3, RelocType::DTPOFF32, new_block ? n.zeros : old, 0);
    EXPECT_TRUE(findings(n.b.patch, kBase).empty());
    n.b.ref(cold, 8, RelocType::DTPOFF32, new_block ? old : n.zeros, 0);
    EXPECT_THAT(findings(n.b.patch, kBase), ElementsAre("tls-unsupported"));
  }
}

}  // namespace
}  // namespace qp::link
