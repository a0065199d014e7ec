#include <stdio.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int value(int x) {
  return x + 10 + bias;
}

void probe(const char* request) {
  (void)request;
  printf("%d", value(1));
}
