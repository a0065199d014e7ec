// Unwind records of object files.

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "compiled.h"
#include "elf/cfi.h"

namespace qp::elf {
namespace {

const FrameRecord* record_of(const File& file, const std::vector<FrameRecord>& records,
                             std::string_view section) {
  for (const FrameRecord& r : records) {
    if (file.sections()[r.section].name == section) {
      return &r;
    }
  }
  return nullptr;
}

class FrameRecordsOf : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Both, FrameRecordsOf, testing::Values("gcc", "clang-14"));

// Claim: each function has one record that covers it exactly.
TEST_P(FrameRecordsOf, EveryFunctionHasARecord) {
  File file = parse_compiled(
      "int o(int); int f(int a) { return o(a) + o(a + 1); }"
      "int g(int a) { return a; }",
      {GetParam(), "-c", "-O2", "-ffunction-sections", "{in}", "-o", "{out}"});
  auto records = read_frame_records(file);
  EXPECT_EQ(records.size(), 2);
  for (const char* name : {"f", "g"}) {
    const Symbol* symbol = find_symbol(file.symbols(), name);
    const FrameRecord* r = record_of(file, records, std::string(".text.") + name);
    ASSERT_NE(r, nullptr);
    EXPECT_EQ(r->offset, symbol->value);
    EXPECT_EQ(r->size, symbol->size);
    EXPECT_FALSE(r->personality);
  }
  // f saves registers, g has nothing to say beyond the CIE.
  EXPECT_FALSE(record_of(file, records, ".text.f")->instructions.empty());
  EXPECT_TRUE(record_of(file, records, ".text.g")->instructions.empty());
}

// Claim: a C++ function with a handler has the relocations of its personality and its LSDA.
TEST_P(FrameRecordsOf, PersonalityAndLsda) {
  File file = parse_compiled(
      "int o(int); int f(int a) { try { return o(a); } catch (int e) {"
      "return e; } }",
      {GetParam(), "-c", "-O2", "-ffunction-sections", "{in}", "-o", "{out}"}, ".cc");
  auto records = read_frame_records(file);
  const FrameRecord* r = record_of(file, records, ".text._Z1fi");
  ASSERT_NE(r, nullptr);
  ASSERT_TRUE(r->personality);
  EXPECT_NE(file.symbols()[r->personality->symbol].name.find("__gxx_personality_v0"),
            std::string::npos);
  ASSERT_TRUE(r->lsda);
  EXPECT_EQ(r->personality->offset, 0);  // position-free
  EXPECT_EQ(r->lsda->offset, 0);
  uint32_t section = file.symbols()[r->lsda->symbol].section;
  EXPECT_TRUE(file.sections()[section].name.starts_with(".gcc_except_table"));
}

// Claim: a zero operand at the end is kept, padding is not.
TEST(FrameRecords, TrimsOnlyPadding) {
  File file = parse_compiled(
      ".text\nf:\n.cfi_startproc\nnop\n.cfi_def_cfa_offset 0\nret\n"
      ".cfi_endproc\n.size f,.-f\n",
      {"as", "{in}", "-o", "{out}"}, ".s");
  auto records = read_frame_records(file);
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(hex(records[0].instructions), "41 0e 00");  // advance 1; def_cfa_offset 0
}

// Claim: equal functions have equal records, wherever they are.
TEST(FrameRecords, PositionFree) {
  File file = parse_compiled(
      "int o(int); int f(int a) { return o(a) + 1; }"
      "int g(int a) { return o(a) + 1; }",
      {"gcc", "-c", "-O2", "{in}", "-o", "{out}"});
  auto records = read_frame_records(file);
  ASSERT_EQ(records.size(), 2);
  EXPECT_NE(records[0].offset, records[1].offset);
  EXPECT_EQ(records[0].cie, records[1].cie);
  EXPECT_EQ(records[0].instructions, records[1].instructions);
}

// Claim: a relocation that no record accounts for is an error.
TEST(FrameRecords, UnknownRelocationIsRefused) {
  File file = parse_compiled(
      ".text\nf: ret\n.section .eh_frame,\"a\",@progbits\n.long 0\n"
      ".quad f\n",
      {"as", "{in}", "-o", "{out}"}, ".s");
  EXPECT_THROW(read_frame_records(file), Error);
}

}  // namespace
}  // namespace qp::elf
