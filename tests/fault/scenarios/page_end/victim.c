#include <stdio.h>

volatile int bias;

// Two bytes of it are on one page, the others on the next.
__attribute__((noinline, section(".two"))) int two(int x) {
  return x + 20 + bias;
}

// One byte of it is on one page.
__attribute__((noinline, section(".one"))) int one(int x) {
  return x + 10 + bias;
}

void probe(const char* request) {
  printf("%d", request[0] == '1' ? one(1) : two(2));
}
