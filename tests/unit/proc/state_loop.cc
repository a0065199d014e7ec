// The loop is assembly, since between loading and storing no compiler may touch a register. Offsets
// are those of CpuState (asserted below). It spins with the direction flag set.

#include "state_loop.h"

#include <cstddef>
#include <cstring>

namespace qp::test {

// rdi: from, rsi: to, rdx: spins, rcx: 0 SSE, 1 AVX, 2 AVX-512
extern "C" void qp_spin_with(const CpuState* from, CpuState* to, uint64_t spins, uint64_t level);

asm(R"(
    .text
    .globl qp_spin_with
    .type qp_spin_with, @function
qp_spin_with:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    cmp $1, %rcx
    je 1f
    ja 2f
  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movdqu 64*\n(%rdi), %xmm\n
  .endr
    jmp 3f
1:
  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu 64*\n(%rdi), %ymm\n
  .endr
    jmp 3f
2:
  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovdqu64 64*\n(%rdi), %zmm\n
  .endr
  .irp n, 1,2,3,4,5,6,7
    kmovq 2048+8*\n(%rdi), %k\n
  .endr
3:
  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    mov 2192+8*\n(%rdi), %rax
    mov %rax, -128+8*\n(%rsp)
  .endr
    fninit
    fldcw 2348(%rdi)
    ldmxcsr 2344(%rdi)
    fldl 2320(%rdi)
    fldl 2328(%rdi)
    mov 2112(%rdi), %rbx
    mov 2120(%rdi), %rbp
    mov 2128(%rdi), %r8
    mov 2136(%rdi), %r9
    mov 2144(%rdi), %r10
    mov 2152(%rdi), %r11
    mov 2160(%rdi), %r12
    mov 2168(%rdi), %r13
    mov 2176(%rdi), %r14
    mov 2184(%rdi), %r15
    std
4:  dec %rdx
    jnz 4b
    mov %rsi, %rdx
    lodsb
    cld
    sub %rdx, %rsi
    mov %rsi, 2336(%rdx)
    mov %rdx, %rsi
    mov %rbx, 2112(%rsi)
    mov %rbp, 2120(%rsi)
    mov %r8,  2128(%rsi)
    mov %r9,  2136(%rsi)
    mov %r10, 2144(%rsi)
    mov %r11, 2152(%rsi)
    mov %r12, 2160(%rsi)
    mov %r13, 2168(%rsi)
    mov %r14, 2176(%rsi)
    mov %r15, 2184(%rsi)
    fnstcw 2348(%rsi)
    stmxcsr 2344(%rsi)
    fstpl 2328(%rsi)
    fstpl 2320(%rsi)
    fninit
  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    mov -128+8*\n(%rsp), %rax
    mov %rax, 2192+8*\n(%rsi)
  .endr
    cmp $1, %rcx
    je 1f
    ja 2f
  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movdqu %xmm\n, 64*\n(%rsi)
  .endr
    jmp 3f
1:
  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu %ymm\n, 64*\n(%rsi)
  .endr
    vzeroupper
    jmp 3f
2:
  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovdqu64 %zmm\n, 64*\n(%rsi)
  .endr
  .irp n, 1,2,3,4,5,6,7
    kmovq %k\n, 2048+8*\n(%rsi)
  .endr
    vzeroupper
3:
    movl $0x1f80, -8(%rsp)
    ldmxcsr -8(%rsp)
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .size qp_spin_with, . - qp_spin_with
)");

static_assert(offsetof(CpuState, mask) == 2048 && offsetof(CpuState, general) == 2112 &&
              offsetof(CpuState, red_zone) == 2192 && offsetof(CpuState, x87) == 2320 &&
              offsetof(CpuState, direction) == 2336 && offsetof(CpuState, mxcsr) == 2344 &&
              offsetof(CpuState, x87_control) == 2348);

namespace {

uint64_t level() {
  return __builtin_cpu_supports("avx512bw") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
}

}  // namespace

CpuState some_cpu_state() {
  CpuState out;
  size_t width = size_t{16} << level(), count = level() == 2 ? 32 : 16;
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < width; ++j) {
      out.vector[i][j] = static_cast<uint8_t>(i * 37 + j * 11 + 1);
    }
  }
  for (size_t i = 1; i < 8 && level() == 2; ++i) {
    out.mask[i] = 0x8000'0000'0000'0001u + (i << 20);
  }
  for (size_t i = 0; i < 10; ++i) {
    out.general[i] = 0x1122'3344'5566'7700u + i;
  }
  for (size_t i = 0; i < 16; ++i) {
    out.red_zone[i] = 0xaabb'ccdd'eeff'0000u + i;
  }
  out.x87[0] = 0x3ff0'0000'0000'0001u;
  out.x87[1] = 0x4009'21fb'5444'2d18u;
  out.direction = ~uint64_t{0};  // backwards by one
  out.mxcsr = 0x7f80;            // rounds towards zero
  out.x87_control = 0x0f7f;      // likewise
  return out;
}

CpuState spin_with(const CpuState& state, uint64_t spins) {
  CpuState out;
  qp_spin_with(&state, &out, spins, level());
  return out;
}

bool operator==(const CpuState& a, const CpuState& b) {
  return std::memcmp(&a, &b, offsetof(CpuState, x87_control) + sizeof a.x87_control) == 0;
}

}  // namespace qp::test
