// A jmp_buf that leads into value(), and nothing else does: glibc has mangled the address.
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

static jmp_buf kept;

__attribute__((noinline)) int value(int x) {
  if (setjmp(kept) != 0) {
    return 0;
  }
  return x + 1;
}

void start(void) {
  value(1);
}

void probe(const char* request) {
  if (strcmp(request, "forget") == 0) {
    memset(kept, 0, sizeof kept);
  }
  printf("forgotten");
}
