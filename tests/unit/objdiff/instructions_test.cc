// Instructions of every encoding that the assembler knows: an instruction is equal to itself wherever
// it lies, and another operand, opcode or prefix is a change. What a decoder leaves out (a register
// in an immediate, a bit of a prefix) would make two instructions one.

#include <gtest/gtest.h>

#include "assembled.h"
#include "objdiff/diff.h"

namespace qp::objdiff {
namespace {

std::string unit(const std::string& code) {
  return ".section .text.f,\"ax\",@progbits\n.globl f\n.type f,@function\nf: " + code +
         "\n ret\n.size f,.-f\n"
         ".section .bss.one,\"aw\",@nobits\n.type one,@object\n.size one,64\none: .zero 64\n";
}

struct Found {
  Report report;
  Diff diff;
};

Found compared(const std::string& original, const std::string& patched) {
  Found out;
  elf::AtomGraph a = split_text(original, out.report), b = split_text(patched, out.report);
  out.diff = diff(std::move(a), std::move(b), out.report);
  return out;
}

bool changes(const Found& found) {
  return found.diff.units.size() == 1 && found.diff.units[0].fate == Fate::Changed;
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
    {"Mmx", "paddb %mm1,%mm2", "paddb %mm1,%mm3"},
    {"ThreeDNow", "pfadd %mm1,%mm2", "pfsub %mm1,%mm2"},
    {"Sse42String", "pcmpestri $12,%xmm1,%xmm2", "pcmpestri $13,%xmm1,%xmm2"},
    {"Crc32", "crc32b %al,%ecx", "crc32w %ax,%ecx"},
    {"Movbe", "movbe (%rax),%ecx", "movbe (%rbx),%ecx"},
    {"Sha", "sha1rnds4 $1,%xmm1,%xmm2", "sha1rnds4 $2,%xmm1,%xmm2"},
    {"Pclmul", "pclmulqdq $1,%xmm1,%xmm2", "pclmulqdq $16,%xmm1,%xmm2"},
    {"RegisterInImmediate", "vblendvps %ymm1,%ymm2,%ymm3,%ymm4",
     "vblendvps %ymm5,%ymm2,%ymm3,%ymm4"},
    {"Fma4", "vfmaddps %xmm1,%xmm2,%xmm3,%xmm4", "vfmaddps %xmm7,%xmm2,%xmm3,%xmm4"},
    {"Xop", "vprotb %xmm1,%xmm2,%xmm3", "vprotb %xmm1,%xmm5,%xmm3"},
    {"XopFour", "vpperm %xmm1,%xmm2,%xmm3,%xmm4", "vpperm %xmm8,%xmm2,%xmm3,%xmm4"},
    {"Tbm", "bextr $0x504,%eax,%ecx", "bextr $0x505,%eax,%ecx"},
    {"Lwp", "lwpins $7,%eax,%rcx", "lwpins $8,%eax,%rcx"},
    {"F16c", "vcvtps2ph $1,%xmm1,%xmm2", "vcvtps2ph $2,%xmm1,%xmm2"},
    {"AvxVnni", "{vex} vpdpbusd %ymm1,%ymm2,%ymm3", "{vex} vpdpbusd %ymm1,%ymm2,%ymm4"},
    {"AvxHighBase", "vmovaps (%r13,%r12,2),%ymm9", "vmovaps (%r13,%r12,4),%ymm9"},
    {"Avx512Vl", "vpternlogq $17,%xmm1,%xmm2,%xmm3", "vpternlogq $18,%xmm1,%xmm2,%xmm3"},
    {"Avx512Bw", "vpshufb %zmm1,%zmm2,%zmm3{%k2}", "vpshufb %zmm1,%zmm2,%zmm3{%k3}"},
    {"Avx512Dq", "vrangepd $3,%zmm1,%zmm2,%zmm3", "vrangepd $4,%zmm1,%zmm2,%zmm3"},
    {"Avx512Gather", "vgatherdps (%rax,%zmm17,4),%zmm2{%k1}",
     "vgatherdps (%rax,%zmm1,4),%zmm2{%k1}"},
    {"Avx512Scatter", "vpscatterqq %zmm2,64(%rax,%zmm3,8){%k1}",
     "vpscatterqq %zmm2,128(%rax,%zmm3,8){%k1}"},
    {"Avx512Er", "vrcp28ps %zmm1,%zmm2", "vrsqrt28ps %zmm1,%zmm2"},
    {"Avx512Pf", "vgatherpf0dps (%rax,%zmm2,4){%k1}", "vgatherpf1dps (%rax,%zmm2,4){%k1}"},
    {"Avx512Fmaps", "v4fmaddps (%rax),%zmm4,%zmm1", "v4fnmaddps (%rax),%zmm4,%zmm1"},
    {"Avx512Ifma", "vpmadd52luq %zmm1,%zmm2,%zmm3", "vpmadd52huq %zmm1,%zmm2,%zmm3"},
    {"Avx512Vbmi", "vpermb %zmm1,%zmm2,%zmm3", "vpermw %zmm1,%zmm2,%zmm3"},
    {"Avx512Bitalg", "vpopcntb %zmm1,%zmm2", "vpopcntw %zmm1,%zmm2"},
    {"Avx512Bf16", "vdpbf16ps %zmm1,%zmm2,%zmm3", "vdpbf16ps %zmm1,%zmm2,%zmm4"},
    {"Avx512Intersect", "vp2intersectd %zmm1,%zmm2,%k2", "vp2intersectd %zmm1,%zmm2,%k4"},
    {"Avx512Compare", "vcmpps $1,{sae},%zmm1,%zmm2,%k1", "vcmpps $1,%zmm1,%zmm2,%k1"},
    {"Avx512Fp16Complex", "vfmulcph %zmm1,%zmm2,%zmm3", "vfcmulcph %zmm1,%zmm2,%zmm3"},
    {"Avx512Scalar", "vaddss {ru-sae},%xmm1,%xmm2,%xmm3", "vaddss {rd-sae},%xmm1,%xmm2,%xmm3"},
    {"Opmask", "kaddq %k1,%k2,%k3", "kaddd %k1,%k2,%k3"},
    {"OpmaskShift", "kshiftlq $3,%k1,%k2", "kshiftlq $4,%k1,%k2"},
    {"Gfni", "vgf2p8affineqb $1,%zmm1,%zmm2,%zmm3", "vgf2p8affineqb $2,%zmm1,%zmm2,%zmm3"},
    {"Vpclmul", "vpclmulqdq $1,%zmm1,%zmm2,%zmm3", "vpclmulqdq $0,%zmm1,%zmm2,%zmm3"},
    {"AmxBf16", "tdpbf16ps %tmm1,%tmm2,%tmm3", "tdpbf16ps %tmm5,%tmm2,%tmm3"},
    {"AmxConfiguration", "ldtilecfg (%rax)", "sttilecfg (%rax)"},
    {"AmxZero", "tilezero %tmm3", "tilezero %tmm4"},
    {"Cmov", "cmovne %eax,%ecx", "cmove %eax,%ecx"},
    {"Cmpxchg16b", "lock cmpxchg16b (%rdi)", "lock cmpxchg8b (%rdi)"},
    {"Adx", "adcx %rax,%rcx", "adox %rax,%rcx"},
    {"Bmi1", "blsr %rax,%rcx", "blsmsk %rax,%rcx"},
    {"Rorx", "rorx $3,%rax,%rcx", "rorx $4,%rax,%rcx"},
    {"DoubleShift", "shld $3,%rax,%rcx", "shld $4,%rax,%rcx"},
    {"Tsx", "xbegin 1f\n 1: xend", "xbegin 2f\n 2: xtest"},
    {"ShadowStack", "rdsspq %rax", "rdsspd %eax"},
    {"ShadowStackWrite", "wrssq %rax,(%rcx)", "wrussq %rax,(%rcx)"},
    {"NoTrack", "notrack jmp *%rax", "jmp *%rax"},
    {"Bound", "bnd ret", "ret"},
    {"Keylocker", "aesenc128kl (%rax),%xmm1", "aesdec128kl (%rax),%xmm1"},
    {"MoveDirect", "movdir64b (%rax),%rcx", "movdir64b (%rbx),%rcx"},
    {"Enqueue", "enqcmd (%rax),%rcx", "enqcmds (%rax),%rcx"},
    {"Wait", "umwait %eax", "tpause %eax"},
    {"State", "xsavec64 (%rax)", "xsaves64 (%rax)"},
    {"Demote", "cldemote (%rax)", "cldemote 64(%rax)"},
    {"Prefetch", "prefetcht0 (%rax)", "prefetcht1 (%rax)"},
    {"PrefetchWrite", "prefetchw (%rax)", "prefetch (%rax)"},
    {"FsBase", "rdfsbase %rax", "rdgsbase %rax"},
    {"UserInterrupt", "senduipi %rax", "senduipi %rcx"},
    {"System", "syscall", "sysenter"},
    {"Loop", "1: loop 1b", "1: loope 1b"},
    {"ShortCount", "1: jecxz 1b", "1: jrcxz 1b"},
    {"AddressSize", "mov (%eax),%ecx", "mov (%rax),%ecx"},
    {"OperandSize", "mov %ax,(%rcx)", "mov %eax,(%rcx)"},
    {"HighByte", "mov %ah,%cl", "mov %spl,%cl"},
    {"Absolute64", "movabs 0x1122334455667788,%eax", "movabs 0x1122334455667789,%eax"},
    {"StringSegment", "movsl %fs:(%rsi),%es:(%rdi)", "movsl %gs:(%rsi),%es:(%rdi)"},
    {"PortImmediate", "in $5,%al", "in $6,%al"},
    {"FarReturn", "lretq $8", "lretq $16"},
};

class Instructions : public testing::TestWithParam<Code> {};

// Claim: an instruction of this encoding is equal to itself, and another operand is a change.
TEST_P(Instructions, AreCompared) {
  const Code& c = GetParam();
  // A rip-relative reference behind it shows that its length is known.
  const std::string tail = "\n lea one(%rip),%rax\n jz 1f\n nop\n1: dec %eax";
  Found same = compared(unit(c.original + tail), unit("nopw 8(%rax)\n " + (c.original + tail)));
  EXPECT_FALSE(same.diff.changed());
  EXPECT_TRUE(same.report.clean());
  EXPECT_TRUE(changes(compared(unit(c.original + tail), unit(c.patched + tail))));
}

INSTANTIATE_TEST_SUITE_P(All, Instructions, testing::ValuesIn(kCode),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace qp::objdiff
