// Written files, read back by us and by binutils.

#include "elf/object_writer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "compiled.h"

namespace qp::elf {
namespace {

OutFile small_object() {
  OutFile file;
  OutSection text;
  text.name = ".text.f";
  text.flags = kAlloc | kExec;
  text.alignment = 16;
  // e8 00 00 00 00  call other
  // c3              ret
  text.content = {std::byte{0xe8}, std::byte{0}, std::byte{0},
                  std::byte{0},    std::byte{0}, std::byte{0xc3}};
  text.relocations = {{1, RelocType::PLT32, 1, -4}};
  OutSection bss;
  bss.name = ".bss.b";
  bss.type = SectionType::NoBits;
  bss.flags = kAlloc | kWrite;
  bss.alignment = 8;
  bss.size = 24;
  file.sections = {text, bss};
  OutSymbol f{"f", 0, 6, SymbolType::Func, SymbolBind::Global, Visibility::Hidden, 1};
  OutSymbol other{"other", 0, 0, SymbolType::NoType, SymbolBind::Global, Visibility::Default, 0};
  OutSymbol b{"b", 0, 24, SymbolType::Object, SymbolBind::Local, Visibility::Default, 2};
  file.symbols = {f, other, b};
  return file;
}

// Claim: what was written is what is read: sections, symbols, relocations.
TEST(WriteObject, RoundTrip) {
  File file = File::parse(write_file(small_object()), "written");
  const Symbol* f = find_symbol(file.symbols(), "f");
  ASSERT_NE(f, nullptr);
  EXPECT_EQ(f->visibility, Visibility::Hidden);
  EXPECT_EQ(f->size, 6);
  auto relocations = file.relocations(file.sections()[f->section]);
  ASSERT_EQ(relocations.size(), 1);
  EXPECT_EQ(file.symbols()[relocations[0].symbol].name, "other");
  EXPECT_EQ(relocations[0].addend, -4);
  const Symbol* b = find_symbol(file.symbols(), "b");
  EXPECT_EQ(b->index, 1);  // locals first
  EXPECT_EQ(file.sections()[b->section].size, 24);
}

// Claim: the same input gives the same bytes.
TEST(WriteObject, Deterministic) {
  EXPECT_EQ(write_file(small_object()), write_file(small_object()));
}

// Claim: readelf and objdump read it without a warning and show names.
TEST(WriteObject, BinutilsLikeIt) {
  Bytes bytes = write_file(small_object());
  inspect(bytes, {"readelf", "-aW"});
  EXPECT_NE(inspect(bytes, {"objdump", "-dr"}).find("R_X86_64_PLT32\tother-0x4"),
            std::string::npos);
}

// Claim: more than 65,279 sections are written so that they are read back, and readelf agrees.
TEST(WriteObject, ManySections) {
  OutFile file;
  for (uint32_t i = 0; i < 66000; ++i) {
    OutSection s;
    s.name = ".rodata.c";
    s.flags = kAlloc;
    s.content = {std::byte(i)};
    file.sections.push_back(std::move(s));
  }
  for (uint32_t i : {3U, 0xfff1U, 65999U}) {
    OutSymbol s;
    s.name = "s" + std::to_string(i);
    s.section = i + 1;
    file.symbols.push_back(s);
  }
  Bytes bytes = write_file(file);
  File read = File::parse(bytes, "written");
  for (uint32_t i : {3U, 0xfff1U, 65999U}) {
    EXPECT_EQ(find_symbol(read.symbols(), "s" + std::to_string(i))->section, i + 1);
  }
  EXPECT_NE(inspect(bytes, {"readelf", "-sW"}).find("66000 s65999"), std::string::npos);
}

OutFile small_image() {
  OutFile file;
  file.type = FileType::SharedObject;
  OutSection text;
  text.name = ".text";
  text.flags = kAlloc | kExec;
  text.alignment = 16;
  text.address = LinkAddr(0x10001000);
  text.offset = FileOffset(0x1000);
  text.content = {std::byte{0xc3}};
  OutSection note;
  note.name = ".note.gnu.build-id";
  note.type = SectionType::Note;
  note.flags = kAlloc;
  note.alignment = 4;
  note.address = LinkAddr(0x10000200);
  note.offset = FileOffset(0x200);
  note.content = encode_note("GNU", kNoteBuildId, as_bytes("0123456789abcdef"));
  file.sections = {note, text};
  file.symbols = {
      {"f", 0x10001000, 1, SymbolType::Func, SymbolBind::Global, Visibility::Default, 2}};
  uint64_t note_size = note.content.size();
  file.segments = {
      {SegmentType::Load, kSegR, FileOffset(0), LinkAddr(0x10000000), 0x1000, 0x1000, 0x1000},
      {SegmentType::Load, kSegR | kSegX, FileOffset(0x1000), LinkAddr(0x10001000), 0x1000, 0x1000,
       0x1000},
      {SegmentType::Note, kSegR, FileOffset(0x200), LinkAddr(0x10000200), note_size, note_size, 4},
  };
  return file;
}

// Claim: an image has its content at the given offsets, its build-id, and is liked by binutils.
TEST(WriteImage, ContentBuildIdAndTools) {
  Bytes bytes = write_file(small_image());
  File file = File::parse(bytes, "image");
  EXPECT_EQ(file.build_id(), "30313233343536373839616263646566");
  std::byte code;
  EXPECT_EQ(FileReader(file).read_some(LinkAddr(0x10001000), {&code, 1}), 1);
  EXPECT_EQ(code, std::byte{0xc3});
  inspect(bytes, {"readelf", "-aW"});
  EXPECT_NE(inspect(bytes, {"objdump", "-d"}).find("10001000 <f>"), std::string::npos);
}

// Claim: content that overlaps, or a symbol in a section that does not exist, is a bug.
TEST(WriteImage, ContradictionsAreBugs) {
  OutFile overlap = small_image();
  overlap.sections[1].offset = FileOffset(0x204);
  EXPECT_THROW(write_file(overlap), Bug);
  OutFile header = small_image();
  header.sections[0].offset = FileOffset(8);
  EXPECT_THROW(write_file(header), Bug);
  OutFile symbol = small_object();
  symbol.symbols[0].section = 3;
  EXPECT_THROW(write_file(symbol), Bug);
  OutFile relocation = small_object();
  relocation.sections[0].relocations[0].symbol = 3;
  EXPECT_THROW(write_file(relocation), Bug);
}

// Claim: raw symbol tables and relocation tables come back as they were.
TEST(RawTables, RoundTrip) {
  std::vector<OutSymbol> symbols = small_object().symbols;
  symbols[0].section = kAbsolute;
  symbols[0].value = 0x401000;
  RawSymtab raw = encode_symtab(symbols);
  auto read = decode_symtab(raw.symbols, raw.strings, "raw");
  ASSERT_EQ(read.size(), 4);
  EXPECT_EQ(read[1].name, "f");
  EXPECT_EQ(read[1].value, 0x401000);
  EXPECT_EQ(read[1].section, kAbsolute);
  EXPECT_EQ(read[3].bind, SymbolBind::Local);
  Bytes rela = encode_rela({{uint64_t{7} << 32 | 5, RelocType::PC32, 3, -4}});
  auto back = decode_rela(rela, "raw");
  ASSERT_EQ(back.size(), 1);
  EXPECT_EQ(back[0].offset, uint64_t{7} << 32 | 5);
  EXPECT_EQ(back[0].symbol, 3);
}

}  // namespace
}  // namespace qp::elf
