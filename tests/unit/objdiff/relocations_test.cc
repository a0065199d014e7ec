// Every relocation type that objects have, in code and in data, and instructions of every encoding
// that compilers use. For each: an object is equal to itself, and a reference to another symbol, to
// another place or of another kind is found: as a change of the function, or by name in a refusal.

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
    {"PC32", "lea %S%A(%rip),%rax"},
    {"PLT32", "call %S%A@PLT"},
    {"R32S", "mov %S%A(,%rax,8),%rcx"},
    {"R32", "mov $%S%A,%ecx"},
    {"R64", "movabs $%S%A,%rcx"},
    {"R16", "mov $%S%A,%cx"},
    {"R8", "mov $%S%A,%cl"},
    {"GOTPCREL", "push %S@GOTPCREL(%rip)"},
    {"GOTPCRELX", "call *%S@GOTPCREL(%rip)"},
    {"REX_GOTPCRELX", "mov %S@GOTPCREL(%rip),%rax"},
    {"GOTOFF64", "movabs $%S@GOTOFF,%rax"},
    {"SIZE32", "mov $%S@SIZE,%eax"},
    {"TPOFF32", "mov %fs:%S@TPOFF%A,%eax", true},
    {"TPOFF64", "movabs $%S@TPOFF%A,%rax", true},
    {"DTPOFF32", "lea %S@DTPOFF%A(%rax),%rax", true},
    {"GOTTPOFF", "mov %S@GOTTPOFF(%rip),%rax", true},
    {"TLSGD", "lea %S@TLSGD(%rip),%rdi", true},
    {"TLSLD", "lea %S@TLSLD(%rip),%rdi", true},
    {"TLSDESC", "lea %S@TLSDESC(%rip),%rax\n call *%S@TLSCALL(%rax)", true},
    {"TrailingImmediate", "movl $5,%S%A(%rip)"},
    {"TrailingByte", "cmpb $5,%S%A(%rip)"},
    {"Data64", ".quad %S%A", false, false},
    {"Data32", ".long %S%A", false, false},
    {"DataPC32", ".long %S%A-.", false, false},
    {"DataPC64", ".quad %S%A-.", false, false},
    {"DataGOTOFF64", ".quad %S@GOTOFF", false, false},
    {"DataSIZE64", ".quad %S@SIZE", false, false},
    {"DataDTPOFF64", ".quad %S@DTPOFF", true, false},
    {"DataDTPOFF32", ".long %S@DTPOFF", true, false},
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
  // SIZE is of the symbol, and both have 64 bytes; any other says who is meant.
  const bool says_who = std::string_view(r.text).find("@SIZE") == std::string_view::npos;
  const bool says_where = std::string_view(r.text).find("%A") != std::string_view::npos;
  Found same = compared(original, original);
  EXPECT_FALSE(same.diff.changed());
  EXPECT_TRUE(same.report.clean()) << same.report.refusals().front().detail;
  if (says_who) {
    Found other = compared(original, make(two, "+8"));
    EXPECT_TRUE(other.notices(where) || other.notices("table")) << "another symbol";
  }
  if (says_where) {
    Found moved = compared(original, make(one, "+12"));
    EXPECT_TRUE(moved.notices(where) || moved.notices("table")) << "another place";
  }
  Found gone = compared(original, r.code ? unit("nop", "") : unit("nop", ".quad 0"));
  EXPECT_TRUE(gone.notices(where) || gone.notices("table")) << "no reference";
}

INSTANTIATE_TEST_SUITE_P(All, References, testing::ValuesIn(kReferences),
                         [](const auto& test) { return test.param.name; });

// Claim: GOT itself is a thing that code refers to.
TEST(Relocations, GlobalOffsetTable) {
  std::string text = unit("lea _GLOBAL_OFFSET_TABLE_(%rip),%rbx", "");
  Found same = compared(text, text);
  EXPECT_FALSE(same.diff.changed());
  EXPECT_TRUE(compared(text, unit("lea one(%rip),%rbx", "")).notices("f"));
}

struct Code {
  const char* name;
  const char* original;
  const char* patched;
};

const Code kCode[] = {
    {"Legacy", "add $5,%eax", "add $6,%eax"},
    {"Sse", "addps %xmm1,%xmm2", "addps %xmm3,%xmm2"},
    {"Sse4", "pblendw $5,%xmm1,%xmm2", "pblendw $7,%xmm1,%xmm2"},
    {"Avx", "vaddpd %ymm1,%ymm2,%ymm3", "vaddpd %ymm1,%ymm4,%ymm3"},
    {"Avx2", "vpgatherdd %ymm1,(%rax,%ymm2,4),%ymm3", "vpgatherdd %ymm1,(%rax,%ymm2,8),%ymm3"},
    {"Fma", "vfmadd213sd %xmm1,%xmm2,%xmm3", "vfmadd231sd %xmm1,%xmm2,%xmm3"},
    {"Avx512", "vaddps %zmm1,%zmm2,%zmm3{%k1}{z}", "vaddps %zmm1,%zmm2,%zmm3{%k1}"},
    {"Avx512Mask", "vpcmpud $1,%zmm1,%zmm2,%k3{%k4}", "vpcmpud $1,%zmm1,%zmm2,%k3{%k5}"},
    {"Avx512Broadcast", "vaddps 64(%rax){1to16},%zmm2,%zmm3", "vaddps 64(%rax),%zmm2,%zmm3"},
    {"Avx512Rounding", "vaddps {rn-sae},%zmm1,%zmm2,%zmm3", "vaddps {rz-sae},%zmm1,%zmm2,%zmm3"},
    {"Avx512High", "vpaddd %zmm17,%zmm18,%zmm19", "vpaddd %zmm17,%zmm18,%zmm20"},
    {"Avx512Disp8", "vmovups 0x40(%rax),%zmm1", "vmovups 0x80(%rax),%zmm1"},
    {"Avx512Fp16", "vaddph %zmm1,%zmm2,%zmm3", "vsubph %zmm1,%zmm2,%zmm3"},
    {"Vnni", "vpdpbusd %zmm1,%zmm2,%zmm3", "vpdpbusds %zmm1,%zmm2,%zmm3"},
    {"Amx", "tdpbssd %tmm1,%tmm2,%tmm3", "tdpbssd %tmm1,%tmm2,%tmm4"},
    {"AmxLoad", "tileloadd (%rax,%rbx,1),%tmm1", "tileloaddt1 (%rax,%rbx,1),%tmm1"},
    {"Bmi", "pext %rax,%rbx,%rcx", "pdep %rax,%rbx,%rcx"},
    {"Aes", "vaesenc %zmm1,%zmm2,%zmm3", "vaesenclast %zmm1,%zmm2,%zmm3"},
    {"X87", "fldl 8(%rax)", "flds 8(%rax)"},
    {"Lock", "lock xadd %eax,(%rdx)", "xadd %eax,(%rdx)"},
    {"Rep", "rep movsb", "repne movsb"},
    {"Segment", "mov %fs:40,%rax", "mov %gs:40,%rax"},
    {"Cet", "endbr64", "endbr32"},
    {"Enter", "enter $16,$1", "enter $16,$2"},
};

class Instructions : public testing::TestWithParam<Code> {};

// Claim: an instruction of this encoding is equal to itself, and another operand is a change.
TEST_P(Instructions, AreCompared) {
  const Code& c = GetParam();
  // A rip-relative reference behind it shows that its length is known.
  const std::string tail = "\n lea one(%rip),%rax\n jz 1f\n nop\n1: dec %eax";
  Found same =
      compared(unit(c.original + tail, ""), unit("nopw 8(%rax)\n " + (c.original + tail), ""));
  EXPECT_FALSE(same.diff.changed());
  EXPECT_TRUE(same.report.clean());
  EXPECT_TRUE(compared(unit(c.original + tail, ""), unit(c.patched + tail, "")).notices("f"));
}

INSTANTIATE_TEST_SUITE_P(All, Instructions, testing::ValuesIn(kCode),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace qp::objdiff
