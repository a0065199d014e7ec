#include <stdio.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int has_parent(void) {
  return bias;
}

void probe(const char* request) {
  (void)request;
  printf("%d", has_parent());
}
