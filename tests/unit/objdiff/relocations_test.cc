// Every relocation type that objects have, in code and in data. For each: an object is equal to
// itself, and a reference to another symbol or to another place is found: as a change of the
// function, or by name in a refusal. The assembler resolves some by itself, so what it made is
// checked, and .reloc asks for what it would not make.

#include <gtest/gtest.h>

#include "assembled.h"
#include "objdiff/diff.h"

namespace qp::objdiff {
namespace {

// A unit with a function f that holds `code`, and a table that holds `data`.
std::string unit(const std::string& code, const std::string& data) {
  return ".section .text.f,\"ax\",@progbits\n.globl f\n.type f,@function\nf: " + code +
         "\n ret\n.size f,.-f\n"
         ".section .rodata.table,\"a\",@progbits\n.type table,@object\ntable: .quad 0\n" +
         data +
         "\n.size table,.-table\n"
         ".section .text.reader,\"ax\",@progbits\n.globl reader\n.type reader,@function\n"
         "reader: lea table(%rip),%rax\n ret\n.size reader,.-reader\n"
         ".section .bss.one,\"aw\",@nobits\n.type one,@object\n.size one,64\none: .zero 64\n"
         ".section .bss.two,\"aw\",@nobits\n.type two,@object\n.size two,64\ntwo: .zero 64\n"
         ".section .tbss.t1,\"awT\",@nobits\n.type t1,@object\n.size t1,64\nt1: .zero 64\n"
         ".section .tbss.t2,\"awT\",@nobits\n.type t2,@object\n.size t2,64\nt2: .zero 64\n";
}

struct Found {
  Report report;
  Diff diff;
  // Something about `name` was noticed.
  bool notices(const std::string& name) const {
    for (const Unit& u : diff.units) {
      if (u.name == name && u.fate == Fate::Changed) {
        return true;
      }
    }
    for (const Refusal& r : report.refusals()) {
      if (r.where == name) {
        return true;
      }
    }
    return false;
  }
};

Found compared(const std::string& original, const std::string& patched) {
  Found out;
  elf::AtomGraph a = split_text(original, out.report), b = split_text(patched, out.report);
  out.diff = diff(std::move(a), std::move(b), out.report);
  return out;
}

struct Reference {
  const char* name;
  const char* text;  // %S: the symbol, %A: an addend
  elf::RelocType type;
  bool tls = false;
  bool code = true;
};

std::string filled(std::string text, const std::string& symbol, const std::string& addend) {
  for (size_t at; (at = text.find("%S")) != std::string::npos;) {
    text.replace(at, 2, symbol);
  }
  for (size_t at; (at = text.find("%A")) != std::string::npos;) {
    text.replace(at, 2, addend);
  }
  return text;
}

const Reference kReferences[] = {
    {"PC32", "lea %S%A(%rip),%rax", elf::RelocType::PC32},
    {"PLT32", "call .\n .reloc .-4,R_X86_64_PLT32,%S%A", elf::RelocType::PLT32},
    {"R32S", "mov %S%A(,%rax,8),%rcx", elf::RelocType::R32S},
    {"R32", "mov $%S%A,%ecx", elf::RelocType::R32},
    {"R64", "movabs $%S%A,%rcx", elf::RelocType::R64},
    {"R16", "mov $%S%A,%cx", elf::RelocType::R16},
    {"R8", "mov $%S%A,%cl", elf::RelocType::R8},
    {"PC8", "jrcxz .\n .reloc .-1,R_X86_64_PC8,%S%A", elf::RelocType::PC8},
    {"PC16", "mov $0x1234,%cx\n .reloc .-2,R_X86_64_PC16,%S%A", elf::RelocType::PC16},
    {"PC64", "movabs $0x1234567890,%rcx\n .reloc .-8,R_X86_64_PC64,%S%A", elf::RelocType::PC64},
    {"GOTPCREL", "push %S@GOTPCREL(%rip)", elf::RelocType::GOTPCREL},
    {"GOTPCRELX", "call *%S@GOTPCREL(%rip)", elf::RelocType::GOTPCRELX},
    {"GOTPCRELXTest", "test %eax,%S@GOTPCREL(%rip)", elf::RelocType::GOTPCRELX},
    {"REX_GOTPCRELX", "mov %S@GOTPCREL(%rip),%rax", elf::RelocType::REX_GOTPCRELX},
    {"GOTPCREL64", "movabs $0x1234567890,%rax\n .reloc .-8,R_X86_64_GOTPCREL64,%S",
     elf::RelocType::GOTPCREL64},
    {"GOT32", "mov %S@GOT(%rax),%ecx", elf::RelocType::GOT32},
    {"GOT64", "movabs $%S@GOT,%rax", elf::RelocType::GOT64},
    {"GOTPLT64", "movabs $%S@GOTPLT,%rax", elf::RelocType::GOTPLT64},
    {"GOTOFF64", "movabs $%S@GOTOFF%A,%rax", elf::RelocType::GOTOFF64},
    {"PLTOFF64", "movabs $%S@PLTOFF,%rax", elf::RelocType::PLTOFF64},
    {"SIZE32", "mov $0x12345678,%eax\n .reloc .-4,R_X86_64_SIZE32,%S%A", elf::RelocType::SIZE32},
    {"SIZE64", "movabs $0x1234567890,%rax\n .reloc .-8,R_X86_64_SIZE64,%S%A",
     elf::RelocType::SIZE64},
    {"TPOFF32", "mov %fs:%S@TPOFF%A,%eax", elf::RelocType::TPOFF32, true},
    {"TPOFF64", "movabs $%S@TPOFF%A,%rax", elf::RelocType::TPOFF64, true},
    {"DTPOFF32", "lea %S@DTPOFF%A(%rax),%rax", elf::RelocType::DTPOFF32, true},
    {"DTPOFF64", "movabs $%S@DTPOFF%A,%rax", elf::RelocType::DTPOFF64, true},
    {"GOTTPOFF", "mov %S@GOTTPOFF(%rip),%rax", elf::RelocType::GOTTPOFF, true},
    {"TLSGD", "lea %S@TLSGD(%rip),%rdi", elf::RelocType::TLSGD, true},
    {"TLSLD", "lea %S@TLSLD(%rip),%rdi", elf::RelocType::TLSLD, true},
    {"GOTPC32_TLSDESC", "lea %S@TLSDESC(%rip),%rax", elf::RelocType::GOTPC32_TLSDESC, true},
    {"TLSDESC_CALL", "call *%S@TLSCALL(%rax)", elf::RelocType::TLSDESC_CALL, true},
    {"TrailingImmediate", "movl $5,%S%A(%rip)", elf::RelocType::PC32},
    {"TrailingByte", "cmpb $5,%S%A(%rip)", elf::RelocType::PC32},
    {"Data64", ".quad %S%A", elf::RelocType::R64, false, false},
    {"Data32", ".long %S%A", elf::RelocType::R32, false, false},
    {"Data16", ".short %S%A", elf::RelocType::R16, false, false},
    {"Data8", ".byte %S%A", elf::RelocType::R8, false, false},
    {"DataPC32", ".long %S%A-.", elf::RelocType::PC32, false, false},
    {"DataPC64", ".quad %S%A-.", elf::RelocType::PC64, false, false},
    {"DataPC16", ".short %S%A-.", elf::RelocType::PC16, false, false},
    {"DataPC8", ".byte %S%A-.", elf::RelocType::PC8, false, false},
    {"DataPLT32", ".long 0\n .reloc .-4,R_X86_64_PLT32,%S%A", elf::RelocType::PLT32, false, false},
    {"DataGOTPCREL", ".long %S@GOTPCREL%A", elf::RelocType::GOTPCREL, false, false},
    {"DataGOTOFF64", ".quad %S@GOTOFF%A", elf::RelocType::GOTOFF64, false, false},
    {"DataSIZE32", ".long 0\n .reloc .-4,R_X86_64_SIZE32,%S%A", elf::RelocType::SIZE32, false,
     false},
    {"DataSIZE64", ".quad 0\n .reloc .-8,R_X86_64_SIZE64,%S%A", elf::RelocType::SIZE64, false,
     false},
    {"DataTPOFF64", ".quad %S@TPOFF%A", elf::RelocType::TPOFF64, true, false},
    {"DataDTPOFF64", ".quad %S@DTPOFF%A", elf::RelocType::DTPOFF64, true, false},
    {"DataDTPOFF32", ".long %S@DTPOFF%A", elf::RelocType::DTPOFF32, true, false},
};

class References : public testing::TestWithParam<Reference> {};

// Claim: a reference of this type is equal to itself; another symbol and another place are found.
TEST_P(References, AreCompared) {
  const Reference& r = GetParam();
  const std::string one = r.tls ? "t1" : "one", two = r.tls ? "t2" : "two";
  auto make = [&](const std::string& symbol, const std::string& addend) {
    std::string line = filled(r.text, symbol, addend);
    return r.code ? unit(line, "") : unit("nop", line);
  };
  const std::string original = make(one, "+8"), where = r.code ? "f" : "reader";
  const bool says_where = std::string_view(r.text).find("%A") != std::string_view::npos;
  Found same = compared(original, original);
  EXPECT_FALSE(same.diff.changed());
  EXPECT_TRUE(same.report.clean()) << same.report.refusals().front().detail;
  const elf::Atom& holder =
      same.diff.original.atoms[find(same.diff.original, r.code ? "f" : "table")];
  EXPECT_EQ(holder.refs.at(0).type, r.type) << "the assembler made another type";
  Found other = compared(original, make(two, "+8"));
  EXPECT_TRUE(other.notices(where) || other.notices("table")) << "another symbol";
  if (says_where) {
    Found moved = compared(original, make(one, "+12"));
    EXPECT_TRUE(moved.notices(where) || moved.notices("table")) << "another place";
  }
  Found gone = compared(original, r.code ? unit("nop", "") : unit("nop", ".quad 0"));
  EXPECT_TRUE(gone.notices(where) || gone.notices("table")) << "no reference";
}

INSTANTIATE_TEST_SUITE_P(All, References, testing::ValuesIn(kReferences),
                         [](const auto& test) { return test.param.name; });

// Claim: GOT itself is a thing that code refers to, near (GOTPC32) and far (GOTPC64).
TEST(Relocations, GlobalOffsetTable) {
  for (const char* code : {"lea _GLOBAL_OFFSET_TABLE_(%rip),%rbx",
                           "1: lea 1b(%rip),%rbx\n movabs $_GLOBAL_OFFSET_TABLE_-1b,%r11"}) {
    std::string text = unit(code, "");
    Found same = compared(text, text);
    EXPECT_FALSE(same.diff.changed()) << code;
    EXPECT_TRUE(same.report.clean()) << code;
    std::string other = text;
    other.replace(other.find("_GLOBAL_OFFSET_TABLE_"), 21, "one");
    EXPECT_TRUE(compared(text, other).notices("f")) << code;
  }
}

}  // namespace
}  // namespace qp::objdiff
