// The function of a TLS descriptor (-mtls-dialect=gnu2) of a new variable. It is called with the
// address of its descriptor in %rax, returns the distance of the variable from the thread pointer
// there, and keeps every other register (Oliva, "Thread-Local Storage Descriptors for IA32 and
// AMD64/EM64T", 2.3). libc's functions, which it needs, may use the vector registers; so these are
// saved as well, as much of them as this processor has.

#include "runtime.h"

static void ask_processor(unsigned leaf, unsigned* a, unsigned* b, unsigned* c, unsigned* d) {
  __asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "0"(leaf), "2"(0));
}

enum { kLegacySize = 512, kHeaderSize = 64 };
// x87, SSE, AVX, and the three of AVX-512 (Intel SDM volume 1, 13.1). No user code may change the
// others here.
enum { kComponents = 0xe7 };

// Bytes that XSAVE writes at most; kLegacySize: there is only FXSAVE.
static unsigned state_size(void) {
  static unsigned known;
  unsigned size = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (size == 0) {
    unsigned a, b, c, d;
    ask_processor(1, &a, &b, &c, &d);
    size = kLegacySize;
    if ((c & (1u << 27)) != 0) {  // OSXSAVE
      ask_processor(0xd, &a, &b, &c, &d);
      size = b;
    }
    __atomic_store_n(&known, size, __ATOMIC_RELAXED);
  }
  return size;
}

// Called by the function below only.
__attribute__((force_align_arg_pointer, visibility("hidden"))) word qpatch_tls_distance(
    const struct tls_index* index) {
  const unsigned size = state_size();
  char* area = __builtin_alloca_with_align(size + kHeaderSize, 64 * 8);
  word thread_pointer;
  if (size == kLegacySize) {
    __asm__ volatile("fxsaveq (%0)" : : "r"(area) : "memory");
  } else {
    for (word i = 0; i < kHeaderSize / sizeof(word); ++i) {
      ((volatile word*)(area + kLegacySize))[i] = 0;
    }
    __asm__ volatile("xsaveq (%0)" : : "r"(area), "a"(kComponents), "d"(0) : "memory");
  }
  const word address = (word)qpatch_tls_get_addr(index);
  if (size == kLegacySize) {
    __asm__ volatile("fxrstorq (%0)" : : "r"(area) : "memory");
  } else {
    __asm__ volatile("xrstorq (%0)" : : "r"(area), "a"(kComponents), "d"(0) : "memory");
  }
  __asm__("movq %%fs:0, %0" : "=r"(thread_pointer));
  return address - thread_pointer;
}

// How the stack is aligned in front of such a call is up to the compiler: qpatch_tls_distance aligns
// it.
__asm__(
    ".pushsection .text.qpatch_tls_descriptor,\"ax\",@progbits\n"
    ".balign 16\n"
    ".globl qpatch_tls_descriptor\n"
    ".hidden qpatch_tls_descriptor\n"
    ".type qpatch_tls_descriptor, @function\n"
    "qpatch_tls_descriptor:\n"
    ".cfi_startproc\n"
    "endbr64\n"
    "pushq %rdi\n.cfi_adjust_cfa_offset 8\n"
    "pushq %rsi\n.cfi_adjust_cfa_offset 8\n"
    "pushq %rdx\n.cfi_adjust_cfa_offset 8\n"
    "pushq %rcx\n.cfi_adjust_cfa_offset 8\n"
    "pushq %r8\n.cfi_adjust_cfa_offset 8\n"
    "pushq %r9\n.cfi_adjust_cfa_offset 8\n"
    "pushq %r10\n.cfi_adjust_cfa_offset 8\n"
    "pushq %r11\n.cfi_adjust_cfa_offset 8\n"
    "leaq 8(%rax), %rdi\n"
    "callq qpatch_tls_distance\n"
    "popq %r11\n.cfi_adjust_cfa_offset -8\n"
    "popq %r10\n.cfi_adjust_cfa_offset -8\n"
    "popq %r9\n.cfi_adjust_cfa_offset -8\n"
    "popq %r8\n.cfi_adjust_cfa_offset -8\n"
    "popq %rcx\n.cfi_adjust_cfa_offset -8\n"
    "popq %rdx\n.cfi_adjust_cfa_offset -8\n"
    "popq %rsi\n.cfi_adjust_cfa_offset -8\n"
    "popq %rdi\n.cfi_adjust_cfa_offset -8\n"
    "retq\n"
    ".cfi_endproc\n"
    ".size qpatch_tls_descriptor, . - qpatch_tls_descriptor\n"
    ".popsection\n");
