#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

// Brings value() over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int value(int x) {
  return x + 1 + bias;
}

#define KILL_FOR(number)                                      \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),          \
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

void start(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      KILL_FOR(SYS_mmap), KILL_FOR(SYS_mprotect), KILL_FOR(SYS_open), KILL_FOR(SYS_openat),
      KILL_FOR(SYS_memfd_create),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  free(malloc(100000));
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    exit(1);
  }
}

void probe(const char* request) {
  (void)request;
  printf("%d", value(1));
}
