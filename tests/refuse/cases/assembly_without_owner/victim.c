// Refusal: file-scope-asm
#include <stdio.h>

__asm__(
    ".pushsection .data.numbers,\"aw\",@progbits\n"
    ".long 1\n"
    ".popsection\n");

__attribute__((noinline)) int value(void) {
  return 1;
}

void probe(const char* request) {
  (void)request;
  printf("%d", value());
}
