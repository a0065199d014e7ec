#include <stdio.h>
#include <stdlib.h>

static int base;
volatile int bias;

__attribute__((noinline)) int get(void) {
  return base + bias;
}

void probe(const char* request) {
  (void)request;
  printf("%d", get());
}
