// Unwind rules of linked files.

#include "elf/cfi.h"

#include <dwarf.h>
#include <gtest/gtest.h>

#include "compiled.h"

namespace qp::elf {
namespace {

constexpr const char* kProgram = R"(
int o(int a) { return a; }
int f(int a) { int b[9]; b[a] = a; __asm__ volatile("" ::"r"(b) : "memory"); return o(b[3]); }
int main(void) { return f(1); }
)";

std::shared_ptr<const File> program(std::vector<std::string> more = {}) {
  std::vector<std::string> command{"gcc", "-O1", "-fno-omit-frame-pointer", "{in}", "-o", "{out}"};
  command.insert(command.end(), more.begin(), more.end());
  return std::make_shared<const File>(parse_compiled(kProgram, command));
}

void expect_entry_rules(const FrameRules& rules) {
  // At a function's entry: CFA = rsp + 8, return address at CFA − 8.
  ASSERT_FALSE(rules.cfa.empty());
  EXPECT_EQ(rules.cfa[0].atom, DW_OP_bregx);
  EXPECT_EQ(rules.cfa[0].number, kDwarfRsp);
  EXPECT_EQ(rules.cfa[0].number2, 8);
  const RegisterRule& ra = rules.registers[kDwarfReturn];
  EXPECT_EQ(ra.kind, RegisterRule::Kind::AtAddress);
  ASSERT_EQ(ra.ops.size(), 1);
  EXPECT_EQ(ra.ops[0].atom, DW_OP_plus_uconst);
  EXPECT_EQ(static_cast<int64_t>(ra.ops[0].number), -8);
}

// Claim: the rules at a function's first instruction are the psABI's, and its range is its
// symbol's.
TEST(CfiTable, EntryOfAFunction) {
  auto file = program();
  CfiTable table = CfiTable::from_file(file);
  const Symbol* f = find_symbol(file->symbols(), "f");
  auto rules = table.find_rules(LinkAddr(f->value));
  ASSERT_TRUE(rules);
  expect_entry_rules(*rules);
  EXPECT_EQ(rules->registers[kDwarfRbp].kind, RegisterRule::Kind::SameValue);
  EXPECT_EQ(table.find_range(LinkAddr(f->value + 1)),
            (LinkRange{LinkAddr(f->value), LinkAddr(f->value + f->size)}));
}

// Claim: after push %rbp the caller's rbp is on the stack.
TEST(CfiTable, AfterPush) {
  auto file = program({"-fcf-protection=none"});
  CfiTable table = CfiTable::from_file(file);
  const Symbol* f = find_symbol(file->symbols(), "f");
  auto rules = table.find_rules(LinkAddr(f->value + 1));
  ASSERT_TRUE(rules);
  EXPECT_EQ(rules->registers[kDwarfRbp].kind, RegisterRule::Kind::AtAddress);
}

// Claim: _start is known as outermost: its return address is undefined.
TEST(CfiTable, StartIsOutermost) {
  auto file = program();
  CfiTable table = CfiTable::from_file(file);
  auto rules = table.find_rules(file->entry());
  ASSERT_TRUE(rules);
  EXPECT_EQ(rules->registers[kDwarfReturn].kind, RegisterRule::Kind::Undefined);
}

// Claim: a file without section headers is unwound through PT_GNU_EH_FRAME.
TEST(CfiTable, WithoutSectionHeaders) {
  auto whole = program();
  Bytes bytes = copy(whole->bytes());
  store(ByteSpan(bytes), 40, uint64_t{0});
  store(ByteSpan(bytes), 60, uint32_t{0});
  auto file = std::make_shared<const File>(File::parse(bytes, "headless"));
  CfiTable table = CfiTable::from_file(file);
  const Symbol* f = find_symbol(whole->symbols(), "f");
  auto rules = table.find_rules(LinkAddr(f->value));
  ASSERT_TRUE(rules);
  expect_entry_rules(*rules);
}

// Claim: where .eh_frame is silent, .debug_frame is asked.
TEST(CfiTable, DebugFrame) {
  auto file = program({"-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"});
  CfiTable table = CfiTable::from_file(file);
  const Symbol* f = find_symbol(file->symbols(), "f");
  EXPECT_TRUE(table.find_rules(LinkAddr(f->value)));
}

// Claim: an address that no record covers has no rules.
TEST(CfiTable, NothingCoversData) {
  auto file = program();
  CfiTable table = CfiTable::from_file(file);
  EXPECT_FALSE(table.find_rules(LinkAddr(0x10)));
  EXPECT_FALSE(table.find_range(LinkAddr(0x10)));
}

// Claim: libc's signal return trampoline is a signal frame.
TEST(CfiTable, SignalFrame) {
  auto libc = std::make_shared<const File>(File::open("/lib/x86_64-linux-gnu/libc.so.6"));
  CfiTable table = CfiTable::from_file(libc);
  // __restore_rt: 48 c7 c0 0f 00 00 00 mov $15,%rax; 0f 05 syscall
  const unsigned char code[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
  const Section* text = libc->find_section(".text");
  std::string_view bytes = as_text(libc->content(*text));
  size_t at = bytes.find(std::string_view(reinterpret_cast<const char*>(code), sizeof code));
  ASSERT_NE(at, std::string_view::npos);
  auto rules = table.find_rules(text->address + at);
  ASSERT_TRUE(rules);
  EXPECT_TRUE(rules->signal_frame);
}

}  // namespace
}  // namespace qp::elf
