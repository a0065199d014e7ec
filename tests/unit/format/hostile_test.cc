// Damaged and hostile patch files: an Error, never a crash, never an inconsistent patch.
//
// The sweeps mean most under ASan and UBSan (preset dev).

#include <gtest/gtest.h>

#include "base/error.h"
#include "elf/file.h"
#include "elf/object_writer.h"
#include "format/check.h"
#include "format/file.h"
#include "sample.h"

namespace qp::format {
namespace {

// True if it was accepted; a patch that is accepted must be one that could be written.
bool accepted(ByteView bytes) {
  std::optional<Patch> patch;
  try {
    patch = read_patch(copy(bytes), "hostile");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "bad-file");
    return false;
  }
  EXPECT_NO_THROW(check_patch(*patch, "hostile"));
  return true;
}

// Claim: a patch cut off anywhere is an error.
TEST(Hostile, Truncated) {
  Bytes whole = write_patch(sample_patch());
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(accepted(ByteView(whole).first(length))) << length;
  }
}

// Claim: a patch with any one byte changed is an error or a consistent patch, never a crash.
TEST(Hostile, OneByteChanged) {
  Bytes bytes = write_patch(sample_patch());
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::byte old = bytes[at];
    for (int flip : {0x01, 0x80, 0xff}) {
      bytes[at] = old ^ static_cast<std::byte>(flip);
      accepted(bytes);
    }
    bytes[at] = old;
  }
  EXPECT_TRUE(accepted(bytes));
}

// The sample, with the content of one section edited in place.
void expect_rejected(const char* section, uint64_t offset, std::byte value,
                     std::string_view message) {
  Bytes bytes = write_patch(sample_patch());
  elf::File file = elf::File::parse(bytes, "sample");
  const elf::Section* s = file.find_section(section);
  ASSERT_NE(s, nullptr);
  store(ByteSpan(bytes), s->offset.value + offset, value);
  try {
    read_patch(bytes, "hostile");
    ADD_FAILURE() << "it was accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << e.what();
  }
}

// Claim: a relocation table that disagrees with diffdata is refused, whichever of the two was
// changed.
TEST(Hostile, DiffDataIsCrossChecked) {
  expect_rejected(".qpatch.diffdata", 16, std::byte{0xfb}, "differ");  // addend
  expect_rejected(".rela.text.unlikely.f", 16, std::byte{0xfb}, "differ");
  expect_rejected(".qpatch.diffdata", 12, std::byte{2}, "differ");  // symbol
}

// Claim: a name in the program's table that is not the symbol's is refused.
TEST(Hostile, NamesAreCrossChecked) {
  expect_rejected(".qpatch.strtab.src", 1, std::byte{'x'}, "is bound to");
}

// Claim: a patch of another format version is refused with both numbers.
TEST(Hostile, OtherFormatVersion) {
  Bytes bytes = write_patch(sample_patch());
  std::string_view text = as_text(bytes);
  size_t at = text.find("\"format\": 3");
  ASSERT_NE(at, std::string_view::npos);
  store(ByteSpan(bytes), at + 10, '9');
  try {
    read_patch(bytes, "newer");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("format 9, this qpatch reads format 1"), std::string::npos)
        << e.what();
  }
}

// Claim: an object that is no patch is refused, with the section that is missing.
TEST(Hostile, NotAPatch) {
  try {
    read_patch(elf::write_file({}), "object");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("no section .qpatch.meta"), std::string::npos);
  }
}

// Claim: sections that all hold the same bytes of the file can't multiply them in memory.
TEST(Hostile, OverlappingSections) {
  Patch patch = sample_patch();
  auto& fresh = patch.fresh;
  for (int i = 0; i < 64; ++i) {
    auto atom = static_cast<elf::AtomId>(fresh.atoms.size());
    auto symbol = static_cast<elf::AtomSymbolId>(fresh.symbols.size());
    fresh.symbols.push_back(make_symbol("t" + std::to_string(i), elf::SymbolType::Object,
                                        elf::SymbolBind::Local, atom));
    fresh.atoms.push_back(
        make_atom(elf::AtomKind::Constant, elf::Storage::ReadOnly, ".rodata.t", Bytes(1), symbol));
    patch.fresh_bindings.emplace_back();
  }
  Bytes bytes = write_patch(patch);
  auto table = load<uint64_t>(bytes, 40);
  elf::File file = elf::File::parse(bytes, "sample");
  for (const elf::Section& s : file.sections()) {
    if (s.name == ".rodata.t") {
      store(ByteSpan(bytes), table + s.index * 64 + 24, uint64_t{0});             // sh_offset
      store(ByteSpan(bytes), table + s.index * 64 + 32, uint64_t{bytes.size()});  // sh_size
    }
  }
  try {
    read_patch(bytes, "hostile");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("larger than the file"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace qp::format
