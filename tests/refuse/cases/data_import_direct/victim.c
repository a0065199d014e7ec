// Refusal: reloc-unsupported
#include <stdio.h>

volatile int bias;

__attribute__((noinline)) int number_of_stderr(void) {
  return bias;
}

void probe(const char* request) {
  (void)request;
  printf("%d", number_of_stderr());
}
