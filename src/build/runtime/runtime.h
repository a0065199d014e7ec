// What the runtime's C files share. They are compiled when qpatch is built, travel inside of it, and
// become a part of each patch that needs them: they run in the patched process, in any thread, in
// signal handlers, with any lock held. So: no libc but the functions declared here, no memory but
// from the kernel, no thread-local storage, no vector registers.
#pragma once

typedef unsigned long word;

enum { kPage = 4096 };

// Linux arch/x86/entry/syscalls/syscall_64.tbl
enum { kWrite = 1, kMap = 9, kUnmap = 11, kSignalMask = 14, kProcessId = 39, kThreadId = 186 };

static inline long call_kernel(long number, word a, word b, word c, word d, word e, word f) {
  long result = number;
  register word r10 __asm__("r10") = d;
  register word r8 __asm__("r8") = e;
  register word r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

// Zeros, or a null pointer.
static inline char* map_memory(word size) {
  enum { kReadWrite = 3, kPrivateAnonymous = 0x22 };
  long at = call_kernel(kMap, 0, size, kReadWrite, kPrivateAnonymous, ~0ul, 0);
  return at < 0 && at >= -4095 ? 0 : (char*)at;
}

static inline void copy_bytes(char* to, const char* from, word size) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

// A handler that runs between two steps here would see half of them.
static inline word block_signals(void) {
  word all = ~0ul, before = 0;
  call_kernel(kSignalMask, 0 /* SIG_BLOCK */, (word)&all, (word)&before, sizeof all, 0, 0);
  return before;
}

static inline void restore_signals(word before) {
  call_kernel(kSignalMask, 2 /* SIG_SETMASK */, (word)&before, 0, sizeof before, 0, 0);
}

// As ld.so does when there is no memory for thread-local data: nobody could be told.
static inline __attribute__((noreturn)) void give_up(const char* why, word length) {
  call_kernel(kWrite, 2, (word)why, length, 0, 0, 0);
  __builtin_trap();
}

// What link writes into the image's GOT for a reference to a new thread-local variable
// (link/layout.h). `block` is one for all variables of the patch; those that it took over from a patch
// whose place it took have that one's, in that one's image.
struct tls_block {
  const char* initial;  // content of the first `initial_size` bytes; the rest is zero
  word initial_size;
  word size;
  word state;  // of those functions that find the block; 0 at first
};
struct tls_index {
  struct tls_block* block;
  word offset;
};

// The variable in the calling thread. What compilers call by the name of __tls_get_addr.
__attribute__((visibility("hidden"))) void* qpatch_tls_get_addr(const struct tls_index* index);
