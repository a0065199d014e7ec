#include <stdio.h>
#include <stdlib.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int keep(int x) {
  return x + 1;
}

__attribute__((noinline)) int change(int x) {
  return x + 2 + bias;
}

__attribute__((noinline)) int run(volatile int which) {
  return which == 0 ? keep(1) : which == 1 ? change(1) : -1;
}

void probe(const char* request) {
  printf("%d", run(atoi(request)));
}
