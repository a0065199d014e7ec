// Hostile files: every answer is a value or an Error.
//
// The sweeps mean most under ASan and UBSan (preset dev), where a read outside is a failure.

#include <gtest/gtest.h>

#include "base/error.h"
#include "compiled.h"
#include "elf/cfi.h"
#include "elf/object_writer.h"
#include "exercise.h"

namespace qp::elf {
namespace {

Bytes small_object() {
  return compile("int o(int); static int n; int f(int a) { return o(a) + ++n; }",
                 {"gcc", "-c", "-O2", "-ffunction-sections", "{in}", "-o", "{out}"});
}

Bytes small_program() {
  // A shared object without start files is small enough to try every byte of it.
  return compile("int puts(const char*); int f(int a) { return puts(\"a\") + a; }",
                 {"gcc", "-O2", "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,x.so",
                  "-Wl,-z,noseparate-code", "-Wl,--build-id", "-s", "{in}", "-o", "{out}"});
}

void sweep_lengths(const Bytes& whole) {
  for (size_t length = 0; length < whole.size(); ++length) {
    exercise(ByteView(whole).first(length));
  }
}

// Values that have a way of being wrong: signs, carries, large counts.
void sweep_bytes(Bytes bytes) {
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::byte old = bytes[at];
    for (int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      bytes[at] = static_cast<std::byte>(value);
      exercise(bytes);
    }
    bytes[at] = old;
  }
}

// Claim: an object cut off anywhere is an error or a value, never a crash.
TEST(Malformed, TruncatedObject) {
  sweep_lengths(small_object());
}

// Claim: a library cut off anywhere is an error or a value, never a crash.
TEST(Malformed, TruncatedLibrary) {
  sweep_lengths(small_program());
}

// Claim: an object with any byte changed is an error or a value, never a crash.
TEST(Malformed, CorruptedObject) {
  sweep_bytes(small_object());
}

// Claim: a library with any byte changed is an error or a value, never a crash.
TEST(Malformed, CorruptedLibrary) {
  sweep_bytes(small_program());
}

void expect_bad(const Bytes& bytes, std::string_view message) {
  try {
    File::parse(bytes, "hostile");
    ADD_FAILURE() << "it was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "bad-file");
    EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << e.what();
  }
}

OutFile one_symbol() {
  OutFile file;
  OutSection data;
  data.name = ".data";
  data.flags = kAlloc | kWrite;
  data.content.resize(8);
  file.sections = {data};
  file.symbols = {{"x", 0, 8, SymbolType::Object, SymbolBind::Global, Visibility::Default, 1}};
  return file;
}

// Claim: a symbol that reaches out of its section is refused when the object is opened.
TEST(Malformed, SymbolOutsideOfSection) {
  OutFile file = one_symbol();
  file.symbols[0].value = 1;
  expect_bad(write_file(file), "'x' is outside");
  file.symbols[0].value = ~uint64_t{0};
  expect_bad(write_file(file), "'x' is outside");
}

// Claim: a symbol of an unknown type or binding is refused.
TEST(Malformed, UnknownSymbolType) {
  OutFile file = one_symbol();
  file.symbols[0].type = static_cast<SymbolType>(12);
  expect_bad(write_file(file), "unknown type 12");
  file = one_symbol();
  file.symbols[0].bind = static_cast<SymbolBind>(14);
  expect_bad(write_file(file), "unknown binding 14");
}

// Claim: a relocation that reaches out of its section is refused.
TEST(Malformed, RelocationOutsideOfSection) {
  OutFile file = one_symbol();
  file.sections[0].relocations = {{5, RelocType::R32, 0, 0}};
  File read = File::parse(write_file(file), "hostile");
  EXPECT_THROW(read.relocations(*read.find_section(".data")), Error);
}

// Claim: a count of section headers that the file can't hold allocates nothing.
TEST(Malformed, ImpossibleSectionCount) {
  Bytes bytes = write_file(one_symbol());
  store(ByteSpan(bytes), 60, uint16_t{0});  // e_shnum 0: the count is in section 0
  auto table = load<uint64_t>(bytes, 40);
  store(ByteSpan(bytes), table + 32, uint64_t{1} << 60);  // sh_size of section 0
  expect_bad(bytes, "section headers do not fit");
}

// Claim: a million symbols with one very long name are refused before they fill the memory.
TEST(Malformed, ManyLongNames) {
  OutFile file = one_symbol();
  OutSymbol symbol = file.symbols[0];
  symbol.name = std::string(1 << 20, 'n');
  file.symbols.assign(2000, symbol);
  expect_bad(write_file(file), "implausibly long");
}

// Claim: notes with sizes that overflow end the search for a build-id.
TEST(Malformed, Notes) {
  Bytes note = encode_note("GNU", kNoteBuildId, as_bytes("0123"));
  EXPECT_EQ(find_build_id(note), "30313233");
  for (uint32_t size : {0xffffffffU, 0xfffffffcU, 0x7fffffffU, 65U, 64U, 8U}) {
    Bytes bad = note;
    store(ByteSpan(bad), 4, size);
    EXPECT_EQ(find_build_id(bad), std::nullopt);
    bad = note;
    store(ByteSpan(bad), 0, size);
    EXPECT_EQ(find_build_id(bad), std::nullopt);
  }
}

}  // namespace
}  // namespace qp::elf
