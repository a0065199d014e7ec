// The rewritten instructions that no compiler can be made to emit at will: written in assembly.
#include "match/relax.h"

#include <gtest/gtest.h>

#include "match/proof.h"
#include "programs.h"

namespace qp::match {
namespace {

const char* const kLoads = R"(
  .text
  .globl f
  .type f, @function
f:
  movq variable@GOTPCREL(%rip), %rax
  movq variable@GOTPCREL(%rip), %r15
  testq %rcx, variable@GOTPCREL(%rip)
  addq variable@GOTPCREL(%rip), %r9
  adcq variable@GOTPCREL(%rip), %rdx
  andq variable@GOTPCREL(%rip), %rdx
  cmpq variable@GOTPCREL(%rip), %r12
  orq  variable@GOTPCREL(%rip), %rdx
  sbbq variable@GOTPCREL(%rip), %rsp
  subq variable@GOTPCREL(%rip), %rdx
  xorq variable@GOTPCREL(%rip), %rsi
  pushq variable@GOTPCREL(%rip)
  cmpq $0, variable@GOTPCREL(%rip)
  call *callee@GOTPCREL(%rip)
  movq thread@gottpoff(%rip), %rax
  movq thread@gottpoff(%rip), %r14
  addq thread@gottpoff(%rip), %rbx
  addq thread@gottpoff(%rip), %r12
  addq thread@gottpoff(%rip), %rsp
  movl $variable, variable(%rip)
  movb $1, variable+3(%rip)
  jmp *callee@GOTPCREL(%rip)
  .size f, .-f
  .section .note.GNU-stack,"",@progbits
)";

std::map<std::string, std::string> program_sources() {
  return {{"f.S", kLoads},
          {"main.c",
           "int variable = 3; __thread int thread = 4, more; void callee(void) {} "
           "void f(void); int main(void) { f(); return more; }"}};
}

class Relaxations : public testing::TestWithParam<const char*> {};

// Claim: all instructions that may be rewritten are recognised, and solve the same three symbols.
TEST_P(Relaxations, AreRecognised) {
  const Program program(program_sources(), {"gcc-12", {"-fno-pie"}, {"-no-pie"}, GetParam()});
  const elf::AtomGraph graph = program.original("f.S");
  const Proof proof = prove(graph, function(graph, "f"), *program.truth("f"), program.target());
  ASSERT_TRUE(proof.proven) << proof.difference->at << " " << proof.difference->what;
  size_t found = 0;
  for (const Solution& s : proof.solutions) {
    const std::string& name = graph.symbols[s.symbol].name;
    ++found;
    if (name == "thread") {
      EXPECT_EQ(s.binding.tp_offset,
                static_cast<int64_t>(program.truth(name)->value) + *program.file().tls_block_end());
    } else {
      EXPECT_EQ(s.binding.address, *program.truth(name)) << name;
    }
  }
  EXPECT_EQ(found, 4u);
}

// Claim: a rewritten instruction with any other bit is not proven.
TEST_P(Relaxations, AreStrict) {
  const Program program(program_sources(), {"gcc-12", {"-fno-pie"}, {"-no-pie"}, GetParam()});
  const elf::AtomGraph graph = program.original("f.S");
  const elf::AtomId id = function(graph, "f");
  const LinkAddr start = *program.truth("f");
  const uint64_t size = prove(graph, id, start, program.target()).target_size;
  ASSERT_GT(size, 100u);
  ChangedReader changed(program.memory());
  const Target target{changed, program.symbols(), program.file().tls_block_end()};
  int moves = 0;
  for (uint64_t at = 0; at < size; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      changed.clear();
      changed.change(start + at, static_cast<uint8_t>(1 << bit));
      const Proof proof = prove(graph, id, start, target);
      // `mov $f,%r` without REX.W has the same effect for the positive address of f.
      Bytes code(3);
      program.memory().read_some(start + at, code);
      if (bit == 3 && (code[0] == std::byte{0x48} || code[0] == std::byte{0x49}) &&
          code[1] == std::byte{0xc7} && code[2] != std::byte{0xc4}) {
        moves += proof.proven ? 1 : 0;
        continue;
      }
      EXPECT_FALSE(proof.proven) << "byte " << at << " bit " << bit;
    }
  }
  EXPECT_LE(moves, 2);  // the two loads of the variable's address
}

INSTANTIATE_TEST_SUITE_P(Linkers, Relaxations, testing::Values("bfd", "gold", "lld"));

}  // namespace
}  // namespace qp::match
