// The diff on objects whose every byte the test decides: what counts as the same, what does not,
// and that law 1 is checked by other means than the diff's own.

#include "objdiff/diff.h"

#include <gtest/gtest.h>

#include "assembled.h"

namespace qp::objdiff {
namespace {

const char* const kFunction = R"(
  .section .text.f,"ax",@progbits
  .globl f
  .type f,@function
f:
)";

std::string function(const std::string& body) {
  return kFunction + body + "\n.size f,.-f\n";
}

struct Found {
  Report report;
  Diff diff;
  Fate fate(const std::string& name) const {
    for (const Unit& u : diff.units) {
      if (u.name == name) {
        return u.fate;
      }
    }
    ADD_FAILURE() << "no unit " << name;
    return Fate::Same;
  }
  bool refuses(const std::string& id) const {
    for (const Refusal& r : report.refusals()) {
      if (r.id == id) {
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

// What is the same must also be explained; what changed may be refused for other reasons.
Fate fate_of_f(const std::string& original, const std::string& patched) {
  Found found = compared(function(original), function(patched));
  EXPECT_FALSE(found.refuses("diff-unexplained"));
  return found.fate("f");
}

// Claim: a jump that is wide in one version and narrow in the other is the same.
TEST(Compare, JumpWidth) {
  EXPECT_EQ(fate_of_f("jmp .L1\n incl %eax\n .L1: ret", "jmp.d32 .L1\n incl %eax\n .L1: ret"),
            Fate::Same);
}

// Claim: a jump to another instruction is a change.
TEST(Compare, JumpTarget) {
  EXPECT_EQ(fate_of_f("jmp .L1\n incl %eax\n .L1: ret", "jmp .L1\n .L1: incl %eax\n ret"),
            Fate::Changed);
}

// Claim: alignment NOPs do not count, on either side.
TEST(Compare, Nops) {
  EXPECT_EQ(fate_of_f("incl %eax\n nop\n .L1: decl %ebx\n jne .L1\n ret",
                      "incl %eax\n .p2align 4\n .L1: decl %ebx\n jne .L1\n nop\n ret"),
            Fate::Same);
}

// Claim: another immediate is a change, and the first difference shows both.
TEST(Compare, Immediate) {
  Found found = compared(function("movl $1,%eax\n ret"), function("movl $2,%eax\n ret"));
  EXPECT_EQ(found.fate("f"), Fate::Changed);
  EXPECT_EQ(found.diff.units[0].first_difference->what, "mov $0x1,%eax → mov $0x2,%eax");
}

// Claim: bytes under a relocated field do not count, the reference does.
TEST(Compare, RelocatedField) {
  EXPECT_EQ(fate_of_f("call g\n ret", "call g\n ret"), Fate::Same);
  EXPECT_EQ(fate_of_f("call g\n ret", "call h\n ret"), Fate::Changed);
  EXPECT_EQ(fate_of_f("movl x(%rip),%eax\n ret", "movl x+4(%rip),%eax\n ret"), Fate::Changed);
}

// Claim: PC32 and PLT32 to one function are the same call.
TEST(Compare, CallForms) {
  EXPECT_EQ(fate_of_f("call g\n ret", ".byte 0xe8\n .long g-.-4\n ret"), Fate::Same);
}

// Claim: a missing relocation is a change even if the bytes are equal.
TEST(Compare, RelocationMissing) {
  EXPECT_EQ(fate_of_f("call g\n ret", ".byte 0xe8,0,0,0,0\n ret"), Fate::Changed);
}

// Claim: equal instructions with other unwind rules are a change.
TEST(Compare, UnwindRules) {
  std::string a =
      ".cfi_startproc\n push %rbx\n .cfi_adjust_cfa_offset 8\n pop %rbx\n ret\n.cfi_endproc";
  std::string b =
      ".cfi_startproc\n push %rbx\n .cfi_adjust_cfa_offset 16\n pop %rbx\n ret\n.cfi_endproc";
  EXPECT_EQ(fate_of_f(a, a), Fate::Same);
  EXPECT_EQ(fate_of_f(a, b), Fate::Changed);
}

// Claim: unwind rules that hold from the same instruction are the same, whatever its distance.
TEST(Compare, UnwindRulesBehindWideJump) {
  auto text = [](const std::string& jump) {
    return ".cfi_startproc\n " + jump +
           " .L1\n push %rbx\n .cfi_adjust_cfa_offset 8\n pop %rbx\n"
           " .cfi_adjust_cfa_offset -8\n .L1: ret\n .cfi_endproc";
  };
  EXPECT_EQ(fate_of_f(text("jne"), text("jne.d32")), Fate::Same);
}

// Claim: code that goes on where the other version ends is a change, either way.
TEST(Compare, OneEndsEarlier) {
  EXPECT_EQ(fate_of_f("incl %eax\n ret", "incl %eax\n ret\n decl %eax\n ret"), Fate::Changed);
  EXPECT_EQ(fate_of_f("incl %eax\n ret\n decl %eax\n ret", "incl %eax\n ret"), Fate::Changed);
}

// Claim: a jump table that leads to the same instructions is the same, whatever their distance.
TEST(Compare, TableBehindWideJump) {
  auto text = [](const std::string& jump) {
    return jump +
           " .L1\n lea .LT(%rip),%rax\n .L1: incl %eax\n .L2: ret\n"
           ".section .rodata.f,\"a\"\n.LT: .long .L1-.LT, .L2-.LT, .L1-.LT, .L2-.LT\n"
           ".section .text.f";
  };
  EXPECT_EQ(fate_of_f(text("jne"), text("jne.d32")), Fate::Same);
}

// Claim: code that can't be decoded is compared byte by byte.
TEST(Compare, Undecodable) {
  EXPECT_EQ(fate_of_f(".byte 6,1\n ret", ".byte 6,1\n ret"), Fate::Same);
  EXPECT_EQ(fate_of_f(".byte 6,1\n ret", ".byte 6,2\n ret"), Fate::Changed);
}

const char* const kTables = R"(
  .section .rodata,"a"
.LC0: .long 1,2,3
.LC1: .long 4,5,6
)";
std::string tables(const std::string& first, const std::string& second) {
  return ".section .rodata,\"a\"\n.LC0: .long " + first + "\n.LC1: .long " + second + "\n";
}

// Claim: a pointer to the end of changed anonymous data makes its function change.
TEST(Runs, EndPointer) {
  std::string f = function("lea .LC1(%rip),%rax\n ret");
  EXPECT_EQ(compared(f + tables("1,2,3", "4,5,6"), f + tables("1,2,9", "4,5,6")).fate("f"),
            Fate::Changed);
}

// Claim: a load from exactly there is no end pointer.
TEST(Runs, DirectLoad) {
  std::string f = function("movl .LC1(%rip),%eax\n ret");
  Found found = compared(f + tables("1,2,3", "4,5,6"), f + tables("1,2,9", "4,5,6"));
  EXPECT_EQ(found.fate("f"), Fate::Same);
  EXPECT_TRUE(found.refuses("diff-unexplained"));  // nobody uses what changed
}

// Claim: a pointer into the interior could mean the next neighbour with a negative index.
TEST(Runs, Interior) {
  std::string f = function("lea .LC0+4(%rip),%rax\n ret");
  EXPECT_EQ(compared(f + tables("1,2,3", "4,5,6"), f + tables("1,2,3", "4,5,7")).fate("f"),
            Fate::Changed);
}

// Claim: the whole run travels with what is used of it.
TEST(Runs, TravelTogether) {
  Found found = compared(function("lea .LC0(%rip),%rax\n ret") + kTables,
                         function("lea .LC0(%rip),%rcx\n ret") + kTables);
  EXPECT_EQ(found.diff.included.size(), 3u);
}

std::string variable(const std::string& name, const std::string& value) {
  return ".section .data." + name + ",\"aw\"\n.type " + name + ",@object\n.size " + name + ",4\n" +
         name + ": .long " + value + "\n";
}

// Claim: two variables of one stem in one changed function are ambiguous.
TEST(Correlate, AmbiguousState) {
  std::string data = variable("a.1", "0") + variable("a.2", "0");
  std::string other = variable("a.7", "0") + variable("a.8", "0");
  EXPECT_TRUE(compared(function("incl a.1(%rip)\n incl a.2(%rip)\n ret") + data,
                       function("incl a.8(%rip)\n decl a.7(%rip)\n ret") + other)
                  .refuses("state-ambiguous"));
}

// Claim: in unchanged code they are told apart by position, though all numbers are swapped.
TEST(Correlate, ByPosition) {
  std::string data = variable("a.1", "0") + variable("a.2", "0");
  Found found = compared(function("incl a.1(%rip)\n incl a.2(%rip)\n ret") + data,
                         function("incl a.2(%rip)\n incl a.1(%rip)\n ret") + data);
  EXPECT_EQ(found.fate("f"), Fate::Same);
  EXPECT_EQ(found.diff.patched_of[find(found.diff.original, "a.1")],
            find(found.diff.patched, "a.2"));
  EXPECT_TRUE(found.report.clean());
}

// Claim: writable data without a name is told apart by its users when other such data comes, and
// keeps its state; what they do not tell apart is ambiguous.
TEST(Correlate, StateWithoutName) {
  std::string one = ".data\n.Lone: .quad 5\n", two = ".data\n.Ltwo: .quad 6\n.Lone: .quad 5\n";
  auto user = [](const std::string& name, const std::string& of) {
    return ".section .text." + name + ",\"ax\"\n.type " + name + ",@function\n" + name + ": incq " +
           of + "(%rip)\n ret\n.size " + name + ",.-" + name + "\n";
  };
  std::string f = function("incq .Lone(%rip)\n ret");
  Found found = compared(f + one, f + user("g", ".Ltwo") + two);
  EXPECT_EQ(found.fate("f"), Fate::Same);
  EXPECT_EQ(found.fate("g"), Fate::New);
  EXPECT_TRUE(found.report.clean());
  EXPECT_TRUE(compared(f + one, function("incq .Lone(%rip)\n incq .Ltwo(%rip)\n ret") + two)
                  .refuses("state-ambiguous"));
}

// Claim: a pair of clones that only their numbers made says nothing about the state that they use:
// when the numbers change places, no variable is handed to the other.
TEST(Correlate, NumbersSayNothingAboutState) {
  auto clone = [](const std::string& name, const std::string& step, const std::string& state) {
    return ".section .text." + name + ",\"ax\"\n.type " + name + ",@function\n" + name +
           ": addl $" + step + "," + state + "(%rip)\n ret\n.size " + name + ",.-" + name + "\n";
  };
  std::string data = variable("a.1", "0") + variable("a.2", "0");
  std::string before = function("call c.lto_priv.0\n call c.lto_priv.1\n ret") +
                       clone("c.lto_priv.0", "10", "a.1") + clone("c.lto_priv.1", "20", "a.2") +
                       data;
  // The first is the second now; both changed, and so did their caller.
  std::string after = function("call c.lto_priv.1\n call c.lto_priv.0\n nop\n inc %eax\n ret") +
                      clone("c.lto_priv.1", "11", "a.1") + clone("c.lto_priv.0", "21", "a.2") +
                      data;
  Found found = compared(before, after);
  EXPECT_TRUE(found.refuses("state-ambiguous"));
  EXPECT_EQ(found.diff.patched_of[find(found.diff.original, "a.1")], std::nullopt);
}

std::string callback(const std::string& name, const std::string& value) {
  return ".section .text." + name + ",\"ax\"\n.type " + name + ",@function\n" + name + ": mov $" +
         value + ",%eax\n ret\n.size " + name + ",.-" + name + "\n";
}
const char* const kCallbacks =
    ".section .data.hooks,\"aw\"\n.type hooks,@object\n.size hooks,16\n"
    "hooks: .quad cb.lto_priv.0, cb.lto_priv.1\n";

// Claim: namesakes whose addresses are kept are never paired by their numbers: a pointer to the one
// would lead to the other. If code does not tell them apart either, it is a refusal.
TEST(Correlate, NamesakesWithPointers) {
  std::string before =
      callback("cb.lto_priv.0", "10") + callback("cb.lto_priv.1", "20") + kCallbacks;
  std::string swapped =
      callback("cb.lto_priv.1", "11") + callback("cb.lto_priv.0", "21") + kCallbacks;
  Found found = compared(before, swapped);
  EXPECT_TRUE(found.refuses("initialiser-changed"));
  // One that is the same decides about the other.
  std::string one = callback("cb.lto_priv.1", "11") + callback("cb.lto_priv.0", "20") +
                    ".section .data.hooks,\"aw\"\n.type hooks,@object\n.size hooks,16\n"
                    "hooks: .quad cb.lto_priv.1, cb.lto_priv.0\n";
  Found right = compared(before, one);
  EXPECT_EQ(right.diff.patched_of[find(right.diff.original, "cb.lto_priv.0")],
            find(right.diff.patched, "cb.lto_priv.1"));
  EXPECT_TRUE(right.report.clean());
}

// Claim: clones that are only called may go by their numbers.
TEST(Correlate, ClonesByNumber) {
  auto unit = [](const char* first, const char* second) {
    return function("call c.constprop.0\n call c.constprop.1\n ret") +
           callback("c.constprop.0", first) + callback("c.constprop.1", second);
  };
  Found found = compared(unit("1", "2"), unit("3", "4"));
  EXPECT_EQ(found.fate("c.constprop.0"), Fate::Changed);
  EXPECT_EQ(found.fate("c.constprop.1"), Fate::Changed);
  EXPECT_EQ(found.fate("f"), Fate::Same);
}

// Claim: a clone that comes or goes is a new or removed function, and its user changes; clones of
// another kind are other functions.
TEST(Correlate, ClonesComeAndGo) {
  std::string whole = function("call h\n ret") + callback("h", "1");
  std::string cloned =
      function("call h.constprop.0\n ret") + callback("h", "1") + callback("h.constprop.0", "1");
  Found came = compared(whole, cloned), went = compared(cloned, whole);
  EXPECT_EQ(came.fate("f"), Fate::Changed);
  EXPECT_EQ(came.fate("h"), Fate::Same);
  EXPECT_EQ(came.fate("h.constprop.0"), Fate::New);
  EXPECT_EQ(went.fate("f"), Fate::Changed);
  EXPECT_EQ(went.fate("h.constprop.0"), Fate::Removed);
  EXPECT_TRUE(came.report.clean() && went.report.clean());
  Found other = compared(function("call h.isra.0\n ret") + callback("h.isra.0", "1"),
                         function("call h.part.0\n ret") + callback("h.part.0", "1"));
  EXPECT_EQ(other.fate("h.part.0"), Fate::New);
  EXPECT_EQ(other.fate("h.isra.0"), Fate::Removed);
  EXPECT_EQ(other.fate("f"), Fate::Changed);
}

// Claim: an unknown relocation is compared, and refused only if the patch needs it.
TEST(Closure, UnknownRelocation) {
  elf::AtomGraph a, b;
  Report report;
  a = split_text(function("movl $1,%eax\n call g\n ret"), report);
  b = split_text(function("movl $1,%eax\n call g\n ret"), report);
  a.atoms[0].refs[0].type = b.atoms[0].refs[0].type = static_cast<elf::RelocType>(77);
  Report kept;
  EXPECT_FALSE(diff(a, b, kept).changed());
  EXPECT_TRUE(kept.clean());
  b.atoms[0].bytes[1] = std::byte{2};
  Report refused;
  EXPECT_TRUE(diff(a, b, refused).changed());
  ASSERT_FALSE(refused.clean());
  EXPECT_EQ(refused.refusals()[0].id, "reloc-unknown");
}

// Claim: a COMDAT function that stays may be there, one that changes is refused.
TEST(Closure, Comdat) {
  auto text = [](const std::string& body) {
    return ".section .text.c,\"axG\",@progbits,c,comdat\n.weak c\n.type c,@function\nc: " + body +
           "\n ret\n.size c,.-c\n";
  };
  EXPECT_TRUE(compared(text("incl %eax") + function("call c\n ret"),
                       text("incl %eax") + function("call c\n incl %eax\n ret"))
                  .report.clean());
  EXPECT_TRUE(compared(text("incl %eax"), text("decl %eax")).refuses("comdat-unsupported"));
}

// Claim: an indirect function whose resolver changes is refused.
TEST(Closure, Ifunc) {
  auto text = [](const std::string& body) {
    return ".section .text.i,\"ax\"\n.globl i\n.type i,@gnu_indirect_function\ni: " + body +
           "\n ret\n.size i,.-i\n";
  };
  EXPECT_TRUE(compared(text("incl %eax"), text("incl %eax")).report.clean());
  EXPECT_TRUE(compared(text("incl %eax"), text("decl %eax")).refuses("ifunc-unsupported"));
}

// Claim: code without a symbol that changes is refused.
TEST(Closure, CodeWithoutSymbol) {
  EXPECT_TRUE(compared(function("ret") + ".size f,1\n incl %eax\n ret",
                       function("ret") + ".size f,1\n decl %eax\n ret")
                  .refuses("file-scope-asm"));
}

// Refusal: object-unsupported
// Claim: a new element of a section that the program walks is refused.
TEST(Closure, LinkerSet) {
  std::string element = ".section commands,\"aw\"\n.type c,@object\n.size c,8\nc: .quad 1\n";
  EXPECT_TRUE(compared(function("ret"), function("ret") + element).refuses("object-unsupported"));
}

// Claim: a jump table of a changed function that unchanged code reads is refused.
TEST(State, LabelTableOfOthers) {
  auto text = [](const std::string& body) {
    return function(body + "\n .La: ret") +
           ".section .text.g,\"ax\"\n.type g,@function\ng: lea .LT(%rip),%rax\n ret\n.size g,.-g\n"
           ".section .rodata.t,\"a\"\n.LT: .quad .La\n";
  };
  EXPECT_TRUE(compared(text("incl %eax"), text("decl %eax")).refuses("label-address"));
}

// Claim: code that stays and hands out an address inside changed code is refused; arithmetic beside
// the function is not.
TEST(State, LabelAddressInCode) {
  auto text = [](const std::string& place, const std::string& body) {
    return function(body + "\n .La: ret") + ".section .text.g,\"ax\"\n.type g,@function\ng: lea " +
           place + "(%rip),%rax\n ret\n.size g,.-g\n";
  };
  EXPECT_TRUE(
      compared(text(".La", "incl %eax"), text(".La", "decl %eax")).refuses("label-address"));
  EXPECT_TRUE(compared(text("f-1", "incl %eax"), text("f-1", "decl %eax")).report.clean());
}

// Claim: a difference that the diff did not account for is found by the check.
TEST(Explained, ChangedFunctionNotIncluded) {
  Found found = compared(function("movl $1,%eax\n ret"), function("movl $1,%eax\n ret"));
  ASSERT_TRUE(found.report.clean());
  found.diff.patched.atoms[0].bytes[1] = std::byte{2};
  Report report;
  check_explained(found.diff, report);
  ASSERT_FALSE(report.clean());
  EXPECT_EQ(report.refusals()[0].id, "diff-unexplained");
}

// Claim: a reference that leads elsewhere is found by the check.
TEST(Explained, ReferenceChanged) {
  Found found = compared(function("call g\n ret"), function("call g\n ret"));
  found.diff.patched.atoms[0].refs[0].addend += 8;
  Report report;
  check_explained(found.diff, report);
  EXPECT_FALSE(report.clean());
}

// Claim: a changed variable that nothing names is found by the check.
TEST(Explained, VariableChanged) {
  Found found = compared(variable("v", "1"), variable("v", "1"));
  found.diff.patched.atoms[0].bytes[0] = std::byte{9};
  Report report;
  check_explained(found.diff, report);
  EXPECT_FALSE(report.clean());
}

// Claim: what was left out of the included atoms is found by the check.
TEST(Explained, InclusionForgotten) {
  Found found = compared(function("ret"), function("movl $1,%eax\n ret"));
  found.diff.included.clear();
  Report report;
  check_explained(found.diff, report);
  EXPECT_FALSE(report.clean());
}

}  // namespace
}  // namespace qp::objdiff
